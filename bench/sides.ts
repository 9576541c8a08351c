/** What a compared work is, and the two sides it is measured on. */
import { Fault } from '../base/fault.ts';
import type { Mark } from './figures.ts';
import { type PeerName, type Peers, peerPort, runLoad } from './peers.ts';
import type { PosternUnderTest } from './postern.ts';

export interface Side {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly tls?: boolean;
  /** Root of the server's process tree. */
  readonly pid?: string;
  readonly extra?: string;
}

export interface Measure {
  readonly work: string;
  readonly unit: string;
  readonly peer: string;
  readonly mark?: Mark;
  /** Peers that must be up. */
  readonly peers: readonly PeerName[];
  /** Before the first round: what has to be there on both sides. */
  prepare?(bench: Bench): Promise<void>;
  /** One round; `seconds` is how long a timed load may run. */
  ours(bench: Bench): Promise<number>;
  theirs?(bench: Bench): Promise<number>;
}

export interface Bench {
  readonly postern: PosternUnderTest;
  readonly peers: Peers;
  readonly seconds: number;
  /** Messages of one SMTP round. */
  readonly messages: number;
  /** Idle sessions held at once. */
  readonly idleSessions: number;
  /** Show what the generator printed. */
  readonly lines: boolean;
}

export type Line = Record<string, number | string>;

/** Runs one `bench.sh` measure against a side and returns its JSON line. */
export async function load(
  bench: Bench,
  measure: string,
  side: Side,
  env: Record<string, string> = {},
): Promise<Line> {
  const done = await runLoad('bench.sh', [measure, side.host, String(side.port), side.user, 'pass'], {
    TLS: side.tls ? '1' : '0',
    SECS: String(bench.seconds),
    SRVPID: side.pid ?? '0',
    EXTRA: side.extra ?? '',
    ...env,
  });
  const line = lastJson(done.stdout);
  if (!line)
    throw new Fault(
      'unavailable',
      `${measure} against port ${side.port} printed nothing: ${done.stderr.slice(-300)}`,
    );
  if (bench.lines) console.log(`  ${JSON.stringify(line)}`);
  if (Number(line.errors ?? 0) > 0)
    throw new Fault('unavailable', `${measure} against port ${side.port}: ${JSON.stringify(line)}`);
  return line;
}

export function lastJson(text: string): Line | undefined {
  const line = text.trim().split('\n').pop() ?? '';
  try {
    return JSON.parse(line) as Line;
  } catch {
    return undefined;
  }
}

export const numberIn = (line: Line, key: string): number => Number(line[key] ?? Number.NaN);

export const dovecot = (bench: Bench, tls = false): Side => ({
  host: '127.0.0.1',
  port: peerPort(tls ? 993 : 143),
  user: 'u%d',
  tls,
  pid: bench.peers.pidOf('dovecot'),
});
export const postern = (bench: Bench, tls = false): Side => ({
  host: '127.0.0.1',
  port: tls ? bench.postern.ports.imaps : bench.postern.ports.imap,
  user: 'u%d@example.test',
  tls,
  pid: String(bench.postern.pid),
});
export const first = (side: Side): Side => ({ ...side, user: side.user.replace('%d', '1') });
