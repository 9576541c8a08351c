/**
 * The folders of one account: which there are, how they come, go and change
 * their names. A change of the tree is a rename of whole directories: after a
 * crash there is the tree before it or the one after it, never one in between.
 */
import { Fault } from '../../base/fault.ts';
import { takeOverDovecot } from './dovecot/take-over.ts';
import { uidListName } from './dovecot/uid-list.ts';
import { eachAtOnce, makeDirectories, removeTree, renameFile, syncDirectory } from './files.ts';
import { convertFolder } from './folder-conversion.ts';
import {
  clearFolderDebris,
  deletedPath,
  type FolderEntry,
  isFolder,
  listFolders,
  listingOf,
  makeFolderDirectory,
  noSuchFolder,
  placeOf,
  renamedEntries,
  rootOf,
} from './folder-entry.ts';
import { FolderLoader } from './folder-loader.ts';
import { metaName, newMeta, readMeta, writeMeta } from './folder-meta.ts';
import {
  canonicalFolderName,
  compareFolderNames,
  directoryOf,
  folderOfDirectory,
  usualUse,
} from './folder-name.ts';
import type { Publish } from './incoming.ts';
import { withoutMaking } from './intake/pending-files.ts';
import type { JournalRecord } from './journal-records.ts';
import type { AccountReplay } from './journal-replay.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { uidValidityNoted } from './mbox/uids-noted.ts';
import { intent, type OperationId, renaming } from './operations.ts';
import type { Folder, FolderFormat, FolderInfo, SpecialUse } from './store.ts';
import type { StoreHost } from './store-host.ts';
import type { StoredFolder } from './stored-folder.ts';
import { readSubscriptions, subscriptionsName, writeSubscriptions } from './subscriptions.ts';

/** RENAME of INBOX is two changes under one command's name: the folder's has this behind it. */
const inboxMade = '-made';

export class FolderTree {
  readonly #host: StoreHost;
  /** The account's directory. */
  readonly #directory: string;
  readonly #loader: FolderLoader;
  /** Until the folders are read. */
  #replay: AccountReplay | undefined;
  readonly #entries = new Map<string, FolderEntry>();
  readonly #watchers = new Set<() => void>();
  /** Whether there is such a folder or not. */
  subscribed: ReadonlySet<string> = new Set();
  #list: readonly FolderInfo[] | undefined;
  #uidValidityLast: number;

  /**
   * @param journalWhole  The journal was found, and nothing in it was damaged.
   * @param publishInto  Where prepared messages of a folder go.
   */
  constructor(
    host: StoreHost,
    directory: string,
    replay: AccountReplay,
    journalWhole: boolean,
    publishInto: (folder: MaildirFolder) => Publish,
  ) {
    this.#host = host;
    this.#directory = directory;
    this.#replay = replay;
    this.#loader = new FolderLoader(host, directory, journalWhole, publishInto);
    this.#uidValidityLast = replay.uidValidityLast;
  }

  entries(): IterableIterator<FolderEntry> {
    return this.#entries.values();
  }

