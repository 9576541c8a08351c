/**
 * An mbox folder: all messages in one file, whose `From ` lines say what is
 * known of each (`from-line.ts`). Journal, lane, flags, sequences and expunges
 * are those of every folder (`stored-folder.ts`).
 */
import { errnoOf, Fault } from '../../../base/fault.ts';
import { copyAcross } from '../copy-across.ts';
import { readAt } from '../files.ts';
import type { FolderMeta } from '../folder-meta.ts';
import type { JournalRecord } from '../journal-records.ts';
import { messageCache } from '../message-cache.ts';
import { formatMessageName, type MessageName, parseMessageName } from '../message-name.ts';
import { WholeMessage, wholeBytesMax } from '../open-message.ts';
import type { OperationId } from '../operations.ts';
import type { AppendFacts, Incoming, OpenMessage } from '../store.ts';
import type { StoreHost } from '../store-host.ts';
import { type Brought, goneMessage, StoredFolder } from '../stored-folder.ts';
import { formatFromLine } from './from-line.ts';
import type { MboxFile } from './mbox-file.ts';
import { MboxIncoming } from './mbox-incoming.ts';
import { saveMboxIndex } from './mbox-index.ts';
import { MboxLate } from './mbox-late.ts';
import type { LoadedMbox } from './mbox-load.ts';
import { type Marks, MboxMessage, viewWhole } from './mbox-message.ts';
import { MboxPublisher } from './mbox-publisher.ts';
import { rescanMbox } from './mbox-rescan.ts';
import type { Place } from './places.ts';
import { seenOf } from './seen-file.ts';
import { formBit } from './stored-form.ts';
import { appendedMessage, prepareMessage } from './stored-message.ts';
import type { TakenNames } from './taken-names.ts';

/** Large messages whose marks are kept. */
const markedMax = 8;
/** A program that keeps writing without a lock is given up on after so many looks. */
const looksMax = 5;
let foldersMade = 0;

export class MboxFolder extends StoredFolder {
  readonly format = 'mbox';
  readonly file: MboxFile;
  /** Sequence the index file shows, if it was read. */
  readonly indexed: number | undefined;
  readonly late: MboxLate;
  /** Messages whose `From ` line does not say their name. */
  readonly taken: TakenNames;
  readonly #publisher: MboxPublisher;
  /** Of this object alone: another opening of the account begins with nothing. */
  readonly #cachePrefix = `m${++foldersMade}:`;
  readonly #marks = new Map<number, Marks>();
  /** Large messages that are being read: they stay in the file. */
  readonly #pinned = new Map<number, number>();
  #looking: Promise<void> | undefined;

  constructor(host: StoreHost, name: string, directory: string, meta: FolderMeta, loaded: LoadedMbox) {
    super(host, name, directory, meta, loaded.state, loaded.findings.unclean);
    this.file = loaded.file;
    this.taken = loaded.taken;
    this.indexed = loaded.indexed;
    this.late = new MboxLate(this);
    this.#publisher = new MboxPublisher(this);
  }

