/**
 * The servers people run today, as private copies on loopback ports: Dovecot,
 * Postfix in front of it, nginx's mail proxy. `load/peers.sh` starts and stops
 * them with all their state in one directory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Fault } from '../base/fault.ts';

const loadDir = path.join(import.meta.dirname, 'load');

/** First port of the peers; what each listens on is an offset from it, see `load/README.md`. */
export const peerPort = (offset: number): number => 20_000 + offset;

/** `nginx-alone`: nginx mail on ports of its own, before a server that says yes to everything. */
export type PeerName = 'dovecot' | 'postfix' | 'nginx' | 'nginx-alone' | 'haraka';

/** First port of the peers that stand before the yes-server; that one listens on it. */
export const aloneBase = 21_000;

export interface ShellResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one of the scripts in `load/`; never rejects because of its exit code. */
export function runLoad(
  script: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<ShellResult> {
  return runProgram('bash', [path.join(loadDir, script), ...args], env);
}

export function runProgram(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<ShellResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on('error', reject);
    // Daemons started by the script keep its pipes open: its exit is what counts.
    child.on('exit', (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

/** Compiles a program of `load/` unless that was done before. @returns its path */
export async function compiled(name: string, libraries: readonly string[] = []): Promise<string> {
  const program = path.join(loadDir, name);
  if (existsSync(program)) return program;
  const done = await runProgram('cc', ['-O2', '-w', '-o', program, `${program}.c`, ...libraries]);
  if (done.code !== 0) throw new Fault('unavailable', `${name} could not be compiled: ${done.stderr}`);
  return program;
}

export class Peers {
  readonly directory: string;
  readonly #up = new Set<PeerName>();
  #yesServer: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Peers> {
    const directory = await mkdtemp(path.join(tmpdir(), 'postern-peers-'));
    await chmod(directory, 0o755); // Dovecot's workers run as "mail"
    return new Peers(directory);
  }

  async up(name: PeerName, env: Record<string, string> = {}): Promise<void> {
    const alone = name === 'nginx-alone';
    if (alone) this.#yesServer = spawn(await compiled('fakeimap'), [String(aloneBase)], { stdio: 'ignore' });
    const done = await runLoad('peers.sh', ['up', this.#homeOf(name), alone ? 'nginx' : name], {
      ...env,
      ...(alone ? { BASE: String(aloneBase), UP_IMAP: String(aloneBase) } : {}),
    });
    if (done.code !== 0)
      throw new Fault('unavailable', `the peer ${name} did not start: ${done.stderr.trim().slice(-400)}`);
    this.#up.add(name);
  }

  async down(name: PeerName): Promise<void> {
    await runLoad('peers.sh', ['down', this.#homeOf(name), name === 'nginx-alone' ? 'nginx' : name]);
    this.#up.delete(name);
  }

  #homeOf(name: PeerName): string {
    return name === 'nginx-alone' ? path.join(this.directory, 'alone') : this.directory;
  }

  pidFile(name: string): string {
    return path.join(this.directory, `${name}.pid`);
  }

  pidOf(name: string): string {
    return readFileSync(this.pidFile(name), 'utf8').trim().split('\n')[0]!;
  }

  get mailRoot(): string {
    return path.join(this.directory, 'mail');
  }

  async close(): Promise<void> {
    for (const name of [...this.#up].reverse()) await this.down(name);
    this.#yesServer?.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}
