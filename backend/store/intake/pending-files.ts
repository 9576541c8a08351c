/**
 * A folder's messages that stand in the intake log and whose files are not
 * durable yet: readers find the bytes here until there is a file, and changes
 * that need the files wait here for them.
 */
import { Fault } from '../../../base/fault.ts';
import type { StoredFolder } from '../stored-folder.ts';
import type { IntakeEntry } from './intake-entry.ts';

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class PendingFiles {
  /** By UID, until they are settled. */
  #entries: Map<number, IntakeEntry> | undefined;
  #unmade = 0;
  #making = 0;
  #holds = 0;
  #parked: IntakeEntry[] = [];
  /** Why the last file could not be made. */
  #failure: unknown;
  #untilMade: Waiter[] = [];
  #untilQuiet: (() => void)[] = [];

  /** Bytes of a message that has no file yet. */
  bytesOf(uid: number): Buffer | undefined {
    return this.#entries?.get(uid)?.bytes;
  }

  /** Is there no file yet? Whoever makes it gives it the name that shows the flags of that moment. */
  isUnmade(uid: number): boolean {
    return this.#unmade > 0 && this.bytesOf(uid) !== undefined;
  }

  /** Those whose files are not durable; all, or those with these UIDs. */
  unsettled(uids?: readonly number[]): IntakeEntry[] {
    if (!this.#entries) return [];
    if (!uids) return [...this.#entries.values()];
    return uids.flatMap((uid) => this.#entries!.get(uid) ?? []);
  }

  /** Settles when all messages have files, durable or not. @throws {Fault} `no-space`, `storage-failed` */
  made(): Promise<void> {
    if (this.#unmade === 0) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => this.#untilMade.push({ resolve, reject }));
  }

  /** Settles when no file is being made at this moment; more may follow. */
  quiet(): Promise<void> {
    if (this.#making === 0) return Promise.resolve();
    return new Promise((resolve) => this.#untilQuiet.push(resolve));
  }

  /**
   * Keeps files from being made until the returned function is called: the directory is about to get another
   * place, or to go.
   */
  async hold(again: (entries: readonly IntakeEntry[]) => void): Promise<() => void> {
    this.#holds++;
    await this.quiet();
    return () => {
      this.#holds--;
      if (this.#holds === 0) again(this.#parked.splice(0));
    };
  }

  // What follows is for the intake.

  add(entry: IntakeEntry): void {
    this.#entries ??= new Map();
    this.#entries.set(entry.uid, entry);
    this.#unmade++;
  }

  /** @returns false when it has to wait. */
  begin(entry: IntakeEntry): boolean {
    if (this.#holds > 0) {
      this.#parked.push(entry);
      return false;
    }
    this.#making++;
    return true;
  }

  /** The making of a file ended, in whatever way. */
  end(): void {
    this.#making--;
    if (this.#making === 0) for (const resolve of this.#untilQuiet.splice(0)) resolve();
  }

  /** There is a file now, or nobody wants one any more. */
  wasMade(entry: IntakeEntry): void {
    if (this.#entries?.get(entry.uid) !== entry) return;
    this.#unmade--;
    this.#failure = undefined;
    if (this.#unmade === 0) for (const { resolve } of this.#untilMade.splice(0)) resolve();
  }

  /** Those who wait for files hear that it may take long. */
  failed(error: unknown): void {
    this.#failure = error;
    for (const { reject } of this.#untilMade.splice(0)) reject(error);
  }

  settled(entry: IntakeEntry): void {
    this.#entries?.delete(entry.uid);
    if (this.#entries?.size === 0) this.#entries = undefined;
  }

  /** Who waits when the account is taken out. */
  abandon(): void {
    this.failed(new Fault('unavailable', 'the account is closed'));
  }
}

/** Does `work` while no file of a message that the intake log has comes to be in these folders: it would come too late. */
export async function withoutMaking<T>(
  folders: readonly (StoredFolder | undefined)[],
  work: () => Promise<T>,
): Promise<T> {
  const releases: (() => void)[] = [];
  try {
    for (const folder of folders) {
      const intake = folder?.host.intake;
      if (intake) releases.push(await folder.pending.hold((entries) => intake.makeLater(entries)));
    }
    return await work();
  } finally {
    for (const release of releases) release();
  }
}
