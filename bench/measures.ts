/**
 * The works that are compared: what each needs, how one round of it is measured
 * on each side, and the mark it has to reach.
 */
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import { type Peers, peerPort, runLoad, runProgram } from './peers.ts';
import { type PosternUnderTest, withSmtpDoor } from './postern.ts';

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
  readonly better: 'higher' | 'lower';
  readonly mark?: number;
  /** Peers that must be up. */
  readonly peers: readonly ('dovecot' | 'postfix' | 'nginx' | 'haraka')[];
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
}

type Line = Record<string, number | string>;

/** Runs one `bench.sh` measure against a side and returns its JSON line. */
async function load(
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
  if (Number(line.errors ?? 0) > 0)
    throw new Fault('unavailable', `${measure} against port ${side.port}: ${JSON.stringify(line)}`);
  return line;
}

function lastJson(text: string): Line | undefined {
  const line = text.trim().split('\n').pop() ?? '';
  try {
    return JSON.parse(line) as Line;
  } catch {
    return undefined;
  }
}

const numberIn = (line: Line, key: string): number => Number(line[key] ?? Number.NaN);

const dovecot = (bench: Bench, tls = false): Side => ({
  host: '127.0.0.1',
  port: peerPort(tls ? 993 : 143),
  user: 'u%d',
  tls,
  pid: bench.peers.pidOf('dovecot'),
});
const postern = (bench: Bench, tls = false): Side => ({
  host: '127.0.0.1',
  port: tls ? bench.postern.ports.imaps : bench.postern.ports.imap,
  user: 'u%d@example.test',
  tls,
  pid: String(bench.postern.pid),
});
const first = (side: Side): Side => ({ ...side, user: side.user.replace('%d', '1') });

async function smtpToMailbox(
  bench: Bench,
  side: { port: number; countCommand: string },
  size: number,
): Promise<number> {
  const done = await runLoad(
    'e2e.sh',
    ['127.0.0.1', String(side.port), '/nowhere', String(bench.messages), '20'],
    {
      SIZE: String(size),
      COUNT_CMD: side.countCommand,
    },
  );
  const line = lastJson(done.stdout);
  if (!line || numberIn(line, 'delivered') < bench.messages) {
    throw new Fault(
      'unavailable',
      `SMTP to port ${side.port} delivered ${line?.delivered} of ${bench.messages}: ${done.stderr.slice(-300)}`,
    );
  }
  return numberIn(line, 'delivered_per_s');
}

const smtp = (label: string, size: number, mark?: number): Measure => ({
  work: `SMTP to mailbox, ${label}`,
  unit: 'messages/s',
  peer: 'Postfix > Dovecot LMTP',
  better: 'higher',
  ...(mark === undefined ? {} : { mark }),
  peers: ['dovecot', 'postfix'],
  ours: (bench) =>
    smtpToMailbox(bench, { port: bench.postern.ports.smtp, countCommand: bench.postern.countCommand }, size),
  theirs: (bench) =>
    smtpToMailbox(
      bench,
      { port: peerPort(2525), countCommand: `find ${bench.peers.mailRoot} -path '*/new/*' -type f | wc -l` },
      size,
    ),
});

/** A cost of a quarter over bare Haraka is the most that is allowed: four fifths of its rate. */
const smtpAlone: Measure = {
  work: 'SMTP accepted, nothing stored',
  unit: 'messages/s',
  peer: 'bare Haraka',
  better: 'higher',
  mark: 0.8,
  peers: ['haraka'],
  ours: (bench) =>
    withSmtpDoor(async (port) => {
      const side = { host: '127.0.0.1', port, user: 'u%d' };
      // Warmed by a run of its own: the peer's process has been compiling since the first round.
      await load(bench, 'smtp4k', side);
      return numberIn(await load(bench, 'smtp4k', side), 'per_s');
    }),
  theirs: async (bench) =>
    numberIn(await load(bench, 'smtp4k', { host: '127.0.0.1', port: peerPort(2526), user: 'u%d' }), 'per_s'),
};

const imapLoad = (
  work: string,
  measure: string,
  key: string,
  unit: string,
  options: { tls?: boolean; mark?: number; better?: 'higher' | 'lower'; one?: boolean; box?: string } = {},
): Measure => ({
  work,
  unit,
  peer: 'Dovecot',
  better: options.better ?? 'higher',
  ...(options.mark === undefined ? {} : { mark: options.mark }),
  peers: ['dovecot'],
  ours: async (bench) =>
    numberIn(
      await load(
        bench,
        measure,
        options.one ? first(postern(bench, options.tls)) : postern(bench, options.tls),
        boxEnv(options.box),
      ),
      key,
    ),
  theirs: async (bench) =>
    numberIn(
      await load(
        bench,
        measure,
        options.one ? first(dovecot(bench, options.tls)) : dovecot(bench, options.tls),
        boxEnv(options.box),
      ),
      key,
    ),
});
const boxEnv = (box: string | undefined): Record<string, string> => (box === undefined ? {} : { BOX: box });