  held(uid: number): Buffer | undefined {
    this.check();
    return this.state.columns.find(uid) < 0 ? undefined : messageCache.get(this.#cachePrefix + uid);
  }

  async open(uid: number, mayLook = true): Promise<OpenMessage> {
    this.check();
    const held = this.held(uid);
    if (held !== undefined) return new WholeMessage(held);
    const name = this.#nameOf(uid);
    if (name.size > wholeBytesMax) return this.#openLarge(uid, name, mayLook);
    for (let looks = 0; looks < looksMax; looks++) {
      const { place, bytes } = await this.#read(uid, 0, Number.MAX_SAFE_INTEGER, mayLook);
      const whole = viewWhole(bytes, place, this.#nameOf(uid).fileBytes, name.size);
      if (whole !== undefined) {
        messageCache.put(this.#cachePrefix + uid, whole);
        return new WholeMessage(whole);
      }
      if (!mayLook) break;
      await this.look();
    }
    throw goneMessage();
  }

  #openLarge(uid: number, name: MessageName, mayLook: boolean): OpenMessage {
    let marks = this.#marks.get(uid);
    if (!marks) {
      marks = [];
      this.#marks.set(uid, marks);
      if (this.#marks.size > markedMax) this.#marks.delete(this.#marks.keys().next().value!);
    }
    this.#pinned.set(uid, (this.#pinned.get(uid) ?? 0) + 1);
    let open = true;
    return new MboxMessage(
      name.size,
      name.fileBytes,
      (from, bytesMax) => this.#read(uid, from, bytesMax, mayLook),
      marks,
      () => {
        if (!open) return;
        open = false;
        const left = this.#pinned.get(uid)! - 1;
        if (left > 0) this.#pinned.set(uid, left);
        else this.#pinned.delete(uid);
      },
    );
  }

  #nameOf(uid: number): MessageName {
    const at = this.state.columns.find(uid);
    if (at < 0) throw goneMessage();
    return parseMessageName(this.state.columns.nameOf(at))!;
  }

  /** Looks at the mbox again when another program has changed it. */
  async #read(
    uid: number,
    from: number,
    bytesMax: number,
    mayLook: boolean,
  ): Promise<{ place: Place; bytes: Buffer }> {
    for (let looks = 0; looks < looksMax; looks++) {
      this.check();
      try {
        const read = await this.file.read(uid, from, bytesMax);
        if (read) return read;
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw this.host.failed(error, 'message-open');
      }
      if (!mayLook) break;
      await this.refresh();
      if (this.state.columns.find(uid) < 0 && !this.#pinned.has(uid)) throw goneMessage();
    }
    throw new Fault('busy', 'another program keeps writing to the mailbox without locking it');
  }

  async append(facts: AppendFacts, sizeHint: number | undefined): Promise<Incoming> {
    return new MboxIncoming(this, this.admit(facts, sizeHint));
  }

  /** For `MboxIncoming`. */
  publish(arrival: Parameters<MboxPublisher['publish']>[0]): Promise<number> {
    return this.#publisher.publish(arrival);
  }

  refresh(): Promise<void> {
    this.#looking ??= rescanMbox(this, false).finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async look(): Promise<void> {
    await this.#looking?.catch(() => {});
    await rescanMbox(this, true);
  }

  override moved(directory: string): void {
    super.moved(directory);
    this.file.directory = directory;
  }

  copyInto(
    target: StoredFolder,
    uids: readonly number[],
    move: boolean,
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]> {
    return copyAcross(this, target, uids, move, operation);
  }

  settleForeign(): Promise<void> {
    return this.file.locked(async (fd) => {
      if (!(await this.file.isSame())) await rescanMbox.underLock(this, fd);
    });
  }

  override alone<T>(work: () => Promise<T>): Promise<T> {
    return this.file.locked(async (fd) => {
      if (!(await this.file.isSame())) await rescanMbox.underLock(this, fd);
      return work();
    });
  }

  async bring(messages: readonly Brought[]): Promise<string[]> {
    const names: string[] = [];
    await this.file.locked(async (fd) => {
      // A program that appended since gets its UIDs later: those of the messages to come are settled.
      const { file } = this;
      const hasGaps = !(await file.isSame());
      if (hasGaps && !(await rescanMbox.onlyGrew(file, fd))) {
        throw new Fault('busy', 'another program is writing to the mailbox');
      }
      if (hasGaps) file.seen = await seenOf(fd);
      const all = [];
      const sums: number[] = [];
      for (const { name, pieces } of messages) {
        const prepared = await prepareMessage(pieces);
        sums.push(prepared.sum);
        all.push(appendedMessage(prepared, name));
      }
      if (all.length === 0) return;
      await this.commit(this.comingRecord(all[0]!.uid, sums));
      await file.append(fd, all);
      if (hasGaps) {
        file.hasGaps = true;
        file.seen = undefined;
      }
      names.push(...all.map(({ text }) => text));
    });
    return names;
  }

  comingRecord(firstUid: number, sums: readonly number[]): JournalRecord {
    return { t: 'coming', f: this.mailboxId, at: this.file.seen!.size, n: firstUid, c: sums };
  }

  override moreRecords(): Generator<JournalRecord> {
    return this.taken.records(this.mailboxId);
  }

  /** The journal holds what an mbox does not show. */
  async syncShown(): Promise<void> {}

  saveIndex(): Promise<void> {
    return saveMboxIndex(this);
  }

  protected letGo(): void {
    this.#marks.clear();
  }

  /** Cuts expunged messages out, and gives those names that have none. @returns false: not now. */
  async rewriteFile(): Promise<boolean> {
    const { file, host, state } = this;
    return file.locked(async (fd) => {
      host.mayFinish();
      if (!file.seen || !(await rescanMbox.onlyGrew(file, fd))) return false;
      const unnamed = new Map<number, { line: Buffer; form: number; text: string }>();
      for (const place of file.places) {
        const at = place.named ? -1 : state.columns.find(place.uid);
        if (at >= 0) unnamed.set(place.uid, await nameForeign(fd, place, state.columns.nameOf(at)));
      }
      let pinned = false;
      const leaves = (uid: number): boolean => state.columns.find(uid) < 0 && !this.#pinned.has(uid);
      for (const place of file.places) pinned ||= state.columns.find(place.uid) < 0 && !leaves(place.uid);
      await host.journal.append({ t: 'coming', f: this.mailboxId, at: -1, n: 0, c: [] });
      this.unclean = true;
      await file.rewrite(
        fd,
        (place) => (leaves(place.uid) ? undefined : (unnamed.get(place.uid) ?? {})),
        () => host.mayFinish(),
      );
      for (const [uid, { text }] of unnamed) {
        const at = state.columns.find(uid);
        if (at >= 0) state.columns.setName(at, text);
      }
      this.taken.keepOnly((uid) => file.places.get(uid)?.named === false);
      return !pinned;
    });
  }
}

/** The `From ` line of a message another program wrote. */
export async function nameForeign(
  fd: number,
  place: Place,
  text: string,
): Promise<{ line: Buffer; form: number; text: string }> {
  const name = parseMessageName(text)!;
  const stored = place.end - place.start;
  const last = stored === 0 ? 10 : (await readAt(fd, place.end - 1, 1))[0];
  const open = last === 10 ? 0 : 1;
  const form = place.form | (open ? formBit.openEnd : 0);
  const given = formatMessageName({ ...name, fileBytes: stored + open });
  return { line: Buffer.from(formatFromLine(given, form, name.seconds), 'latin1'), form, text: given };
}
