/**
 * A real spamd on loopback: local tests only, a site configuration of its own
 * with few plugins, so that it starts quickly and asks nobody on the network.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  answers,
  freePorts,
  programPath,
  type RunningProgram,
  startProgram,
  temporaryDir,
  waitFor,
} from './process.ts';

/** The generic test for unsolicited bulk email: every SpamAssassin gives it 1000 points. */
export const gtube = ['XJS*C4JDBQADN1.NSBN3*2IDNEN', 'GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL', 'C.34X'].join('*');

export interface Spamd {
  readonly port: number;
  readonly pid: number;
  kill(): Promise<void>;
  /** Starts it again on the same port, when it does not run. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export async function startSpamd(options: { port?: number } = {}): Promise<Spamd> {
  const dir = await temporaryDir('spamd');
  await chmod(dir.path, 0o755); // spamd leaves root behind and still has to read here
  const port = options.port ?? (await freePorts(1))[0]!;
  const site = path.join(dir.path, 'site');
  const home = path.join(dir.path, 'home');
  await mkdir(site);
  await mkdir(home);
  await chmod(home, 0o777);
  await writeFile(
    path.join(site, 'init.pre'),
    ['Check', 'HTMLEval', 'HeaderEval', 'BodyEval', 'MIMEEval', 'WLBLEval', 'MIMEHeader', 'RelayEval']
      .map((name) => `loadplugin Mail::SpamAssassin::Plugin::${name}\n`)
      .join(''),
  );
  await writeFile(
    path.join(site, 'local.cf'),
    'required_score 5\nuse_bayes 0\nskip_rbl_checks 1\ndns_available no\n',
  );
  const spamd = programPath('spamd');
  const start = async (): Promise<RunningProgram> => {
    const program = startProgram(
      spamd,
      [
        '--local',
        '--nouser-config',
        `--siteconfigpath=${site}`,
        `--helper-home-dir=${home}`,
        `--listen=127.0.0.1:${port}`,
        '--allowed-ips=127.0.0.1',
        '--min-children=1',
        '--max-children=3',
        '--min-spare=1',
        '--max-spare=2',
        `--pidfile=${path.join(home, 'spamd.pid')}`,
        '--syslog=stderr',
      ],
      { group: true },
    );
    try {
      await waitFor(`spamd on port ${port}`, () => answers(port, 'PING SPAMC/1.5\r\n\r\n', /PONG/), 30_000);
    } catch (error) {
      await program.stop();
      throw new Error(`${(error as Error).message}\n${program.output()}`);
    }
    return program;
  };
  let running = await start();
  return {
    port,
    get pid() {
      return running.pid;
    },
    kill: () => running.kill('SIGKILL'),
    async start() {
      await running.stop();
      running = await start();
    },
    async stop() {
      await running.stop();
      await dir.remove();
    },
  };
}
