/**
 * One open account: what its parts share, how a failure takes all of it out,
 * and how it is closed. The folders stand in `folder-tree.ts`.
 */
import path from 'node:path';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { Appender } from './appender.ts';
import { DeliveryKeys } from './delivery-keys.ts';
import { eachAtOnce, storageFault } from './files.ts';
import { keyKeptSeconds } from './folder-state.ts';
import { FolderTree } from './folder-tree.ts';
import { AccountIntake } from './intake/account-intake.ts';
import type { Journal } from './journal.ts';
import type { JournalRecord } from './journal-records.ts';
import type { AccountReplay } from './journal-replay.ts';
import { cleanRecords, snapshotOf } from './journal-snapshot.ts';
import { Lane } from './lane.ts';
import type { StoreOptions } from './open-store.ts';
import { type OperationId, type OperationResult, Operations } from './operations.ts';
import { AccountIndex } from './search/account-index.ts';
import { indexThread } from './search/index-thread.ts';
import type { Folder, FolderFormat, FolderInfo, Guard, SpecialUse, Store, StoreLimits } from './store.ts';
import type { StoreHost } from './store-host.ts';
import type { StoredFolder } from './stored-folder.ts';
import { addRange } from './uid-set.ts';

/** How long closing waits for file names to show all flags and expunged files to go. */
const lateWorkMs = 500;

export class AccountStore implements Store, StoreHost {
  readonly maildir: string;
  readonly guard: Guard;
  limits: StoreLimits;
  readonly log: Log;
  readonly dirsync: boolean;
  readonly format: FolderFormat;
  readonly lane = new Lane();
  readonly journal: Journal;
  readonly keys = new DeliveryKeys();
  readonly operations = new Operations();
  readonly intake: AccountIntake | undefined;
  readonly usage = { bytes: 0, messages: 0 };
  readonly #directory: string;
  readonly #onBroken: ((fault: Fault) => void) | undefined;
  readonly #tree: FolderTree;
  readonly #background = new Set<Promise<void>>();
  readonly textIndex: AccountIndex | undefined;
  #state: 'open' | 'closed' = 'open';
  #broken: Fault | undefined;
  #compacting = false;

