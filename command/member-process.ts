/** One member as its supervisor sees it: a process that is started, watched, started again and stopped. */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import type { BareSocket } from '../base/listening-sockets.ts';
import type { Log } from '../base/log.ts';
import { exitBadConfig, type MemberWord, type SupervisorWord } from '../base/member.ts';
import type { MemberId } from '../cluster-protocol/ids.ts';
import { memberIdOf } from '../cluster-protocol/machine-settings.ts';
import { KeptSockets } from './kept-sockets.ts';
import { afterDeath, restartAtFirst } from './restart-policy.ts';

const projectDir = path.resolve(import.meta.dirname, '..');
/** What a member says on stderr goes to the log; the newest part also into the words about its end. */
const stderrCharsMax = 4096;
/** A member that has not said `ready` by now hangs, and is ended and started again. */
const readyMsMax = 60_000;

export type MemberRole = 'gateway' | 'backend';
export type Addresses = Readonly<Record<string, readonly string[]>>;

export interface MemberOptions {
  readonly role: MemberRole;
  readonly number: number;
  /** Where a cluster has several machines; else empty. */
  readonly machine: string;
  readonly data: string;
  readonly config: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
  /** A process was started: remember it, so that a later supervisor can end it. */
  started(id: MemberId, pid: number): void;
  /** Its process is gone and reaped. Settles before the next one is started. */
  died(id: MemberId): Promise<void>;
  ready(id: MemberId, addresses: Addresses, tookMs: number): void;
  /** It said that it cannot start, with one line for the admin. @returns Milliseconds until it is tried again, if it is. */
  cannotStart(id: MemberId, line: string): number | undefined;
  /** Its process is gone; it will be started again in `delayMs`. */
  restarting(id: MemberId, how: string, delayMs: number): void;
}

/** What a member said to `reload`. */
export interface ReloadAnswer {
  readonly live: readonly string[];
  readonly atRestart: readonly string[];
  readonly error?: string;
}

export class MemberProcess {
  readonly id: MemberId;
  readonly role: MemberRole;
  #child: ChildProcess | undefined;
  #restart = restartAtFirst;
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;
  #readyAtMs: number | undefined;
  #failedStarts = 0;
  #restarts = 0;
  /** Given to each process; only gateways have any. */
  readonly #sockets = new KeptSockets();
  /** The process before, while it ends beside the one that has taken over. */
  #retiring: ChildProcess | undefined;
  /** Called when the process that was to take over has ended before it was ready. */
  #replacementFailed: ((fault: Fault) => void) | undefined;
  readonly #options: MemberOptions;
  readonly #gone = new Set<() => void>();
  readonly #readyAgain = new Set<() => void>();

  constructor(options: MemberOptions) {
    this.#options = options;
    this.role = options.role;
    this.id = memberIdOf(options.machine, options.role, options.number);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }
  get isReady(): boolean {
    return this.#readyAtMs !== undefined;
  }
  get restarts(): number {
    return this.#restarts;
  }
  /** Times in a row it ended before it was ready. */
  get failedStarts(): number {
    return this.#failedStarts;
  }

