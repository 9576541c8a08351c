/**
 * A real clamd on loopback with a database of its own: one signature, for the
 * EICAR test file, so that it is up in moments and no download is needed.
 */
import { writeFile } from 'node:fs/promises';
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

/** The EICAR test file (68 bytes), put together here so that no scanner objects to this source. */
export const eicar = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}', '$EICAR-STANDARD-', 'ANTIVIRUS-TEST-FILE!$H+H*'].join(
  '',
);

export interface Clamd {
  readonly port: number;
  readonly socketPath: string;
  readonly pid: number;
  /** `kill -9`; `start` brings it back on the same port. */
  kill(): Promise<void>;
  /** Starts it again on the same port, when it does not run. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** @param options.streamBytesMax  clamd's StreamMaxLength. Default 25 MiB. */
export async function startClamd(options: { streamBytesMax?: number; port?: number } = {}): Promise<Clamd> {
  const dir = await temporaryDir('clamd');
  const port = options.port ?? (await freePorts(1))[0]!;
  const socketPath = path.join(dir.path, 'clamd.sock');
  const hex = Buffer.from(eicar, 'latin1').toString('hex');
  // name : any file type : any offset : bytes
  await writeFile(path.join(dir.path, 'test.ndb'), `Eicar-Test-Signature:0:*:${hex}\n`);
  const config = path.join(dir.path, 'clamd.conf');
  await writeFile(
    config,
    [
      'Foreground yes',
      `DatabaseDirectory ${dir.path}`,
      'TCPAddr 127.0.0.1',
      `TCPSocket ${port}`,
      `LocalSocket ${socketPath}`,
      'FixStaleSocket yes',
      `LogFile ${path.join(dir.path, 'clamd.log')}`,
      'MaxThreads 4',
      'SelfCheck 0',
      'Bytecode no',
      'ScanMail yes',
      `StreamMaxLength ${options.streamBytesMax ?? 25 * 1024 * 1024}`,
      '',
    ].join('\n'),
  );
  const clamd = programPath('clamd');
  const start = async (): Promise<RunningProgram> => {
    const program = startProgram(clamd, [`--config-file=${config}`, '--foreground']);
    try {
      await waitFor(`clamd on port ${port}`, () => answers(port, 'zPING\0', /^PONG/));
    } catch (error) {
      await program.stop();
      throw new Error(`${(error as Error).message}\n${program.output()}`);
    }
    return program;
  };
  let running = await start();
  return {
    port,
    socketPath,
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
