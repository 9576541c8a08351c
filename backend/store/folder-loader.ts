/** Indexes a folder of an account on first use, whatever its format. */
import path from 'node:path';
import { errnoOf } from '../../base/fault.ts';
import { makeDirectories } from './files.ts';
import { type FolderEntry, placeOf } from './folder-entry.ts';
import { loadFolder } from './folder-load.ts';
import { takeIn } from './foreign-files.ts';
import type { Publish } from './incoming.ts';
import { loadIndexed } from './index-file.ts';
import type { KeptKey } from './journal-records.ts';
import { MaildirFolder } from './maildir-folder.ts';
import { MboxFolder } from './mbox/mbox-folder.ts';
import { loadMbox } from './mbox/mbox-load.ts';
import type { StoreHost } from './store-host.ts';
import type { StoredFolder } from './stored-folder.ts';

export class FolderLoader {
  readonly #host: StoreHost;
  readonly #directory: string;
  readonly #journalWhole: boolean;
  readonly #publishInto: (folder: MaildirFolder) => Publish;

  /**
   * @param directory  The account's. @param journalWhole  The journal was found, and nothing in it was damaged.
   * @param publishInto  Where prepared messages of a folder go.
   */
  constructor(
    host: StoreHost,
    directory: string,
    journalWhole: boolean,
    publishInto: (folder: MaildirFolder) => Publish,
  ) {
    this.#host = host;
    this.#directory = directory;
    this.#journalWhole = journalWhole;
    this.#publishInto = publishInto;
  }

  /** In the lane, or before anyone knows the store. */
  async load(entry: FolderEntry): Promise<StoredFolder> {
    if (entry.folder) return entry.folder;
    const place = placeOf(this.#directory, entry.format, entry.directory);
    if (entry.format === 'mbox') return this.#loadMbox(entry, place);
    const load = async () =>
      (this.#journalWhole ? await loadIndexed(place, entry.meta, entry.records) : undefined) ??
      loadFolder(place, entry.meta, entry.records, this.#journalWhole);
    const loaded = await load().catch(async (error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
      for (const name of ['cur', 'new', 'tmp']) await makeDirectories(path.join(place, name));
      return load();
    });
    const folder = new MaildirFolder(this.#host, entry.name, place, entry.meta, loaded, this.#publishInto);
    this.#countIn(entry, folder, loaded.findings.keys);
    if (loaded.findings.purge !== undefined) folder.late.purge(loaded.findings.unlink, loaded.findings.purge);
    folder.late.showFlags(loaded.findings.unshown);
    if (loaded.foreign.length > 0) await takeIn(folder, loaded.foreign);
    entry.records = [];
    entry.folder = folder;
    return folder;
  }

  async #loadMbox(entry: FolderEntry, place: string): Promise<StoredFolder> {
    const loaded = await loadMbox(place, entry.meta, entry.records, this.#journalWhole, this.#host);
    const folder = new MboxFolder(this.#host, entry.name, place, entry.meta, loaded);
    this.#countIn(entry, folder, loaded.findings.keys);
    if (loaded.findings.purge !== undefined) folder.late.purge([], loaded.findings.purge);
    if (loaded.hasForeign) await folder.settleForeign();
    entry.records = [];
    entry.folder = folder;
    return folder;
  }

  /** What was known of it from the journal is now known exactly. */
  #countIn(entry: FolderEntry, folder: StoredFolder, keys: readonly KeptKey[]): void {
    this.#host.usage.bytes += folder.sizeBytes - entry.known.bytes;
    this.#host.usage.messages += folder.count - entry.known.messages;
    for (const [key, uid, seconds] of keys) {
      this.#host.keys.stored(key, { mailboxId: folder.mailboxId, uid, seconds });
    }
  }
}