  start(): void {
    const { role, number, data, config, env, log } = this.#options;
    const startedAtMs = performance.now();
    const args = ['--id', this.id, '--data', data, '--config', config, '--number', String(number)];
    args.push('--listeners', String(this.#sockets.count));
    const child = fork(path.join(projectDir, role, `${role}.ts`), args, {
      cwd: projectDir,
      env,
      execPath: process.execPath,
      execArgv: process.execArgv,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child = child;
    this.#readyAtMs = undefined;
    if (child.pid !== undefined) this.#options.started(this.id, child.pid);
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-stderrCharsMax);
    });
    let refused: string | undefined;
    const slow = setTimeout(() => child.kill('SIGKILL'), readyMsMax);
    this.#sockets.sendTo(child);
    child.on('message', (word: MemberWord, handle: unknown) => {
      if (word?.word === 'listening') this.#sockets.keep(word.name, handle as BareSocket | undefined);
      if (word?.word === 'ready' && child === this.#child && this.#readyAtMs === undefined) {
        clearTimeout(slow);
        this.#sockets.retain(word.listeners ?? []);
        this.#readyAtMs = performance.now();
        this.#failedStarts = 0;
        this.#options.ready(this.id, word.addresses, Math.round(this.#readyAtMs - startedAtMs));
        for (const resolve of this.#readyAgain) resolve();
        this.#readyAgain.clear();
      }
      if (word?.word === 'waiting') slow.refresh();
      if (word?.word === 'cannot-start') refused = word.line;
    });
    child.on('error', (error) => log.error({ name: this.id, error: error.message }, 'member process'));
    // `close` comes after `exit` and the end of its output, `exit` when it could be reaped; an `error` without a
    // process has neither, which `fork` of our own binary does not meet.
    child.on('exit', (code, signal) => {
      clearTimeout(slow);
      this.#ended(child, code, signal, () => ({ refused, stderr }));
    });
  }

  /** Asks it to finish; ends it when it has not within `withinMs`. Resolves when the process is gone, for good. */
  async drain(withinMs: number): Promise<void> {
    this.#sockets.close();
    const retiring = this.#retiring;
    if (retiring !== undefined) retiring.kill('SIGKILL');
    await this.#finish(withinMs);
  }

  async #finish(withinMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => this.#gone.add(resolve));
    await this.#end(child, withinMs, gone);
  }

  async #end(child: ChildProcess, withinMs: number, gone: Promise<void>): Promise<void> {
    const word: SupervisorWord = { word: 'drain' };
    if (child.connected) child.send(word, () => {});
    else child.kill('SIGTERM');
    const timer = setTimeout(() => {
      this.#options.log.warn({ name: this.id, withinMs }, 'did not stop in time, killed');
      child.kill('SIGKILL');
    }, withinMs);
    await gone;
    clearTimeout(timer);
  }

  /**
   * Asks it to finish, and starts it anew, if that is `wanted` still. Resolves when it is ready again.
   * @throws {Fault} `unavailable` when it is not within a minute; it is tried further.
   */
  async restart(withinMs: number, wanted: () => boolean): Promise<void> {
    if (this.role === 'gateway' && this.#child !== undefined && this.isReady) {
      await this.#replace(this.#child, withinMs);
      return;
    }
    await this.#finish(withinMs);
    await this.#options.died(this.id);
    if (!wanted()) return;
    this.#stopping = false;
    this.start();
    await this.#untilReady();
  }

  /** A gateway's next process takes over the listening sockets before the present one is asked to finish. */
  async #replace(old: ChildProcess, withinMs: number): Promise<void> {
    if (this.#retiring !== undefined) throw new Fault('busy', `${this.id} is being replaced already`);
    this.#retiring = old;
    const failed = new Promise<never>((_, reject) => {
      this.#replacementFailed = reject;
    });
    failed.catch(() => {}); // it may fail when nobody waits for it any more
    const gone = new Promise<void>((resolve) => old.once('exit', () => resolve()));
    try {
      this.start();
      await this.#untilReady(failed);
      this.#replacementFailed = undefined;
      await this.#end(old, withinMs, gone);
    } catch (error) {
      // The old one serves on; if it has ended meanwhile, that is a death like any other.
      const next = this.#child;
      this.#child = old;
      this.#readyAtMs = performance.now();
      next?.kill('SIGKILL');
      this.#replacementFailed = undefined;
      if (old.exitCode !== null || old.signalCode !== null)
        this.#ended(old, old.exitCode, old.signalCode, () => ({ refused: undefined, stderr: '' }));
      throw error;
    } finally {
      this.#retiring = undefined;
      this.#replacementFailed = undefined;
    }
  }

