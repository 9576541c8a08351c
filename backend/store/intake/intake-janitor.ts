/**
 * Logs that processes left behind. One goes when nothing refers to it any
 * more: its process has shown no life for a while, and every account that had
 * unsettled messages in it has taken them. What stays is an empty file with its
 * name: accounts that name the log in their journals, and had nothing left in
 * it, learn from that that nothing is missing.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Log } from '../../../base/log.ts';
import { incarnation } from '../fence.ts';
import {
  closeFile,
  listDirectory,
  openFile,
  removeTree,
  statFile,
  syncDirectory,
  touchFile,
  unlinkFile,
} from '../files.ts';
import { type IntakeReader, tombstoneOf } from './intake-reader.ts';

const touchMs = 60_000;
/** A process that could not show life for so long does not use its log any more … */
export const aliveMs = 5 * 60_000;
/** … long before others take it for dead. */
const deadMs = 15 * 60_000;
const roundMs = 10 * 60_000;
/** Accounts opened for their messages in one round. */
const accountsPerRound = 50;
const aliveName = 'alive';
const takenPrefix = 'taken-';

/** Shows others that a log is in use. */
export class LifeSign {
  readonly #file: string;
  #lastMs: number;
  #timer: NodeJS.Timeout | undefined;

  private constructor(directory: string) {
    this.#file = path.join(directory, aliveName);
    this.#lastMs = performance.now();
  }

  /** @throws what the file system says */
  static async begin(directory: string): Promise<LifeSign> {
    const sign = new LifeSign(directory);
    await closeFile(await openFile(sign.#file, 'w'));
    sign.#timer = setInterval(() => void sign.#touch(), touchMs).unref();
    return sign;
  }

  /** The log may be used: nobody takes it for dead. */
  get fresh(): boolean {
    return performance.now() - this.#lastMs < aliveMs;
  }

  end(): void {
    clearInterval(this.#timer);
  }

  async #touch(): Promise<void> {
    const begun = performance.now();
    // When the log was removed there is nothing to touch, and it is not used any more.
    await touchFile(this.#file).then(
      () => {
        this.#lastMs = begun;
      },
      () => {},
    );
  }
}

/** Notes that an account has taken its messages from a log, up to a record: more may come while its process lives. */
export async function noteTaken(root: string, logId: string, account: string, upTo: number): Promise<void> {
  if (!Number.isSafeInteger(upTo)) return;
  const file = path.join(root, logId, `${takenPrefix}${digestOf(account)}-${upTo}`);
  await closeFile(await openFile(file, 'w'));
}

const digestOf = (account: string): string => createHash('sha256').update(account).digest('hex').slice(0, 32);

export interface JanitorWork {
  readonly root: string;
  readonly reader: IntakeReader;
  readonly log: Log;
  /** Of this process's own log. */
  readonly ownId: string | undefined;
  /**
   * Opens and closes an account, if it is owned here: that takes its messages.
   * @returns whether it was opened, or does not exist any more.
   */
  visit(account: string): Promise<boolean>;
}

/** Removes what nothing refers to, and takes what accounts of ours left in logs of dead processes. */
export class Janitor {
  readonly #work: JanitorWork;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;

  constructor(work: JanitorWork) {
    this.#work = work;
    this.#timer = setInterval(() => {
      this.#running ??= this.round().finally(() => {
        this.#running = undefined;
      });
    }, roundMs).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  /** @param quietMs  Without a sign of life for so long a process is dead. */
  async round(quietMs = deadMs): Promise<void> {
    const { reader, ownId, log } = this.#work;
    try {
      for (const logId of await reader.logIds()) {
        if (logId !== ownId && (await this.#isDead(logId, quietMs))) await this.#clear(logId);
      }
    } catch (error) {
      log.warn({ event: 'intake-janitor-failed', err: error }, 'old intake logs were not looked at');
    }
  }

  /** By the clock of the storage: that of another machine may be wrong. */
  async #isDead(logId: string, quietMs: number): Promise<boolean> {
    const { root } = this.#work;
    const probe = path.join(root, `now-${incarnation}`);
    await closeFile(await openFile(probe, 'w'));
    const now = (await statFile(probe)).mtimeMs;
    await unlinkFile(probe);
    const directory = path.join(root, logId);
    let last = (await statFile(directory)).mtimeMs;
    for (const name of await listDirectory(directory)) {
      last = Math.max(last, (await statFile(path.join(directory, name))).mtimeMs);
    }
    return now - last > quietMs;
  }

  async #clear(logId: string): Promise<void> {
    const { root, reader, log, visit } = this.#work;
    const accounts = await reader.accountsIn(logId);
    const taken = takenIn(await listDirectory(path.join(root, logId)));
    let visits = 0;
    let left = 0;
    for (const [account, last] of accounts) {
      if ((taken.get(digestOf(account)) ?? 0) >= last) continue;
      if (visits++ < accountsPerRound && (await visit(account))) await noteTaken(root, logId, account, last);
      else left++;
    }
    if (left > 0) {
      log.info({ event: 'intake-waits', intake: logId, accounts: left }, 'an intake log is still needed');
      return;
    }
    await closeFile(await openFile(tombstoneOf(root, logId), 'w'));
    await syncDirectory(root);
    await removeTree(path.join(root, logId));
    log.info({ event: 'intake-removed', intake: logId }, 'an intake log that nothing needs was removed');
  }
}

/** By account's digest, up to which record its messages were taken. */
function takenIn(names: readonly string[]): ReadonlyMap<string, number> {
  const taken = new Map<string, number>();
  for (const name of names) {
    const found = /^taken-([0-9a-f]{32})-(\d{1,16})$/.exec(name);
    if (found) taken.set(found[1]!, Math.max(taken.get(found[1]!) ?? 0, Number(found[2])));
  }
  return taken;
}
