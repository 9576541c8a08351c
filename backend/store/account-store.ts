import path from 'node:path';
import { errnoOf, Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { Appender } from './appender.ts';
import { DeliveryKeys } from './delivery-keys.ts';
import {
  eachAtOnce,
  listDirectory,
  makeDirectory,
  removeTree,
  renameFile,
  storageFault,
  syncDirectory,
} from './files.ts';
import {
  deletedPath,
  type FolderEntry,
  isFolderDebris,
  isMaildir,
  listingOf,
  makeFolderDirectory,
} from './folder-entry.ts';
import { loadFolder } from './folder-load.ts';
import { newMeta, readMeta, writeMeta } from './folder-meta.ts';
import {
  canonicalFolderName,
  compareFolderNames,
  directoryOf,
  folderOfDirectory,
  usualUse,
} from './folder-name.ts';
import { keyKeptSeconds } from './folder-state.ts';
import { takeIn } from './foreign-files.ts';
import type { Journal } from './journal.ts';
import type { JournalRecord } from './journal-records.ts';
import type { AccountReplay } from './journal-replay.ts';
import { cleanRecords, snapshotOf } from './journal-snapshot.ts';
import { Lane } from './lane.ts';
import { MaildirFolder } from './maildir-folder.ts';
import type { StoreOptions } from './open-store.ts';
import type { Folder, FolderInfo, Guard, SpecialUse, Store, StoreLimits } from './store.ts';
import type { StoreHost } from './store-host.ts';
import { readSubscriptions, writeSubscriptions } from './subscriptions.ts';
import { addRange } from './uid-set.ts';

/** How long closing waits for file names to show all flags and expunged files to go. */
const lateWorkMs = 500;

export class AccountStore implements Store, StoreHost {
  readonly maildir: string;
  readonly guard: Guard;
  readonly limits: StoreLimits;
  readonly log: Log;
  readonly dirsync: boolean;
  readonly lane = new Lane();
  readonly journal: Journal;
  readonly keys = new DeliveryKeys();
  readonly usage = { bytes: 0, messages: 0 };
  readonly #directory: string;
  /** Until the folders are read. */
  #replay: AccountReplay | undefined;
  readonly #journalWhole: boolean;
  readonly #onBroken: ((fault: Fault) => void) | undefined;
  readonly #appender: Appender;
  readonly #entries = new Map<string, FolderEntry>();
  readonly #watchers = new Set<() => void>();
  readonly #background = new Set<Promise<void>>();
  #subscribed = new Set<string>();
  #list: readonly FolderInfo[] | undefined;
  #uidValidityLast: number;
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
    this.journal = journal;
    this.#replay = replay;
    this.#journalWhole = journalWhole;
    this.#onBroken = options.onBroken;
    this.#appender = new Appender(this);
    this.#uidValidityLast = replay.uidValidityLast;
    for (const key of replay.orphans) this.keys.orphan(key);
    journal.onBroken = (fault) => this.breakOff(fault);
  }

  /** Reads which folders there are, and indexes those whose contents the journal does not vouch for. */
  async load(): Promise<void> {
    const names = await listDirectory(this.maildir);
    const directories = ['', ...names.filter((name) => name[0] === '.').sort()];
    const found: FolderEntry[] = [];
    await eachAtOnce(directories, async (directory) => {
      const name = directory === '' ? 'INBOX' : folderOfDirectory(directory, this.limits.folderNameBytesMax);
      if (name === undefined) {
        this.log.warn({ event: 'not-a-folder', directory }, 'directory is not a folder name of this store');
        return;
      }
      const entry = await this.#readEntry(name, directory);
      if (entry) found.push(entry);
    });
    for (const entry of found.sort((a, b) => compareFolderNames(a.name, b.name))) {
      this.#entries.set(entry.name, entry);
    }
    this.#subscribed = await readSubscriptions(this.maildir, this.limits.folderNameBytesMax);
    await this.#clearDebris();
    for (const entry of found) {
      this.usage.bytes += entry.known.bytes;
      this.usage.messages += entry.known.messages;
    }
    this.#replay = undefined;
    for (const entry of found) if (entry.records.at(-1)?.t !== 'clean') await this.#loadEntry(entry);
  }

  listFolders(): readonly FolderInfo[] {
    this.check();
    if (this.#list) return this.#list;
    this.#list = listingOf(this.#entries, this.#subscribed);
    return this.#list;
  }

  async folder(name: string): Promise<Folder> {
    this.check();
    const entry = this.#entry(name);
    if (entry.folder) return entry.folder;
    return this.#change('folder-open', () => this.#loadEntry(this.#entry(name)));
  }

  createFolder(name: string, specialUse?: SpecialUse): Promise<Folder> {
    return this.#change('folder-create', async () => {
      const canonical = canonicalFolderName(name, this.limits.folderNameBytesMax);
      if (this.#entries.has(canonical)) throw new Fault('already-exists', 'there is such a folder already');
      if (this.#entries.size >= this.limits.foldersMax) {
        throw new Fault('limit-reached', 'there are too many folders');
      }
      if (specialUse && this.#hasUse(specialUse)) {
        throw new Fault('already-exists', 'another folder has this use');
      }
      const usual = usualUse[canonical];
      const use = specialUse ?? (usual && !this.#hasUse(usual) ? usual : undefined);
      const entry = await this.#makeFolder(canonical, use);
      this.#foldersChanged();
      return this.#loadEntry(entry);
    });
  }

  deleteFolder(name: string): Promise<void> {
    return this.#change('folder-delete', async () => {
      const entry = this.#entry(name);
      if (entry.name === 'INBOX') throw new Fault('not-allowed', 'INBOX cannot be deleted');
      await entry.folder?.late.settled();
      const away = deletedPath(this.#directory);
      // A folder of the same name must not come back with the same UIDVALIDITY.
      await this.journal.append({ t: 'uidvalidity', n: this.#uidValidityLast });
      this.guard.assert();
      await this.#orBreak(async () => {
        await renameFile(this.#path(entry.directory), away);
        await syncDirectory(this.maildir);
      });
      this.#entries.delete(entry.name);
      this.usage.bytes -= entry.folder ? entry.folder.sizeBytes : entry.known.bytes;
      this.usage.messages -= entry.folder ? entry.folder.count : entry.known.messages;
      if (entry.folder) {
        entry.folder.removed = true;
        entry.folder.emit({ kind: 'gone' });
      }
      this.background(removeTree(away));
      this.#foldersChanged();
    });
  }

  renameFolder(from: string, to: string): Promise<void> {
    return this.#change('folder-rename', async () => {
      const target = canonicalFolderName(to, this.limits.folderNameBytesMax);
      if (this.#entries.has(target)) throw new Fault('already-exists', 'there is such a folder already');
      const source = canonicalFolderName(from, this.limits.folderNameBytesMax);
      if (source === 'INBOX') return this.#renameInbox(target);
      const moving = [...this.#entries.values()].filter(
        (entry) => entry.name === source || entry.name.startsWith(`${source}/`),
      );
      if (moving.length === 0) throw noSuchFolder();
      if (target.startsWith(`${source}/`)) {
        throw new Fault('not-allowed', 'a folder cannot be moved into itself');
      }
      const next = moving.map((entry) => {
        const name = canonicalFolderName(
          target + entry.name.slice(source.length),
          this.limits.folderNameBytesMax,
        );
        if (this.#entries.has(name)) throw new Fault('already-exists', 'there is such a folder already');
        return { entry, name, directory: directoryOf(name) };
      });
      for (const entry of moving) await entry.folder?.late.settled();
      await this.journal.append({ t: 'rename', from: directoryOf(source), to: directoryOf(target) });
      this.guard.assert();
      await this.#orBreak(async () => {
        for (const one of next) await renameFile(this.#path(one.entry.directory), this.#path(one.directory));
        await syncDirectory(this.maildir);
        await this.journal.append({ t: 'renamed' });
        this.guard.assert();
      });
      for (const { entry } of next) this.#entries.delete(entry.name);
      for (const { entry, name, directory } of next) {
        entry.name = name;
        entry.directory = directory;
        this.#entries.set(name, entry);
        if (entry.folder) {
          entry.folder.name = name;
          entry.folder.directory = this.#path(directory);
        }
      }
      this.#foldersChanged();
    });
  }

  setSubscribed(name: string, subscribed: boolean): Promise<void> {
    return this.#change('subscribe', async () => {
      const canonical = canonicalFolderName(name, this.limits.folderNameBytesMax);
      if (this.#subscribed.has(canonical) === subscribed) return;
      if (subscribed && !this.listFolders().some((folder) => folder.name === canonical)) throw noSuchFolder();
      const next = new Set(this.#subscribed);
      if (subscribed) next.add(canonical);
      else next.delete(canonical);
      await writeSubscriptions(this.maildir, next);
      this.guard.assert();
      this.#subscribed = next;
      this.#foldersChanged();
    });
  }

  async settle(deliveryKey: string): Promise<void> {
    this.check();
    await this.folder('INBOX');
    const place = this.keys.placeOf(deliveryKey);
    if (place) {
      for (const { folder } of this.#entries.values()) {
        if (folder?.mailboxId !== place.mailboxId) continue;
        addRange(folder.state.settled, place.uid, place.uid);
        this.journal.note({ t: 'settled', f: place.mailboxId, u: String(place.uid), n: folder.uidNext });
      }
    } else if (this.keys.isOrphan(deliveryKey)) this.journal.note({ t: 'forget', k: deliveryKey });
    this.keys.forget(deliveryKey);
    this.#compactIfGrown();
  }

  watchFolders(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    await this.lane.drained();
    const folders = [...this.#entries.values()].flatMap((entry) => entry.folder ?? []);
    try {
      if (!this.#broken) {
        await finishLateWork(folders);
        await this.#sayClean(folders);
      }
    } catch (error) {
      this.log.warn({ event: 'close-unclean', err: error }, 'the account could not be closed cleanly');
    }
    await Promise.allSettled(this.#background);
    await this.journal.close();
    for (const folder of folders) {
      folder.removed = true;
      folder.emit({ kind: 'gone' });
    }
    this.#watchers.clear();
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

  async #readEntry(name: string, directory: string): Promise<FolderEntry | undefined> {
    const place = this.#path(directory);
    let meta = await readMeta(place);
    if (!meta) {
      if (directory !== '' && !(await isMaildir(place))) return undefined;
      const before = this.#replay?.directories.get(directory);
      meta = newMeta(before?.uidValidity ?? this.#nextUidValidity());
      if (before) meta = { ...meta, mailboxId: before.mailboxId };
      if (directory !== '') this.log.info({ event: 'folder-taken-in', folder: name }, 'folder taken in');
      await writeMeta(place, meta);
    }
    this.#uidValidityLast = Math.max(this.#uidValidityLast, meta.uidValidity);
    const records = this.#replay?.folders.get(meta.mailboxId) ?? [];
    const last = records.at(-1);
    const known = last?.t === 'clean' ? { bytes: last.b, messages: last.c } : { bytes: 0, messages: 0 };
    return { name, directory, meta, records, known, folder: undefined };
  }

  /** In the lane, or before anyone knows the store. */
  async #loadEntry(entry: FolderEntry): Promise<MaildirFolder> {
    if (entry.folder) return entry.folder;
    const place = this.#path(entry.directory);
    for (const name of ['cur', 'new', 'tmp']) {
      await makeDirectory(path.join(place, name)).catch((error: unknown) => {
        if (errnoOf(error) !== 'EEXIST') throw error;
      });
    }
    const loaded = await loadFolder(place, entry.meta, entry.records, this.#journalWhole);
    const folder = new MaildirFolder(this, entry.name, place, entry.meta, loaded, (self) =>
      this.#appender.publishInto(self),
    );
    this.usage.bytes += folder.sizeBytes - entry.known.bytes;
    this.usage.messages += folder.count - entry.known.messages;
    for (const [key, uid, seconds] of loaded.findings.keys) {
      this.keys.stored(key, { mailboxId: folder.mailboxId, uid, seconds });
    }
    if (loaded.findings.purge !== undefined) folder.late.purge(loaded.findings.unlink, loaded.findings.purge);
    folder.late.showFlags(loaded.findings.unshown);
    if (loaded.foreign.length > 0) await takeIn(folder, loaded.foreign);
    entry.records = [];
    entry.folder = folder;
    return folder;
  }

  async #makeFolder(name: string, specialUse: SpecialUse | undefined): Promise<FolderEntry> {
    const directory = directoryOf(name);
    const meta = newMeta(this.#nextUidValidity(), specialUse);
    await makeFolderDirectory(this.#directory, this.#path(directory), meta, () => this.guard.assert());
    await this.#orBreak(async () => {
      await syncDirectory(this.maildir);
      this.guard.assert();
    });
    const entry: FolderEntry = {
      name,
      directory,
      meta,
      records: [],
      known: { bytes: 0, messages: 0 },
      folder: undefined,
    };
    this.#entries.set(name, entry);
    return entry;
  }

  /** RFC 9051 6.3.6: INBOX stays, its messages move. */
  async #renameInbox(target: string): Promise<void> {
    const inbox = await this.#loadEntry(this.#entry('INBOX'));
    const entry = await this.#makeFolder(target, undefined);
    const folder = await this.#loadEntry(entry);
    this.#foldersChanged();
    await inbox.moveInLane(folder, [...inbox.uids()]);
  }

  async #sayClean(folders: readonly MaildirFolder[]): Promise<void> {
    const records: JournalRecord[] = [];
    for (const folder of folders) {
      if (!folder.unclean || folder.removed || folder.late.behind) continue;
      // Names that show flags must be as durable as the record that says they do.
      await syncDirectory(`${folder.directory}/cur`);
      records.push(...cleanRecords(folder, this.maildir));
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
    for (const entry of this.#entries.values()) {
      if (!entry.folder) continue;
      entry.folder.late.showFlags([]);
      await entry.folder.late.settled();
      // The old records are all that says what the names of such a folder do not.
      if (entry.folder.late.behind) return;
      if (entry.folder.unclean) await syncDirectory(`${entry.folder.directory}/cur`);
    }
    const records = snapshotOf({
      epoch: this.guard.epoch,
      maildir: this.maildir,
      uidValidityLast: this.#uidValidityLast,
      orphans: this.keys.orphans(Math.floor(Date.now() / 1000) - keyKeptSeconds),
      entries: this.#entries.values(),
    });
    await this.journal.compact(records);
    this.guard.assert();
    for (const { folder } of this.#entries.values()) if (folder) folder.unclean = false;
  }

  #entry(name: string): FolderEntry {
    const entry =
      this.#entries.get(name) ?? this.#entries.get(canonicalFolderName(name, this.limits.folderNameBytesMax));
    if (!entry) throw noSuchFolder();
    return entry;
  }

  #hasUse(use: SpecialUse): boolean {
    return [...this.#entries.values()].some((entry) => entry.meta.specialUse === use);
  }

  #path(directory: string): string {
    return directory === '' ? this.maildir : path.join(this.maildir, directory);
  }

  #nextUidValidity(): number {
    this.#uidValidityLast = Math.max(Math.floor(Date.now() / 1000), this.#uidValidityLast + 1);
    return this.#uidValidityLast;
  }

  #foldersChanged(): void {
    this.#list = undefined;
    for (const watcher of [...this.#watchers]) {
      try {
        watcher();
      } catch (error) {
        this.log.error({ event: 'watcher-failed', err: error }, 'a watcher of the folders threw');
      }
    }
  }

  /** Folders that were being made or removed when a process ended. */
  async #clearDebris(): Promise<void> {
    for (const name of await listDirectory(this.#directory)) {
      if (isFolderDebris(name)) {
        this.background(removeTree(path.join(this.#directory, name)));
      }
    }
  }

  /** Directory and memory must not part: any error here takes the account out. */
  async #orBreak(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.breakOff(error);
      throw error;
    }
  }

  async #change<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.lane.run(async () => {
        this.check();
        return work();
      });
    } catch (error) {
      throw this.failed(error, what);
    }
  }
}

/** An account that moves to another owner must not wait for thousands of renames: the journal has them. */
async function finishLateWork(folders: readonly MaildirFolder[]): Promise<void> {
  const timer = setTimeout(() => {
    for (const folder of folders) folder.late.abandon();
  }, lateWorkMs);
  for (const folder of folders) await folder.late.settled();
  clearTimeout(timer);
}

function noSuchFolder(): Fault {
  return new Fault('no-such-folder', 'there is no such folder');
}

function brokenFault(error: unknown): Fault {
  return new Fault('storage-failed', 'the storage failed', { cause: error });
}
