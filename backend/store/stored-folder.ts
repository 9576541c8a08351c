/**
 * A folder as sessions use it, whatever its files look like. Every change runs
 * in the account's lane: plan from the state, make it durable, look at the
 * lease once more, change the state, tell who watches. Files follow where they may.
 */
import { Fault } from '../../base/fault.ts';
import { storageFault } from './files.ts';
import { type FolderMeta, modseqBlock, uidBlock, writeMeta } from './folder-meta.ts';
import type { FolderState } from './folder-state.ts';
import { PendingFiles, withoutMaking } from './intake/pending-files.ts';
import type { JournalRecord, KeptKey } from './journal-records.ts';
import type { LateWork } from './late-work.ts';
import { type MessageName, parseMessageName } from './message-name.ts';
import { type OperationId, stamp } from './operations.ts';
import {
  type AppendFacts,
  type FlagChange,
  type Folder,
  type FolderEvent,
  type FolderFormat,
  flagBit,
  type Incoming,
  type MessageFacts,
  type OpenMessage,
} from './store.ts';
import type { StoreHost } from './store-host.ts';
import { formatUidSet } from './uid-set.ts';

const uidMax = 0xfffffffe;

/** A message that comes from another folder. */
export interface Brought {
  readonly name: MessageName;
  /** The same bytes each time. */
  pieces(): AsyncIterable<Buffer>;
}

export abstract class StoredFolder implements Folder {
  name: string;
  directory: string;
  meta: FolderMeta;
  readonly host: StoreHost;
  readonly state: FolderState;
  /** Journal records since the files last showed everything. */
  unclean: boolean;
  removed = false;
  /** Messages that the intake log has, and whose files are not durable yet. */
  readonly pending = new PendingFiles();
  readonly uidAtOpening: number;
  abstract readonly format: FolderFormat;
  abstract readonly late: LateWork;
  readonly #listeners = new Set<(event: FolderEvent) => void>();

  constructor(
    host: StoreHost,
    name: string,
    directory: string,
    meta: FolderMeta,
    state: FolderState,
    unclean: boolean,
  ) {
    this.host = host;
    this.name = name;
    this.directory = directory;
    this.meta = meta;
    this.state = state;
    this.uidAtOpening = state.uidNext;
    this.unclean = unclean;
  }

  get mailboxId(): string {
    return this.meta.mailboxId;
  }
  get uidValidity(): number {
    return this.meta.uidValidity;
  }
  get uidNext(): number {
    return this.state.uidNext;
  }
  get highestModseq(): number {
    return this.state.highestModseq;
  }
  get count(): number {
    return this.state.columns.count;
  }
  get unseenCount(): number {
    return this.state.unseenCount;
  }
  get sizeBytes(): number {
    return this.state.sizeBytes;
  }
  get keywords(): readonly string[] {
    return this.state.keywords;
  }

  uids(): Uint32Array {
    return this.state.columns.uids();
  }

  facts(uid: number): MessageFacts | undefined {
    return this.state.facts(uid);
  }

  flagsOf(uid: number): number | undefined {
    const at = this.state.columns.find(uid);
    return at < 0 ? undefined : this.state.columns.flags[at]!;
  }

  savedDateMs(uid: number): number | undefined {
    return this.state.savedDateMs(uid);
  }

  modseqOf(uid: number): number | undefined {
    const at = this.state.columns.find(uid);
    return at < 0 ? undefined : this.state.columns.modseq[at]!;
  }

  expungesNoted(modseq: number): readonly (readonly [number, number])[] | undefined {
    return this.state.goneNoted(modseq);
  }

  expungedSince(modseq: number): readonly (readonly [number, number])[] | undefined {
    return this.state.goneSince(modseq);
  }

  watch(listener: (event: FolderEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(event: FolderEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        this.host.log.error({ event: 'watcher-failed', err: error }, 'a watcher of a folder threw');
      }
    }
    if (event.kind !== 'gone') return;
    this.#listeners.clear();
    this.letGo();
  }

  abstract held(uid: number): Buffer | undefined;

  /** @param mayLook  false: not when the caller is in the lane, which a look would wait for. */
  abstract open(uid: number, mayLook?: boolean): Promise<OpenMessage>;

  abstract append(facts: AppendFacts, sizeHint: number | undefined): Promise<Incoming>;

  abstract refresh(): Promise<void>;