  constructor(options: StoreOptions, journal: Journal, replay: AccountReplay, journalWhole: boolean) {
    this.#directory = options.directory;
    this.maildir = path.join(options.directory, 'Maildir');
    this.guard = options.guard;
    this.limits = options.limits;
    this.log = options.log;
    this.dirsync = options.dirsync;
    this.format = options.format ?? 'maildir';
    this.journal = journal;
    const { live, account = '' } = options.intake ?? {};
    this.intake = live && new AccountIntake(live, account, journal);
    this.#onBroken = options.onBroken;
    const appender = new Appender(this);
    this.#tree = new FolderTree(this, options.directory, replay, journalWhole, (folder) =>
      appender.publishInto(folder),
    );
    this.textIndex =
      options.search &&
      new AccountIndex({
        directory: options.directory,
        thread: indexThread,
        log: options.log,
        indexBytesMax: options.search.indexBytesMax,
        check: () => this.mayFinish(),
      });
    for (const key of replay.orphans) this.keys.orphan(key);
    for (const row of replay.operations) this.operations.add(row);
    journal.onBroken = (fault) => this.breakOff(fault);
  }

  /** Reads which folders there are. */
  load(): Promise<void> {
    return this.#tree.load();
  }

  listFolders(): readonly FolderInfo[] {
    return this.#tree.list();
  }

  folder(name: string): Promise<Folder> {
    return this.#tree.open(name);
  }

  createFolder(name: string, specialUse?: SpecialUse, operation?: OperationId): Promise<Folder> {
    return this.#tree.create(name, specialUse, operation);
  }

  deleteFolder(name: string, operation?: OperationId): Promise<void> {
    return this.#tree.delete(name, operation);
  }

  renameFolder(from: string, to: string, operation?: OperationId): Promise<void> {
    return this.#tree.rename(from, to, operation);
  }

  operation(id: OperationId): OperationResult | undefined {
    const uid = this.keys.uidOf(`${id}0000`);
    return uid === undefined ? this.operations.of(id) : { uids: String(uid), firstUid: uid };
  }

  setSubscribed(name: string, subscribed: boolean): Promise<void> {
    return this.#tree.setSubscribed(name, subscribed);
  }

  get subscribed(): ReadonlySet<string> {
    return this.#tree.subscribed;
  }

  convertFolder(name: string, to: FolderFormat): Promise<void> {
    return this.#tree.convert(name, to);
  }

  setQuota(quotaBytes: number, quotaMessages: number): void {
    this.limits = { ...this.limits, quotaBytes, quotaMessages };
  }

  watchFolders(listener: () => void): () => void {
    return this.#tree.watch(listener);
  }

  async settle(deliveryKey: string): Promise<void> {
    this.check();
    await this.folder('INBOX');
    const place = this.keys.placeOf(deliveryKey);
    if (place) {
      for (const folder of this.#tree.loaded()) {
        if (folder.mailboxId !== place.mailboxId) continue;
        addRange(folder.state.settled, place.uid, place.uid);
        this.journal.note({ t: 'settled', f: place.mailboxId, u: String(place.uid), n: folder.uidNext });
      }
    } else if (this.keys.isOrphan(deliveryKey)) this.journal.note({ t: 'forget', k: deliveryKey });
    this.keys.forget(deliveryKey);
    this.#compactIfGrown();
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    const indexClosed = this.textIndex?.close();
    await this.lane.drained();
    const folders = this.#tree.loaded();
    try {
      if (!this.#broken) {
        const settled = (await this.intake?.finish(folders)) ?? [];
        await finishLateWork(folders);
        await this.#sayClean(folders, settled);
        if (settled.length > 0) this.intake?.finished();
        await eachAtOnce(folders, (folder) => folder.saveIndex());
      }
    } catch (error) {
      this.log.warn({ event: 'close-unclean', err: error }, 'the account could not be closed cleanly');
    }
    this.intake?.abandon();
    for (const { pending } of folders) await pending.quiet();
    await Promise.allSettled(this.#background);
    await indexClosed;
    await this.journal.close();
    for (const folder of folders) {
      folder.removed = true;
      folder.emit({ kind: 'gone' });
    }
    this.#tree.endWatches();
  }

  // StoreHost

  check(): void {
    if (this.#broken) throw this.#broken;
    if (this.#state === 'closed') throw new Fault('unavailable', 'the account is closed');
    this.guard.assert();
  }

  mayFinish(): void {
    if (this.#broken) throw this.#broken;
    this.guard.assert();
  }

  failed(error: unknown, what: string): unknown {
    if (error instanceof Fault && error.code !== 'storage-failed') return error;
    const fault = storageFault(error, what);
    if (fault.code === 'storage-failed') this.breakOff(fault);
    return fault;
  }

  breakOff(error: unknown): void {
    if (this.#broken) return;
    this.#broken = isFault(error, 'lease-lost') || isFault(error, 'not-owner') ? error : brokenFault(error);
    this.log.error(
      { event: 'account-taken-out', directory: this.#directory, err: error },
      'account taken out',
    );
    this.#onBroken?.(this.#broken);
  }

  background(work: Promise<void>): void {
    const watched = work
      .catch((error: unknown) => {
        this.log.warn({ event: 'late-work-failed', err: error }, 'late work failed');
      })
      .finally(() => {
        this.#background.delete(watched);
        this.#compactIfGrown();
      });
    this.#background.add(watched);
  }

  async change<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.lane.run(async () => {
        this.check();
        return work();
      });
    } catch (error) {
      throw this.failed(error, what);
    }
  }

  async orBreak(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.breakOff(error);
      throw error;
    }
  }

  async #sayClean(folders: readonly StoredFolder[], settled: readonly JournalRecord[]): Promise<void> {
    const records: JournalRecord[] = [...settled];
    for (const folder of folders) {
      if (!folder.unclean || folder.removed || folder.late.behind) continue;
      if (folder.pending.unsettled().length > 0) continue;
      // Names that show flags must be as durable as the record that says they do.
      await folder.syncShown();
      records.push(...cleanRecords(folder));
      folder.unclean = false;
    }
    if (records.length === 0) return;
    this.guard.assert();
    await this.journal.append(...records);
  }

  #compactIfGrown(): void {
    if (this.#compacting || this.#state === 'closed' || this.#broken || !this.journal.wantsCompaction) return;
    this.#compacting = true;
    this.lane
      .run(() => this.#compact())
      .catch((error: unknown) => {
        this.log.warn({ event: 'compaction-failed', err: error }, 'the journal was not compacted');
      })
      .finally(() => {
        this.#compacting = false;
      });
  }

  /** In the lane. */
  async #compact(): Promise<void> {
    this.check();
    for (const folder of this.#tree.loaded()) {
      folder.late.showFlags([]);
      await folder.pending.made();
      await folder.late.settled();
      // The old records are all that says what the names of such a folder do not.
      if (folder.late.behind) return;
      if (folder.unclean) await folder.syncShown();
    }
    const records = snapshotOf({
      epoch: this.guard.epoch,
      uidValidityLast: this.#tree.uidValidityLast,
      operations: this.operations.rows(),
      intakes: this.intake?.marks() ?? [],
      orphans: this.keys.orphans(Math.floor(Date.now() / 1000) - keyKeptSeconds),
      entries: this.#tree.entries(),
    });
    await this.journal.compact(records);
    this.guard.assert();
    for (const folder of this.#tree.loaded()) folder.unclean = false;
  }
}

/** An account that moves to another owner must not wait for thousands of renames: the journal has them. */
async function finishLateWork(folders: readonly StoredFolder[]): Promise<void> {
  const timer = setTimeout(() => {
    for (const folder of folders) folder.late.abandon();
  }, lateWorkMs);
  for (const folder of folders) await folder.late.settled();
  clearTimeout(timer);
}

function brokenFault(error: unknown): Fault {
  return new Fault('storage-failed', 'the storage failed', { cause: error });
}