  /** Folders whose messages are indexed. */
  loaded(): StoredFolder[] {
    return [...this.#entries.values()].flatMap((entry) => entry.folder ?? []);
  }

  /** No UIDVALIDITY up to here may be given again. */
  get uidValidityLast(): number {
    return this.#uidValidityLast;
  }

  /** Reads which folders there are, and indexes those whose contents the journal does not vouch for. */
  async load(): Promise<void> {
    const { names, mboxes, isNew } = await listFolders(this.#directory);
    const inMaildir = ['', ...names.filter((name) => name[0] === '.').sort()];
    const directories = [
      ...inMaildir
        .filter((directory) => !mboxes.includes(directory))
        .map((directory) => ['maildir', directory]),
      ...mboxes.map((directory) => ['mbox', directory]),
    ] as [FolderFormat, string][];
    const found: FolderEntry[] = [];
    // A new account, and its first folder is to be an mbox.
    const makesInbox = this.#host.format === 'mbox' && !mboxes.includes('') && (await isNew());
    await eachAtOnce(directories, async ([format, directory]) => {
      const name =
        directory === '' ? 'INBOX' : folderOfDirectory(directory, this.#host.limits.folderNameBytesMax);
      if (name === undefined) {
        this.#host.log.warn(
          { event: 'not-a-folder', directory },
          'directory is not a folder name of this store',
        );
        return;
      }
      if (name === 'INBOX' && makesInbox) return;
      const isRoot = directory === '' && format === 'maildir';
      const entry = await this.#readEntry(name, format, directory, isRoot ? names : undefined);
      if (entry) found.push(entry);
    });
    for (const entry of found.sort((a, b) => compareFolderNames(a.name, b.name))) {
      this.#entries.set(entry.name, entry);
    }
    if (names.includes(subscriptionsName)) {
      this.subscribed = await readSubscriptions(
        this.#host.maildir,
        this.#host.limits.folderNameBytesMax,
        (name) => this.#entries.has(name),
      );
    }
    await clearFolderDebris(this.#directory, this.#host);
    for (const entry of found) {
      this.#host.usage.bytes += entry.known.bytes;
      this.#host.usage.messages += entry.known.messages;
    }
    this.#host.operations.addMeant(this.#replay?.intents ?? [], found);
    this.#replay = undefined;
    if (makesInbox) await this.#makeFolder('INBOX', undefined);
    for (const entry of found) if (entry.records.at(-1)?.t !== 'clean') await this.#loader.load(entry);
  }

  list(): readonly FolderInfo[] {
    this.#host.check();
    if (this.#list) return this.#list;
    this.#list = listingOf(this.#entries, this.subscribed);
    return this.#list;
  }

  async open(name: string): Promise<Folder> {
    this.#host.check();
    const entry = this.#entry(name);
    if (entry.folder) return entry.folder;
    return this.#host.change('folder-open', () => this.#loader.load(this.#entry(name)));
  }

  create(name: string, specialUse?: SpecialUse, operation?: OperationId): Promise<Folder> {
    return this.#host.change('folder-create', async () => {
      const canonical = canonicalFolderName(name, this.#host.limits.folderNameBytesMax);
      if (this.#entries.has(canonical)) throw new Fault('already-exists', 'there is such a folder already');
      if (this.#entries.size >= this.#host.limits.foldersMax) {
        throw new Fault('limit-reached', 'there are too many folders');
      }
      if (specialUse && this.#hasUse(specialUse)) {
        throw new Fault('already-exists', 'another folder has this use');
      }
      const usual = usualUse[canonical];
      const use = specialUse ?? (usual && !this.#hasUse(usual) ? usual : undefined);
      const entry = await this.#makeFolder(canonical, use, operation);
      this.#foldersChanged();
      return this.#loader.load(entry);
    });
  }

  delete(name: string, operation?: OperationId): Promise<void> {
    return this.#host.change('folder-delete', async () => {
      const entry = this.#entry(name);
      if (entry.name === 'INBOX') throw new Fault('not-allowed', 'INBOX cannot be deleted');
      await entry.folder?.late.settled();
      await withoutMaking([entry.folder], () => this.#remove(entry, operation));
    });
  }

  async #remove(entry: FolderEntry, operation: OperationId | undefined): Promise<void> {
    const away = deletedPath(this.#directory);
    // A folder of the same name must not come back with the same UIDVALIDITY.
    const meant = intent('removing', entry.meta.mailboxId, operation);
    await this.#host.journal.append({ t: 'uidvalidity', n: this.#uidValidityLast }, ...meant);
    this.#host.guard.assert();
    await this.#host.orBreak(async () => {
      await renameFile(this.#place(entry), away);
      await syncDirectory(rootOf(this.#directory, entry.format));
    });
    for (const record of meant) this.#host.operations.done(record);
    this.#entries.delete(entry.name);
    this.#host.usage.bytes -= entry.folder ? entry.folder.sizeBytes : entry.known.bytes;
    this.#host.usage.messages -= entry.folder ? entry.folder.count : entry.known.messages;
    if (entry.folder) {
      entry.folder.removed = true;
      entry.folder.emit({ kind: 'gone' });
    }
    this.#host.background(removeTree(away));
    this.#foldersChanged();
  }

  rename(from: string, to: string, operation?: OperationId): Promise<void> {
    return this.#host.change('folder-rename', async () => {
      const target = canonicalFolderName(to, this.#host.limits.folderNameBytesMax);
      const begun = this.#host.operations.of(`${operation}${inboxMade}`) !== undefined;
      if (this.#entries.has(target) && !begun)
        throw new Fault('already-exists', 'there is such a folder already');
      const source = canonicalFolderName(from, this.#host.limits.folderNameBytesMax);
      if (source === 'INBOX') return this.#renameInbox(target, operation);
      const next = renamedEntries(this.#entries, source, target, this.#host.limits.folderNameBytesMax);
      for (const { entry } of next) await entry.folder?.late.settled();
      const folders = next.map(({ entry }) => entry.folder);
      await withoutMaking(folders, async () => {
        const record = renaming(directoryOf(source), directoryOf(target), operation);
        await this.#host.journal.append(record);
        this.#host.guard.assert();
        await this.#host.orBreak(async () => {
          for (const { entry, directory } of next) {
            await renameFile(this.#place(entry), placeOf(this.#directory, entry.format, directory));
          }
          for (const format of new Set(next.map(({ entry }) => entry.format))) {
            await syncDirectory(rootOf(this.#directory, format));
          }
          await this.#host.journal.append({ t: 'renamed' });
          this.#host.guard.assert();
        });
        this.#host.operations.done(record);
        for (const { entry } of next) this.#entries.delete(entry.name);
        for (const { entry, name, directory } of next) {
          entry.name = name;
          entry.directory = directory;
          this.#entries.set(name, entry);
          if (entry.folder) {
            entry.folder.name = name;
            entry.folder.moved(this.#place(entry));
          }
        }
        this.#foldersChanged();
      });
    });
  }

  /** See `Store.convertFolder`. */
  async convert(name: string, to: FolderFormat): Promise<void> {
    if (this.#entry(name).format === to) return;
    // Whatever other programs brought gets its UID before.
    await ((await this.open(name)) as StoredFolder).look();
    await this.#host.change('folder-convert', async () => {
      const entry = this.#entry(name);
      const folder = await this.#loader.load(entry);
      const records = await convertFolder(this.#host, this.#directory, entry.directory, folder, to);
      folder.removed = true;
      folder.emit({ kind: 'gone' });
      const known = { bytes: folder.sizeBytes, messages: folder.count };
      Object.assign(entry, { format: to, meta: folder.meta, records, known, folder: undefined });
      await this.#loader.load(entry);
      this.#foldersChanged();
    });
  }

  setSubscribed(name: string, subscribed: boolean): Promise<void> {
    return this.#host.change('subscribe', async () => {
      const canonical = canonicalFolderName(name, this.#host.limits.folderNameBytesMax);
      if (this.subscribed.has(canonical) === subscribed) return;
      if (subscribed && !this.list().some((folder) => folder.name === canonical)) throw noSuchFolder();
      const next = new Set(this.subscribed);
      if (subscribed) next.add(canonical);
      else next.delete(canonical);
      await writeSubscriptions(this.#host.maildir, next);
      this.#host.guard.assert();
      this.subscribed = next;
      this.#foldersChanged();
    });
  }

  watch(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Nobody is told anything any more. */
  endWatches(): void {
    this.#watchers.clear();
  }

  /** @param names  What is in the directory, where that is known. */
  async #readEntry(
    name: string,
    format: FolderFormat,
    directory: string,
    names: readonly string[] | undefined,
  ): Promise<FolderEntry | undefined> {
    const place = placeOf(this.#directory, format, directory);
    let meta = names?.includes(metaName) === false ? undefined : await readMeta(place);
    if (!meta && !names && !(await isFolder(place, format))) return undefined;
    let records: readonly JournalRecord[] = (meta && this.#replay?.folders.get(meta.mailboxId)) ?? [];
    const mayBeDovecots = format === 'maildir' && names?.includes(uidListName) !== false;
    if (meta ? meta.takeOver : mayBeDovecots) {
      const taken = await takeOverDovecot(
        { directory: place, relative: directory, meta, records, host: this.#host },
        Date.now(),
      );
      if (taken) ({ meta, records } = taken);
    }
    if (!meta) {
      const before = this.#replay?.directories.get(directory);
      const noted = !before && format === 'mbox' ? await uidValidityNoted(place) : undefined;
      meta = newMeta(before?.uidValidity ?? noted ?? this.#nextUidValidity());
      if (before) meta = { ...meta, mailboxId: before.mailboxId };
      if (directory !== '')
        this.#host.log.info({ event: 'folder-taken-in', folder: name }, 'folder taken in');
      await writeMeta(place, meta);
      records = this.#replay?.folders.get(meta.mailboxId) ?? [];
    }
    this.#uidValidityLast = Math.max(this.#uidValidityLast, meta.uidValidity);
    const last = records.at(-1);
    const known = last?.t === 'clean' ? { bytes: last.b, messages: last.c } : { bytes: 0, messages: 0 };
    return { name, format, directory, meta, records, known, folder: undefined };
  }

  async #makeFolder(
    name: string,
    specialUse: SpecialUse | undefined,
    operation?: OperationId,
  ): Promise<FolderEntry> {
    const directory = directoryOf(name);
    const meta = newMeta(this.#nextUidValidity(), specialUse);
    const meant = intent('making', meta.mailboxId, operation);
    if (meant.length > 0) await this.#host.journal.append(...meant);
    const { format } = this.#host;
    const root = rootOf(this.#directory, format);
    if (format === 'mbox') await makeDirectories(root);
    const place = placeOf(this.#directory, format, directory);
    await makeFolderDirectory(this.#directory, place, format, meta, () => this.#host.guard.assert());
    await this.#host.orBreak(async () => {
      await syncDirectory(root);
      if (format === 'mbox') await syncDirectory(this.#directory);
      this.#host.guard.assert();
    });
    const entry: FolderEntry = {
      name,
      format,
      directory,
      meta,
      records: [],
      known: { bytes: 0, messages: 0 },
      folder: undefined,
    };
    this.#entries.set(name, entry);
    for (const record of meant) this.#host.operations.done(record);
    return entry;
  }

  /** RFC 9051 6.3.6: INBOX stays, its messages move. */
  async #renameInbox(target: string, operation: OperationId | undefined): Promise<void> {
    const inbox = await this.#loader.load(this.#entry('INBOX'));
    // A command that comes again may have made the folder before its owner went.
    const entry =
      this.#entries.get(target) ??
      (await this.#makeFolder(target, undefined, operation && `${operation}${inboxMade}`));
    const folder = await this.#loader.load(entry);
    this.#foldersChanged();
    await inbox.moveInLane(folder, [...inbox.uids()], operation);
  }

  #entry(name: string): FolderEntry {
    const { folderNameBytesMax } = this.#host.limits;
    const entry = this.#entries.get(name) ?? this.#entries.get(canonicalFolderName(name, folderNameBytesMax));
    if (!entry) throw noSuchFolder();
    return entry;
  }

  #hasUse(use: SpecialUse): boolean {
    return [...this.#entries.values()].some((entry) => entry.meta.specialUse === use);
  }

  #place({ format, directory }: FolderEntry): string {
    return placeOf(this.#directory, format, directory);
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
        this.#host.log.error({ event: 'watcher-failed', err: error }, 'a watcher of the folders threw');
      }
    }
  }
}
