/**
 * Is the storage well, as this backend sees it? A probe reads the root's record
 * and writes a small file, again and again. Storage that hangs, or fails, makes
 * the backend unwell: its accounts go to backends that see the storage still. A root that is
 * another one, or none (somebody has unmounted it), ends the backend at once:
 * what it wrote now would lie under the mount point.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type ClusterRecord, checkStorageRoot } from './storage-root.ts';

/** Good probes in a row before a backend calls itself well again: storage that comes and goes is not well. */
const goodToBeWell = 3;
/** Failed ones in a row before it calls itself unwell; a slow one counts as all of them. */
const badToBeUnwell = 2;
const probeEveryMsMax = 2000;

/** What the storage was found to be. */
export type ProbeOutcome =
  | { readonly kind: 'good' }
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'slow'; readonly why: string }
  | { readonly kind: 'wrong-root'; readonly why: string };

export interface HealthState {
  readonly state: 'well' | 'unwell' | 'wrong-root';
  readonly good: number;
  readonly bad: number;
  readonly why: string;
}

export const healthAtStart: HealthState = { state: 'well', good: 0, bad: 0, why: '' };

/** Pure: one outcome after the other. `wrong-root` is final. */
export function stepHealth(health: HealthState, outcome: ProbeOutcome): HealthState {
  if (health.state === 'wrong-root') return health;
  switch (outcome.kind) {
    case 'good': {
      const good = health.good + 1;
      const well = health.state === 'well' || good >= goodToBeWell;
      return { state: well ? 'well' : 'unwell', good, bad: 0, why: well ? '' : health.why };
    }
    case 'failed': {
      const bad = health.bad + 1;
      const unwell = health.state === 'unwell' || bad >= badToBeUnwell;
      return { state: unwell ? 'unwell' : 'well', good: 0, bad, why: outcome.why };
    }
    case 'slow':
      return { state: 'unwell', good: 0, bad: badToBeUnwell, why: outcome.why };
    case 'wrong-root':
      return { state: 'wrong-root', good: 0, bad: 0, why: outcome.why };
  }
}

/**
 * Reads the root's record and writes a file of this member's own.
 * @throws {Fault} `wrong-root`, `storage-failed`
 */
export async function probeStorage(root: string, cluster: ClusterRecord, memberId: string): Promise<void> {
  await checkStorageRoot(root, cluster);
  const directory = path.join(root, 'probe');
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(path.join(directory, memberId), `${Date.now()}\n`, { flush: true, mode: 0o600 });
  } catch (error) {
    // Full is not unwell: mail is refused politely, and everything else goes on.
    if (['ENOSPC', 'EDQUOT'].includes(errnoOf(error))) return;
    throw new Fault('storage-failed', `${directory} cannot be written (${errnoOf(error) || error})`, {
      cause: error,
    });
  }
}

export interface StorageHealthOptions {
  /** Settles when the storage has answered, whenever that is. */
  probe(): Promise<void>;
  /** Without an answer for so long the storage is unwell. */
  unwellAfterMs: number;
  readonly log: Log;
  /** After every change of `state`. */
  changed(health: HealthState): void;
}

/** Probes until `close`. One probe at a time: what hangs is not helped by more that hang. */
export class StorageHealth {
  readonly #options: StorageHealthOptions;
  #health = healthAtStart;
  #timer: NodeJS.Timeout;
  #closed = false;

  constructor(options: StorageHealthOptions) {
    this.#options = options;
    this.#timer = setTimeout(() => this.#probe(), this.#everyMs);
  }

  get health(): HealthState {
    return this.#health;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  get #everyMs(): number {
    return Math.min(probeEveryMsMax, this.#options.unwellAfterMs / 4);
  }

  #probe(): void {
    const { unwellAfterMs } = this.#options;
    const late = setTimeout(
      () => this.#take({ kind: 'slow', why: `no answer for ${unwellAfterMs} ms` }),
      unwellAfterMs,
    );
    this.#options
      .probe()
      .then(
        (): ProbeOutcome => ({ kind: 'good' }),
        (error: unknown): ProbeOutcome => ({
          kind: isFault(error, 'wrong-root') ? 'wrong-root' : 'failed',
          why: Fault.from(error).message,
        }),
      )
      .then((outcome) => {
        clearTimeout(late);
        this.#take(outcome);
        if (!this.#closed) this.#timer = setTimeout(() => this.#probe(), this.#everyMs);
      });
  }

  #take(outcome: ProbeOutcome): void {
    if (this.#closed) return;
    const before = this.#health;
    this.#health = stepHealth(before, outcome);
    const { state, why } = this.#health;
    if (state === before.state) return;
    if (state === 'well') this.#options.log.info({}, 'storage is well again');
    else this.#options.log.error({ state, why }, 'storage is unwell');
    this.#options.changed(this.#health);
  }
}

/**
 * Resolves when the storage is there and well: a backend that was started while it is away waits here, and gateways
 * of the same machine go on.
 * @param waiting  Called about once in ten seconds.
 */
export async function storageOnceWell(
  probe: () => Promise<void>,
  waiting: (why: string, forMs: number) => void,
): Promise<void> {
  const beganMs = performance.now();
  let why = 'it does not answer';
  let saidMs = beganMs;
  const say = (): void => {
    saidMs = performance.now();
    waiting(why, saidMs - beganMs);
  };
  const hanging = setInterval(say, 10_000);
  try {
    for (let failed = false; ; failed = true) {
      try {
        await probe();
        return;
      } catch (error) {
        why = Fault.from(error).message;
        if (!failed || performance.now() - saidMs > 10_000) say();
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  } finally {
    clearInterval(hanging);
  }
}
