/**
 * A Maildir folder: a file per message, whose name says what is known of it.
 * What does not depend on that is in `stored-folder.ts`.
 */
import { errnoOf } from '../../base/fault.ts';
import { bringFiles } from './bring-files.ts';
import { copyMessages } from './copier.ts';
import { copyAcross } from './copy-across.ts';
import { DirectorySync } from './directory-sync.ts';
import { openFile, readSmall } from './files.ts';
import type { LoadedFolder, SeenTimes } from './folder-load.ts';
import type { FolderMeta } from './folder-meta.ts';
import { rescan } from './foreign-files.ts';
import { IncomingMessage, type Publish } from './incoming.ts';
import { saveIndex } from './index-file.ts';
import { LateFiles } from './late-files.ts';
import { messageCache } from './message-cache.ts';
import { fileBytesIn } from './message-name.ts';
import { openMessage, WholeMessage, wholeBytesMax, wholeMessage } from './open-message.ts';
import type { OperationId } from './operations.ts';
import type { AppendFacts, Incoming, OpenMessage } from './store.ts';
import type { StoreHost } from './store-host.ts';
import { type Brought, goneMessage, StoredFolder } from './stored-folder.ts';

/** What a look into the directory takes, until one was measured. */
const lookMsPerMessage = 0.003;
let foldersMade = 0;

export class MaildirFolder extends StoredFolder {
  readonly format = 'maildir';
  /** Times of the directories at the last look. */
  seen: SeenTimes;
  /** Own changes since the last look: `cur/` has a new time anyway. */
  ownChanges = 0;
  lookMs = 0;
  lookedAtMs = 0;
  /** What the index file shows, if it was read. */
  readonly indexed: LoadedFolder['indexed'];
  readonly late: LateFiles;
  readonly #cur = new DirectorySync();
  readonly #publish: Publish;
  /** Of this object alone: another opening of the account begins with nothing. */
  readonly #cachePrefix = `${++foldersMade}:`;
  #looking: Promise<void> | undefined;

  constructor(
    host: StoreHost,
    name: string,
    directory: string,
    meta: FolderMeta,
    loaded: LoadedFolder,
    publish: (folder: MaildirFolder) => Publish,
  ) {
    super(host, name, directory, meta, loaded.state, loaded.findings.unclean);
    this.seen = loaded.seen;
    this.indexed = loaded.indexed;
    if (loaded.indexed?.exact === false) {
      // Believed for now: a look would read all names, which the index saved. It comes a little later.
      this.ownChanges = 1;
      this.lookedAtMs = performance.now();
      this.lookMs = loaded.state.columns.count * lookMsPerMessage;
    }
    this.late = new LateFiles(this);
    this.#publish = publish(this);
  }

  held(uid: number): Buffer | undefined {
    this.check();
    if (this.state.columns.find(uid) < 0) return undefined;
    return this.pending.bytesOf(uid) ?? messageCache.get(this.#cachePrefix + uid);
  }

  async open(uid: number, mayLook = true): Promise<OpenMessage> {
    for (let attempt = 0; ; attempt++) {
      this.check();
      const at = this.state.columns.find(uid);
      if (at < 0) throw goneMessage();
      const cacheKey = this.#cachePrefix + uid;
      const held = this.pending.bytesOf(uid) ?? messageCache.get(cacheKey);
      if (held !== undefined) return new WholeMessage(held);
      const text = this.state.columns.nameOf(at);
      const size = this.state.columns.size[at]!;
      const fileBytes = fileBytesIn(text) ?? size;
      try {
        if (size > wholeBytesMax) return openMessage(await openFile(this.file(text), 'r'), size, fileBytes);
        const whole = wholeMessage(await readSmall(this.file(text), fileBytes), size, fileBytes);
        messageCache.put(cacheKey, whole);
        return new WholeMessage(whole);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw this.host.failed(error, 'message-open');
        // Renamed meanwhile, by the showing of flags or by another program.
        if (attempt >= 2) throw goneMessage();
        if (attempt === 1 && mayLook) await this.look();
      }
    }
  }

  async append(facts: AppendFacts, sizeHint: number | undefined): Promise<Incoming> {
    return new IncomingMessage(this, this.admit(facts, sizeHint), this.#publish);
  }

  refresh(): Promise<void> {
    this.#looking ??= rescan(this, false).finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** Looks into the directory although its times may not have changed. */
  async look(): Promise<void> {
    await this.#looking?.catch(() => {});
    await rescan(this, true);
  }

  async copyInto(
    target: StoredFolder,
    uids: readonly number[],
    move: boolean,
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]> {
    return target instanceof MaildirFolder
      ? copyMessages(this, target, uids, move, operation)
      : copyAcross(this, target, uids, move, operation);
  }

  file(name: string): string {
    return `${this.directory}/cur/${name}`;
  }

  /** Makes renames into `cur/` durable. */
  syncCur(): Promise<void> {
    return this.#cur.sync(`${this.directory}/cur`);
  }

  bring(messages: readonly Brought[]): Promise<string[]> {
    return bringFiles(this, messages);
  }

  /** They have names that no UID of ours has: they can wait. */
  async settleForeign(): Promise<void> {}

  syncShown(): Promise<void> {
    return this.syncCur();
  }

  saveIndex(): Promise<void> {
    return saveIndex(this);
  }

  protected letGo(): void {
    this.#cur.close();
  }
}