  changeFlags(
    uids: readonly number[],
    change: FlagChange,
    operation?: OperationId,
  ): Promise<readonly number[]> {
    return this.#change('change-flags', async () => {
      const keywords =
        change.how === 'remove'
          ? change.keywords
          : this.state.checkKeywords(change.keywords, this.host.limits.keywordsPerFolderMax);
      const exact: FlagChange = { how: change.how, flags: change.flags & 31, keywords };
      const newest = change.unchangedSince ?? Number.POSITIVE_INFINITY;
      const changed = this.existing(uids).filter((uid) => {
        const at = this.state.columns.find(uid);
        return this.state.columns.modseq[at]! <= newest && this.state.changes(at, exact);
      });
      if (changed.length === 0) return [];
      await this.reserve(0, 1);
      const modseq = this.state.highestModseq + 1;
      const record: JournalRecord = {
        t: 'flags',
        f: this.mailboxId,
        u: formatUidSet(changed),
        how: exact.how,
        fl: exact.flags,
        ...(keywords.length > 0 ? { kw: keywords } : {}),
        m: modseq,
        ...stamp(operation),
      };
      await this.commit(record);
      for (const uid of changed) this.state.applyFlags(this.state.columns.find(uid), exact, modseq);
      this.late.showFlags(changed);
      this.emit({ kind: 'flags', uids: changed, modseq });
      return changed;
    });
  }

  expunge(uids: readonly number[], markedOnly = false, operation?: OperationId): Promise<readonly number[]> {
    return this.#change('expunge', async () => {
      const leaving = this.existing(uids).filter(
        (uid) => !markedOnly || (this.flagsOf(uid)! & flagBit.deleted) !== 0,
      );
      if (leaving.length === 0) return [];
      await withoutMaking([this], () => this.#expungeNow(leaving, operation));
      return leaving;
    });
  }

  async #expungeNow(leaving: readonly number[], operation: OperationId | undefined): Promise<void> {
    await this.reserve(0, 1);
    const modseq = this.state.highestModseq + 1;
    const kept = this.keysOf(leaving);
    const set = formatUidSet(leaving);
    const keys = kept.length > 0 ? { k: kept } : {};
    await this.commit({ t: 'gone', f: this.mailboxId, u: set, m: modseq, ...keys, ...stamp(operation) });
    const names = this.dropMessages(leaving, set, modseq, kept);
    this.late.purge(names, modseq);
    this.emit({ kind: 'expunged', uids: leaving, modseq });
  }

  copyTo(
    target: Folder,
    uids: readonly number[],
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]> {
    return this.#change('copy', () => this.copyInto(asStored(target), this.existing(uids), false, operation));
  }

  moveTo(
    target: Folder,
    uids: readonly number[],
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]> {
    return this.#change('move', () => this.copyInto(asStored(target), this.existing(uids), true, operation));
  }

  // What follows is for the parts of the store, not for sessions.

  /** The folder's directory has another place now. */
  moved(directory: string): void {
    this.directory = directory;
  }

  /** COPY and MOVE, in the lane. @param uids Existing, ascending. */
  abstract copyInto(
    target: StoredFolder,
    uids: readonly number[],
    move: boolean,
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]>;

  /** Looks at the files although nothing tells that they changed. */
  abstract look(): Promise<void>;

  /** What the files show becomes durable. */
  abstract syncShown(): Promise<void>;

  /** In the lane: while `work` runs no other program may bring messages, as far as they can be held off. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  /** What the journal has to say of it after a compaction, beside its state. */
  *moreRecords(): Generator<JournalRecord> {}

  /** In the lane: messages other programs put there get their UIDs, where that must not come in between. */
  abstract settleForeign(): Promise<void>;

  /** Brings messages of another folder in, durably, not shown yet: the journal has said so. @returns names in order. */
  abstract bring(messages: readonly Brought[]): Promise<string[]>;

  /** Writes down what makes the next opening cheap. A cache: it may fail. */
  abstract saveIndex(): Promise<void>;

  /** The folder is gone: what was kept open is closed. */
  protected abstract letGo(): void;

  /** @returns what is to be stored. @throws {Fault} `message-too-big`, `over-quota`, `limit-reached` */
  protected admit(facts: AppendFacts, sizeHint: number | undefined): AppendFacts {
    this.check();
    const limits = this.host.limits;
    if (sizeHint !== undefined && sizeHint > limits.messageBytesMax) {
      throw new Fault('message-too-big', 'the message is larger than this server takes');
    }
    if (facts.deliveryKey === undefined || this.host.keys.uidOf(facts.deliveryKey) === undefined) {
      this.checkQuota(sizeHint ?? 0, 1);
    }
    const keywords = this.state.checkKeywords(facts.keywords, limits.keywordsPerFolderMax);
    return { ...facts, keywords, internalDateMs: cleanDate(facts.internalDateMs) };
  }

  /** @throws {Fault} when nothing may be done here any more. */
  check(): void {
    this.host.check();
    if (this.removed) throw new Fault('gone', 'the folder is gone');
  }

  /** @throws {Fault} `over-quota` */
  checkQuota(bytes: number, messages: number): void {
    const { limits, usage } = this.host;
    const over =
      (limits.quotaBytes > 0 && usage.bytes + bytes > limits.quotaBytes) ||
      (limits.quotaMessages > 0 && usage.messages + messages > limits.quotaMessages);
    if (over) throw new Fault('over-quota', 'the mailbox is full');
  }

  /** Those that exist, ascending, once each. */
  existing(uids: readonly number[]): number[] {
    const found = uids.filter((uid) => this.state.columns.find(uid) >= 0);
    let ascending = true;
    for (let at = 1; at < found.length && ascending; at++) ascending = found[at - 1]! < found[at]!;
    return ascending ? found : [...new Set(found)].sort((a, b) => a - b);
  }

  /** Makes records durable, then looks at the lease again. */
  async commit(...records: readonly JournalRecord[]): Promise<void> {
    this.check();
    this.unclean = true;
    await this.host.journal.append(...records);
    for (const record of records) this.host.operations.done(record);
    try {
      this.host.guard.assert();
    } catch (error) {
      this.host.breakOff(error);
      throw error;
    }
  }

  /** Makes sure that so many UIDs and sequences are reserved on disk before they are given. */
  async reserve(uids: number, modseqs: number): Promise<void> {
    const { state, meta } = this;
    const uidEnd = state.uidNext + uids;
    const modseqEnd = state.highestModseq + modseqs + 1;
    if (uidEnd > uidMax) throw new Fault('limit-reached', 'this folder has no UIDs left');
    if (uidEnd <= meta.uidReserved && modseqEnd <= meta.modseqReserved) return;
    const next: FolderMeta = {
      ...meta,
      uidReserved: uidEnd <= meta.uidReserved ? meta.uidReserved : Math.min(uidEnd + uidBlock, uidMax),
      modseqReserved: modseqEnd <= meta.modseqReserved ? meta.modseqReserved : modseqEnd + modseqBlock,
    };
    try {
      await writeMeta(this.directory, next);
    } catch (error) {
      // Removing must work on a full disk: the record itself tells the next opening its sequence.
      if (uids > 0 || storageFault(error, 'reserve').code !== 'no-space') throw error;
      return;
    }
    this.meta = next;
  }

  /** Delivery keys of these messages that are not settled. */
  keysOf(uids: readonly number[]): KeptKey[] {
    const kept: KeptKey[] = [];
    for (const uid of uids) {
      const name = parseMessageName(this.state.columns.nameOf(this.state.columns.find(uid)));
      const place = name?.deliveryKey && this.host.keys.placeOf(name.deliveryKey);
      if (place && place.uid === uid && place.mailboxId === this.mailboxId) {
        kept.push([name.deliveryKey, uid, place.seconds]);
      }
    }
    return kept;
  }

  /** Takes messages out of the state. @returns their file names. */
  dropMessages(uids: readonly number[], set: string, modseq: number, kept: readonly KeptKey[]): string[] {
    const { columns } = this.state;
    const indices = uids.map((uid) => columns.find(uid));
    const names = indices.map((at) => columns.nameOf(at));
    const bytes = this.state.sizeBytes;
    this.state.applyGone(indices, set, modseq);
    this.host.usage.bytes += this.state.sizeBytes - bytes;
    this.host.usage.messages -= uids.length;
    for (const key of kept) this.host.keys.orphan(key);
    return names;
  }

  /** For callers that are in the lane already. */
  async moveInLane(
    target: StoredFolder,
    uids: readonly number[],
    operation: OperationId | undefined,
  ): Promise<void> {
    await this.copyInto(target, this.existing(uids), true, operation);
  }

  #change<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.host.change(what, async () => {
      this.check();
      return work();
    });
  }
}

function asStored(folder: Folder): StoredFolder {
  if (folder instanceof StoredFolder) return folder;
  throw new Fault('bug', 'the target is not a folder of this store');
}

export function goneMessage(): Fault {
  return new Fault('gone', 'the message is gone');
}

/** Names hold whole seconds since 1970; facts must say the same before and after a restart. */
function cleanDate(ms: number): number {
  const seconds = Math.floor(ms / 1000);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 0xffffffff) * 1000 : 0;
}
