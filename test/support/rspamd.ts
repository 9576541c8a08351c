/** A real rspamd on loopback: one worker, one rule of a test's own, nobody on the network is asked. */
import { spawnSync } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { freePorts, programPath, startProgram, temporaryDir, waitFor } from './process.ts';

export interface Rspamd {
  readonly url: string;
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

/** A subject with "junk" in it scores 7, past the mark of 6 for a header; 15 refuse. */
export async function startRspamd(): Promise<Rspamd> {
  const dir = await temporaryDir('rspamd');
  const [port] = await freePorts(1);
  const place = (name: string): string => path.join(dir.path, name);
  await writeFile(
    place('rules.lua'),
    "rspamd_config.TEST_JUNK = { callback = function(task) return (task:get_subject() or ''):find('junk') ~= nil end, score = 7.0 }\n",
  );
  await writeFile(
    place('rspamd.conf'),
    [
      `options { pidfile = "${place('pid')}"; tempdir = "${dir.path}"; filters = ""; dns { timeout = 0.2s; retransmits = 1; nameserver = ["127.0.0.1:1"]; } }`,
      'logging { type = "console"; level = "info"; }',
      `worker "normal" { bind_socket = "127.0.0.1:${port}"; count = 1; task_timeout = 20s; }`,
      'actions { reject = 15; add_header = 6; greylist = 4; }',
      `lua = "${place('rules.lua')}";`,
      '',
    ].join('\n'),
  );
  await chmod(dir.path, 0o755);
  spawnSync('chown', ['-R', '_rspamd', dir.path]);
  const program = startProgram(
    programPath('rspamd'),
    ['-f', '-u', '_rspamd', '-g', '_rspamd', '-c', place('rspamd.conf')],
    { group: true },
  );
  const signal = (name: NodeJS.Signals): void => {
    process.kill(-program.pid, name);
  };
  const stop = async (): Promise<void> => {
    signal('SIGCONT');
    await program.stop();
    await dir.remove();
  };
  const url = `http://127.0.0.1:${port}`;
  try {
    await waitFor('rspamd', async () => (await fetch(`${url}/ping`)).ok, 120_000);
  } catch (error) {
    const output = program.output();
    await stop().catch(() => {});
    throw new Error(`${(error as Error).message}\n${output}`);
  }
  return { url, pause: () => signal('SIGSTOP'), resume: () => signal('SIGCONT'), stop };
}