const idle = (tls: boolean, mark?: number): Measure => ({
  work: `an idle session, ${tls ? 'TLS' : 'plain'}`,
  unit: 'KiB',
  peer: 'Dovecot',
  better: 'lower',
  ...(mark === undefined ? {} : { mark }),
  peers: ['dovecot'],
  ours: async (bench) => {
    // A proxy that has run load keeps its heap: a fresh one is measured.
    await bench.postern.restart();
    const line = await load(bench, 'idle', postern(bench, tls), { CONNS: String(bench.idleSessions) });
    return numberIn(line, 'srv_pss_kib_per_conn');
  },
  theirs: async (bench) => {
    const line = await load(bench, 'idle', dovecot(bench, tls), {
      CONNS: String(Math.min(bench.idleSessions, 1000)),
    });
    return numberIn(line, 'srv_pss_kib_per_conn');
  },
});

const deliver: Measure = {
  work: 'store 4 KiB over a link, 1,000 mailboxes',
  unit: 'messages/s',
  peer: 'Dovecot LMTP',
  better: 'higher',
  peers: ['dovecot'],
  ours: async (bench) => {
    const script = path.join(import.meta.dirname, 'deliver-load.ts');
    const done = await runProgram(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      script,
      bench.postern.linkSocket,
      String(bench.messages * 2),
      '20',
      '4096',
      '1000',
      '1001',
      'example.test',
    ]);
    const line = lastJson(done.stdout);
    if (!line || numberIn(line, 'errors') > 0)
      throw new Fault('unavailable', `delivery over the link failed: ${done.stdout} ${done.stderr}`);
    return numberIn(line, 'per_s');
  },
  theirs: async (bench) =>
    numberIn(await load(bench, 'lmtp1000', { host: '127.0.0.1', port: peerPort(24), user: 'u%d' }), 'per_s'),
};

/** The same path as ours, proxy and server: nginx mail in front of Dovecot. */
const noopBesideNginx: Measure = {
  work: 'NOOP, 20 connections, plain, beside a proxy',
  unit: 'commands/s',
  peer: 'nginx mail > Dovecot',
  better: 'higher',
  peers: ['dovecot', 'nginx'],
  ours: async (bench) => numberIn(await load(bench, 'noop20', postern(bench)), 'per_s'),
  theirs: async (bench) =>
    numberIn(await load(bench, 'noop20', { ...dovecot(bench), port: peerPort(146) }), 'per_s'),
};

const pop3Login: Measure = {
  work: 'POP3 login, STAT, QUIT, plain',
  unit: 'logins/s',
  peer: 'Dovecot',
  better: 'higher',
  peers: ['dovecot'],
  ours: async (bench) =>
    numberIn(await load(bench, 'pop3login', { ...postern(bench), port: bench.postern.ports.pop3 }), 'per_s'),
  theirs: async (bench) =>
    numberIn(await load(bench, 'pop3login', { ...dovecot(bench), port: peerPort(110) }), 'per_s'),
};

/** In the order they run. Marks are what the first issue asks for; the full ones stand in docs/internals/performance.md. */
export const measures: readonly Measure[] = [
  imapLoad('IMAP login, select, logout, plain', 'login', 'per_s', 'logins/s', { mark: 4 }),
  imapLoad('IMAP login, select, logout, TLS', 'login', 'per_s', 'logins/s', { tls: true }),
  imapLoad('IMAP login, select, logout, TLS resumed', 'loginr', 'per_s', 'logins/s', { tls: true }),
  pop3Login,
  imapLoad('NOOP, 20 connections, plain', 'noop20', 'per_s', 'commands/s'),
  noopBesideNginx,
  imapLoad('NOOP p50, one connection, TLS', 'noop1', 'p50_ms', 'ms', { tls: true, better: 'lower' }),
  imapLoad('NOOP p99, one connection, TLS', 'noop1', 'p99_ms', 'ms', { tls: true, better: 'lower' }),
  imapLoad('bulk FETCH 1,000 x 10 KiB, plain', 'fetch', 'rx_mb_s', 'MB/s', { one: true, box: 'm1k' }),
  imapLoad('bulk FETCH 1,000 x 10 KiB, TLS', 'fetch', 'rx_mb_s', 'MB/s', {
    tls: true,
    one: true,
    box: 'm1k',
  }),
  deliver,
  smtpAlone,
  smtp('4 KiB', 4096, 1.5),
  smtp('50 KiB', 51_200, 1.5),
  idle(false, 40),
  idle(true),
];
