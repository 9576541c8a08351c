/**
 * The servers people run today, as private copies on loopback ports: Dovecot,
 * Postfix in front of it, nginx's mail proxy. `load/peers.sh` starts and stops
 * them with all their state in one directory.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Fault } from '../base/fault.ts';

const loadDir = path.join(import.meta.dirname, 'load');

/** First port of the peers; what each listens on is an offset from it, see `load/README.md`. */
export const peerPort = (offset: number): number => 20_000 + offset;

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

export class Peers {
  readonly directory: string;
  readonly #up = new Set<string>();

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Peers> {
    const directory = await mkdtemp(path.join(tmpdir(), 'postern-peers-'));
    await chmod(directory, 0o755); // Dovecot's workers run as "mail"
    return new Peers(directory);
  }

  async up(name: string, env: Record<string, string> = {}): Promise<void> {
    const done = await runLoad('peers.sh', ['up', this.directory, name], env);
    if (done.code !== 0)
      throw new Fault('unavailable', `the peer ${name} did not start: ${done.stderr.trim().slice(-400)}`);
    this.#up.add(name);
  }

  async down(name: string): Promise<void> {
    await runLoad('peers.sh', ['down', this.directory, name]);
    this.#up.delete(name);
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
    await rm(this.directory, { recursive: true, force: true });
  }
}
