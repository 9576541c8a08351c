/**
 * Programs that tests start: each is known by its process id, is stopped by it,
 * and is gone when the test is over, whatever happened.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { aptLine } from './debian.ts';

export interface RunningProgram {
  readonly pid: number;
  readonly child: ChildProcess;
  /** What it wrote so far, both streams, the last 256 KiB. */
  output(): string;
  /** SIGTERM, then SIGKILL after a while; resolves when it is gone. */
  stop(): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<void>;
}

const outputCharsMax = 256 * 1024;

/** Where a program is, `/usr/sbin` included. @throws {Error} that says which Debian packages to install. */
export function programPath(name: string): string {
  const places = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const place of places) {
    const file = path.join(place, name);
    if (place !== '' && existsSync(file)) return file;
  }
  throw new Error(`this test needs the program ${name}; as root: ${aptLine}`);
}

/**
 * @param options.group  Signals go to the program and to all it started: a process group of its own.
 * @param options.stdin  The test writes to it.
 */
export function startProgram(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; group?: boolean; stdin?: boolean } = {},
): RunningProgram {
  const { group = false, stdin = false, ...rest } = options;
  const child = spawn(command, args, {
    stdio: [stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    detached: group,
    ...rest,
  });
  const send = (signal: NodeJS.Signals): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(group ? -child.pid : child.pid, signal);
    } catch {
      // gone already
    }
  };
  let text = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).slice(-outputCharsMax);
    });
  }
  child.on('error', (error) => {
    text += `\n${error.message}\n`;
  });
  const gone = (): boolean => child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    if (gone()) return;
    const exit = once(child, 'exit');
    send(signal);
    await exit;
  };
  return {
    pid: child.pid ?? -1,
    child,
    output: () => text,
    kill,
    async stop() {
      if (gone()) return;
      const timer = setTimeout(() => send('SIGKILL'), 8000);
      await kill('SIGTERM');
      clearTimeout(timer);
    },
  };
}

/** Resolves when `ready` does without throwing and gives something truthy; asks again every 50 ms. */
export async function waitFor<T>(
  what: string,
  ready: () => T | Promise<T>,
  waitMs = 20_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + waitMs;
  let reason = '';
  while (Date.now() < deadline) {
    try {
      const value = await ready();
      if (value) return value;
      reason = '';
    } catch (error) {
      reason = `: ${error instanceof Error ? error.message : error}`;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited ${waitMs} ms for ${what}${reason}`);
}

/** Loopback ports nobody listens on at the moment. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = net.createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** The first of `count` ports in a row that nobody listens on, none of them in `taken`. */
export async function freePortRun(count: number, taken: readonly number[]): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const [first] = await freePorts(1);
    const wanted = Array.from({ length: count }, (_, index) => first! + index);
    if (wanted.some((port) => port > 65_535 || taken.includes(port))) continue;
    const free = await Promise.all(
      wanted.map(async (port) => {
        const server = net.createServer().listen(port, '127.0.0.1');
        const bound = await once(server, 'listening').then(
          () => true,
          () => false,
        );
        server.close();
        return bound;
      }),
    );
    if (free.every(Boolean)) return first!;
  }
  throw new Error(`no ${count} free ports in a row`);
}

/** Does whoever listens there answer `ask` with something like `wanted`, within a second? */
export function answers(port: number, ask: string, wanted: RegExp, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    let text = '';
    const socket = net.connect(port, host, () => socket.write(ask));
    const end = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.setTimeout(1000, () => end(false));
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
    socket.on('data', (chunk) => {
      text = (text + chunk.toString('latin1')).slice(0, 4096);
      if (wanted.test(text)) end(true);
    });
  });
}

export async function temporaryDir(name: string): Promise<{ path: string; remove(): Promise<void> }> {
  const dir = await mkdtemp(path.join(tmpdir(), `postern-${name}-`));
  return { path: dir, remove: () => rm(dir, { recursive: true, force: true, maxRetries: 3 }) };
}