  /** @throws {Fault} `unavailable` */
  async #untilReady(failed?: Promise<never>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Fault('unavailable', `${this.id} is not ready yet; its log says why`)),
        readyMsMax,
      );
    });
    const ready = new Promise<void>((resolve) => this.#readyAgain.add(resolve));
    const all = failed === undefined ? [ready, late] : [ready, late, failed];
    await Promise.race(all).finally(() => clearTimeout(timer));
  }

  /** Tells it to read its configuration again. @returns What it said; an error when it says nothing. */
  reload(withinMs: number): Promise<ReloadAnswer> {
    const child = this.#child;
    if (child === undefined || !child.connected || !this.isReady)
      return Promise.resolve({
        live: [],
        atRestart: [],
        error: 'it is starting, and reads the new file anyway',
      });
    return new Promise((resolve) => {
      const settle = (answer: ReloadAnswer): void => {
        clearTimeout(timer);
        child.off('message', hear);
        child.off('exit', gone);
        resolve(answer);
      };
      const hear = (word: MemberWord): void => {
        if (word?.word === 'reloaded') settle(word);
      };
      const gone = (): void => settle({ live: [], atRestart: [], error: 'it has ended meanwhile' });
      const timer = setTimeout(
        () => settle({ live: [], atRestart: [], error: 'it did not answer' }),
        withinMs,
      );
      child.on('message', hear);
      child.on('exit', gone);
      child.send({ word: 'reload' } satisfies SupervisorWord, () => {});
    });
  }

  /** Ends it at once. */
  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#timer);
    this.#child?.kill('SIGKILL');
    this.#retiring?.kill('SIGKILL');
  }

  #ended(
    child: ChildProcess,
    code: number | null,
    signal: NodeJS.Signals | null,
    last: () => { refused: string | undefined; stderr: string },
  ): void {
    // The one before, or one that was to replace it and did not: another process is the member.
    if (child !== this.#child) return;
    if (this.#replacementFailed !== undefined && this.#readyAtMs === undefined) {
      const { refused, stderr } = last();
      const why = refused ?? lastLine(stderr) ?? signal ?? `exit ${code}`;
      this.#options.log.error(
        { name: this.id, why },
        'its next process did not start, the present one goes on',
      );
      this.#replacementFailed(new Fault('unavailable', `${this.id} goes on as it was: ${why}`));
      return;
    }
    const nowMs = performance.now();
    const wasReady = this.#readyAtMs !== undefined;
    const servedMs = wasReady ? nowMs - this.#readyAtMs! : 0;
    this.#child = undefined;
    this.#readyAtMs = undefined;
    for (const resolve of this.#gone) resolve();
    this.#gone.clear();
    if (this.#stopping) return;
    if (!wasReady) this.#failedStarts++;
    const how = signal ?? `exit ${code}`;
    const { log } = this.#options;
    // Revoked before anything else: the accounts are free the moment the process is gone.
    const revoked = this.#options.died(this.id);
    // The rest of its words and output may still be in the pipes.
    const settled = new Promise<void>((resolve) => {
      child.on('close', () => resolve());
      setTimeout(resolve, 200).unref();
    });
    if (code === exitBadConfig) {
      void settled.then(() => {
        const { refused, stderr } = last();
        const line = refused ?? lastLine(stderr) ?? `${this.id} says its configuration is wrong`;
        log.error({ name: this.id, line }, 'member cannot start');
        const againMs = this.#options.cannotStart(this.id, line);
        if (againMs === undefined || this.#stopping) return;
        this.#timer = setTimeout(() => this.start(), againMs);
      });
      return;
    }
    void settled.then(() =>
      log.error({ name: this.id, how, wasReady, stderr: last().stderr }, 'member ended'),
    );
    const next = afterDeath(this.#restart, { wasReady, servedMs, wasKilled: signal === 'SIGKILL' });
    this.#restart = next.state;
    this.#restarts++;
    this.#options.restarting(this.id, how, next.delayMs);
    void revoked.then(() => {
      if (this.#stopping) return;
      this.#timer = setTimeout(() => this.start(), next.delayMs);
    });
  }
}

function lastLine(text: string): string | undefined {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .at(-1);
}

/** What several members listen on, together. */
export function mergedAddresses(all: Iterable<Addresses>): Addresses {
  const sum: Record<string, string[]> = {};
  for (const addresses of all) {
    for (const [door, list] of Object.entries(addresses)) {
      sum[door] = [...new Set([...(sum[door] ?? []), ...list])];
    }
  }
  return sum;
}
