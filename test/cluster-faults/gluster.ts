/**
 * A shared file system for hosts of a test network: one GlusterFS brick, mounted
 * through FUSE once per host, with that host's network. Volume files are written
 * by hand: the management daemon is not needed for one brick.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { programPath, type RunningProgram, startProgram, waitFor } from '../support/process.ts';
import type { Host } from './network.ts';

const run = promisify(execFile);
const port = 24_010;
/** After so long without an answer a client gives up what it was waiting for; 42 s in the field. */
const pingTimeoutSeconds = 5;

export class Gluster {
  readonly #dir: string;
  readonly #server: Host;
  readonly #mounts: string[] = [];
  #brick: RunningProgram | undefined;
  readonly #clients: RunningProgram[] = [];

  constructor(dir: string, server: Host) {
    this.#dir = dir;
    this.#server = server;
  }

  async open(): Promise<void> {
    const data = path.join(this.#dir, 'brick');
    await mkdir(data, { recursive: true });
    const file = path.join(this.#dir, 'brick.vol');
    await writeFile(
      file,
      volumes([
        ['posix', 'storage/posix', { directory: data }],
        ['locks', 'features/locks', {}],
        ['brick', 'performance/io-threads', { 'thread-count': '8' }],
        [
          'server',
          'protocol/server',
          {
            'transport-type': 'tcp',
            'transport.address-family': 'inet',
            'transport.socket.listen-port': String(port),
            'auth.addr.brick.allow': '*',
          },
        ],
      ]),
    );
    this.#brick = this.#start(this.#server, 'glusterfsd', ['-N', '-f', file], 'brick.log');
  }

  /** @returns Where the host sees the file system. */
  async mount(host: Host): Promise<string> {
    const file = path.join(this.#dir, `${host.name}.vol`);
    await writeFile(
      file,
      volumes([
        [
          'client',
          'protocol/client',
          {
            'transport-type': 'tcp',
            'remote-host': this.#server.address,
            'remote-port': String(port),
            'remote-subvolume': 'brick',
            'ping-timeout': String(pingTimeoutSeconds),
          },
        ],
        // As a volume has them unless somebody turns them off.
        ['behind', 'performance/write-behind', {}],
        ['attributes', 'performance/md-cache', {}],
      ]),
    );
    const place = path.join(this.#dir, `at-${host.name}`);
    await mkdir(place, { recursive: true });
    this.#clients.push(this.#start(host, 'glusterfs', ['-N', '-f', file, place], `${host.name}.log`));
    this.#mounts.push(place);
    await waitFor('the file system to be mounted', async () =>
      (await readFile('/proc/self/mounts', 'utf8')).includes(` ${place} fuse.glusterfs `),
    );
    await waitFor('the file system to answer', async () => {
      await writeFile(path.join(place, `.${host.name}`), 'here');
      return true;
    });
    return place;
  }

  async close(): Promise<void> {
    for (const place of this.#mounts) await run('umount', ['-l', place]).catch(() => {});
    for (const client of this.#clients) await client.kill('SIGKILL');
    await this.#brick?.kill('SIGKILL');
  }

  #start(host: Host, program: string, args: readonly string[], log: string): RunningProgram {
    const [command, ...before] = host.exec;
    return startProgram(command!, [
      ...before,
      programPath(program),
      ...args,
      '-l',
      path.join(this.#dir, log),
    ]);
  }
}

function volumes(
  list: readonly (readonly [name: string, type: string, options: Record<string, string>])[],
): string {
  return list
    .map(([name, type, options], index) =>
      [
        `volume ${name}`,
        `  type ${type}`,
        ...Object.entries(options).map(([key, value]) => `  option ${key} ${value}`),
        ...(index === 0 ? [] : [`  subvolumes ${list[index - 1]![0]}`]),
        'end-volume',
        '',
      ].join('\n'),
    )
    .join('\n');
}
