/** dnsmasq on a loopback port: a name server that knows what a test tells it, and that nothing else exists. */

import { Resolver } from 'node:dns/promises';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { freePorts, programPath, startProgram, temporaryDir, waitFor } from './process.ts';

export interface NameServer {
  /** `127.0.0.1:5353` */
  readonly address: string;
  /** Stands still, and goes on. */
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

/**
 * @param records  `a:name=address`, `txt:name=text`, `mx:name=host`.
 */
export async function startNameServer(records: readonly string[]): Promise<NameServer> {
  const dir = await temporaryDir('dnsmasq');
  const [port] = await freePorts(1);
  const lines = records.map((record) => {
    const read = /^(a|txt|mx):([^=]+)=(.*)$/s.exec(record);
    if (read === null) throw new Error(`not a record: ${record}`);
    const [, kind, name, value = ''] = read;
    // Texts of more than 255 bytes come as several strings (RFC 1035 3.3.14).
    if (kind === 'txt')
      return `txt-record=${name},${(value.match(/.{1,200}/gs) ?? []).map((piece) => `"${piece.replaceAll('"', '\\"')}"`).join(',')}`;
    return kind === 'mx' ? `mx-host=${name},${value},10` : `host-record=${name},${value}`;
  });
  const file = path.join(dir.path, 'dnsmasq.conf');
  const own = [
    `port=${port}`,
    'listen-address=127.0.0.1',
    'bind-interfaces',
    'no-resolv',
    'no-hosts',
    'no-poll',
    'local=//',
    'user=root',
    'local-ttl=60',
    'host-record=ready.test,127.0.0.1',
  ];
  await writeFile(file, `${[...own, ...lines].join('\n')}\n`);
  const program = startProgram(programPath('dnsmasq'), [
    '--keep-in-foreground',
    '--log-facility=-',
    `--conf-file=${file}`,
    `--pid-file=${path.join(dir.path, 'pid')}`,
  ]);
  const address = `127.0.0.1:${port}`;
  const resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([address]);
  const stop = async (): Promise<void> => {
    program.child.kill('SIGCONT');
    await program.stop();
    await dir.remove();
  };
  try {
    await waitFor('dnsmasq', async () => (await resolver.resolve4('ready.test')).length === 1);
  } catch (error) {
    const output = program.output();
    await stop();
    throw new Error(`${(error as Error).message}\n${output}`);
  }
  return {
    address,
    pause: () => program.child.kill('SIGSTOP'),
    resume: () => program.child.kill('SIGCONT'),
    stop,
  };
}
