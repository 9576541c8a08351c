/**
 * A folder in memory: columns, keywords and counters, changed only by what has
 * become durable. No files here: rebuilding it from names and journal records,
 * and writing it down as a snapshot, are functions of their input.
 */
import { orderOf } from './file-order.ts';
import type { JournalRecord, KeptKey, SnapshotRow } from './journal-records.ts';
import { combineKeywords, KeywordTable, noKeywords } from './keyword-table.ts';
import { MessageColumns, type Row } from './message-columns.ts';
import { lettersIn, type MessageName, parseMessageName } from './message-name.ts';
import { type FlagChange, flagBit, type MessageFacts } from './store.ts';
import { addRange, formatUidSet, inRanges, rangesOf } from './uid-set.ts';

/** Expunges remembered for resynchronisation; older ones are joined. */
const goneEntriesMax = 200;
const rowsPerRecord = 2000;
/** Rows done in one step of loading: one or two milliseconds. */
const rowsPerStep = 2000;

export interface NamedFile {
  readonly text: string;
  readonly name: MessageName;
}

/** What replaying found that the directory has to be told. */
export interface ReplayFindings {
  /** Files of messages that were expunged before the crash took the removal. */
  readonly unlink: readonly string[];
  /** Files that bear a UID that was given to another message or was expunged: they get a new one. */
  readonly foreign: readonly string[];
  /** Greatest `gone` sequence whose files the journal does not know to be away. */
  readonly purge: number | undefined;
  /** The journal did not end with this folder's names showing everything. */
  readonly unclean: boolean;
  /** Deliveries whose senders may come again. */
  readonly keys: readonly KeptKey[];
  /** UIDs whose names do not show their flags: the crash was faster. */
  readonly unshown: readonly number[];
}

export class FolderState {
  readonly columns: MessageColumns;
  readonly words: KeywordTable;
  uidNext = 1;
  highestModseq = 1;
  unseenCount = 0;
  sizeBytes = 0;
  readonly settled: (readonly [number, number])[] = [];
  gone: (readonly [set: string, modseq: number])[] = [];
  /** What went before this modseq is not all in `gone`. */
  goneKnownFrom = 0;

  constructor(columns = new MessageColumns(), words = new KeywordTable()) {
    this.columns = columns;
    this.words = words;
  }

  /** As first spelled. */
  get keywords(): readonly string[] {
    return this.words.keywords;
  }

  facts(uid: number): MessageFacts | undefined {
    const at = this.columns.find(uid);
    if (at < 0) return undefined;
    const columns = this.columns;
    return {
      uid,
      size: columns.size[at]!,
      internalDateMs: columns.seconds[at]! * 1000,
      flags: columns.flags[at]!,
      keywords: this.words.at(columns.keywordSet[at]!),
      modseq: columns.modseq[at]!,
      emailId: emailIdIn(columns.nameOf(at)),
    };
  }

  /** See `Folder.savedDateMs`. */
  savedDateMs(uid: number): number | undefined {
    const at = this.columns.find(uid);
    if (at < 0) return undefined;
    const saved = parseMessageName(this.columns.nameOf(at))?.savedSeconds;
    return (saved ?? this.columns.seconds[at]!) * 1000;
  }

  keywordsAt(at: number): readonly string[] {
    return this.words.at(this.columns.keywordSet[at]!);
  }

  /** Keywords as this folder spells them. @throws {Fault} `limit-reached` */
  checkKeywords(wanted: readonly string[], keywordsMax: number): readonly string[] {
    return this.words.check(wanted, keywordsMax);
  }

  /** What a change would make of the message at an index: undefined when nothing. */
  changes(at: number, change: FlagChange): boolean {
    const before = this.columns.flags[at]!;
    if (combineFlags(before, change) !== before) return true;
    if (change.keywords.length === 0 && change.how !== 'set') return false;
    const had = this.keywordsAt(at);
    const next = combineKeywords(had, change);
    return next.length !== had.length || next.some((keyword) => !had.includes(keyword));
  }

  add(row: Omit<Row, 'keywordSet'>, keywords: readonly string[] = noKeywords): void {
    this.columns.push({ ...row, keywordSet: this.words.combination(keywords) });
    if (!(row.flags & flagBit.seen)) this.unseenCount++;
    this.sizeBytes += row.size;
    if (row.uid >= this.uidNext) this.uidNext = row.uid + 1;
    if (row.modseq > this.highestModseq) this.highestModseq = row.modseq;
  }

  /** @param withFlags  false: only keywords and sequence are taken, the flags stand in the file's name. */
  applyFlags(at: number, change: FlagChange, modseq: number, withFlags = true): void {
    if (withFlags) this.setFlags(at, combineFlags(this.columns.flags[at]!, change));
    if (change.keywords.length > 0 || change.how === 'set') {
      this.columns.keywordSet[at] = this.words.combination(combineKeywords(this.keywordsAt(at), change));
    }
    this.columns.modseq[at] = Math.max(modseq, this.columns.modseq[at]!);
    if (modseq > this.highestModseq) this.highestModseq = modseq;
  }

  setFlags(at: number, flags: number): void {
    const before = this.columns.flags[at]!;
    this.columns.flags[at] = flags;
    this.unseenCount += (before & flagBit.seen ? 1 : 0) - (flags & flagBit.seen ? 1 : 0);
  }

  /** @param indices Ascending. */
  applyGone(indices: readonly number[], set: string, modseq: number): void {
    for (const at of indices) {
      if (!(this.columns.flags[at]! & flagBit.seen)) this.unseenCount--;
      this.sizeBytes -= this.columns.size[at]!;
    }
    this.columns.remove(indices);
    this.#rememberGone(set, modseq);
    if (modseq > this.highestModseq) this.highestModseq = modseq;
  }

  /** See `Folder.expungedSince`. */
  goneSince(modseq: number): readonly (readonly [number, number])[] | undefined {
    if (modseq < this.goneKnownFrom) return undefined;
    const ranges: (readonly [number, number])[] = [];
    for (const [set, at] of this.gone) {
      if (at > modseq) for (const range of rangesOf(set)) addRange(ranges, ...range);
    }
    return ranges;
  }

  /** See `Folder.expungesNoted`. */
  goneNoted(modseq: number): readonly (readonly [number, number])[] | undefined {
    // The first may be several joined, under the sequence of the last of them.
    if (this.gone.length > goneEntriesMax / 2 && this.gone[0]![1] > modseq) return undefined;
    const ranges: (readonly [number, number])[] = [];
    for (const [set, at] of this.gone) if (at > modseq) ranges.push(...rangesOf(set));
    return ranges;
  }

  /**
   * Rebuilds the state. @param files Names this store gave, in any order.
   * @param namesShowFlags  A clean folder's names show all flags: those of a Maildir do.
   */
  load(
    files: readonly NamedFile[],
    records: readonly JournalRecord[],
    nowSeconds: number,
    namesShowFlags = true,
  ): ReplayFindings {
    const work = this.loading(files, records, nowSeconds, namesShowFlags);
    for (;;) {
      const step = work.next();
      if (step.done) return step.value;
    }
  }

  /** `load` in steps of some milliseconds, so that others can be served in between. */
  *loading(
    files: readonly NamedFile[],
    records: readonly JournalRecord[],
    nowSeconds: number,
    namesShowFlags = true,
  ): Generator<void, ReplayFindings> {
    const purged = greatest(records, (record) => (record.t === 'purged' ? record.m : 0));
    const pendingGone: (readonly [number, number])[] = [];
    const oldGone: (readonly [number, number])[] = [];
    let pendingModseq = 0;
    let cleanAt = -1;
    for (const [index, record] of records.entries()) {
      if (record.t === 'clean') cleanAt = index;
      if (record.t === 'gone') {
        const pending = record.m > purged;
        if (pending) pendingModseq = Math.max(pendingModseq, record.m);
        for (const [first, last] of rangesOf(record.u))
          addRange(pending ? pendingGone : oldGone, first, last);
      }
      if (record.t === 'folder') {
        for (const [set] of record.x) {
          for (const [first, last] of rangesOf(set)) addRange(oldGone, first, last);
        }
      }
      if (record.t === 'settled') for (const range of rangesOf(record.u)) addRange(this.settled, ...range);
      if (record.t === 'folder') for (const range of rangesOf(record.s)) addRange(this.settled, ...range);
    }
    const unlink: string[] = [];
    const foreign: string[] = [];
    const keys: KeptKey[] = [];
    const order = yield* orderOf(files);
    let last = 0;
    for (let step = 0; step < order.length; step++) {
      if (step % rowsPerStep === rowsPerStep - 1) yield;
      const { text, name } = files[order[step]!]!;
      if (inRanges(pendingGone, name.uid)) unlink.push(text);
      else if (name.uid === last || inRanges(oldGone, name.uid)) foreign.push(text);
      else {
        last = name.uid;
        this.add({ ...name, seconds: Math.min(name.seconds, 0xffffffff), name: text });
        if (
          name.deliveryKey !== undefined &&
          (name.savedSeconds ?? name.seconds) > nowSeconds - keyKeptSeconds &&
          !inRanges(this.settled, name.uid)
        ) {
          keys.push([name.deliveryKey, name.uid, name.seconds]);
        }
      }
    }
    const greatestName = this.uidNext - 1;
    for (const [index, record] of records.entries()) {
      this.#replay(record, !namesShowFlags || index > cleanAt);
      yield;
    }
    const clean = records[cleanAt];
    const tail = records.slice(cleanAt + 1).some((record) => record.t !== 'settled' && record.t !== 'purged');
    const unclean = clean?.t !== 'clean' || tail || greatestName >= clean.n;
    const unshown: number[] = [];
    for (let at = 0; at < this.columns.count; at++) {
      if (at % rowsPerStep === rowsPerStep - 1) yield;
      if (lettersIn(this.columns.nameOf(at)).flags !== this.columns.flags[at])
        unshown.push(this.columns.uid[at]!);
    }
    return { unlink, foreign, purge: pendingModseq > 0 ? pendingModseq : undefined, unclean, keys, unshown };
  }

  #replay(record: JournalRecord, withFlags: boolean): void {
    switch (record.t) {
      case 'folder':
        for (const keyword of record.kw) this.words.learn(keyword);
        this.gone = [...record.x];
        this.goneKnownFrom = record.gk ?? 0;
        this.uidNext = Math.max(this.uidNext, record.n);
        this.highestModseq = Math.max(this.highestModseq, record.m);
        return;
      case 'rows':
        for (const [set, flags, keywords, modseq] of record.r) {
          const words = keywords.map((index) => this.keywords[index]!).filter((word) => word !== undefined);
          this.#applyToSet(set, { how: 'set', flags, keywords: words }, modseq, withFlags);
        }
        return;
      case 'flags':
        this.#applyToSet(
          record.u,
          { how: record.how, flags: record.fl, keywords: record.kw ?? noKeywords },
          record.m,
          withFlags,
        );
        return;
      case 'gone':
        this.#rememberGone(record.u, record.m);
        for (const [, last] of rangesOf(record.u)) this.uidNext = Math.max(this.uidNext, last + 1);
        this.highestModseq = Math.max(this.highestModseq, record.m);
        return;
      case 'copy': {
        let count = 0;
        for (const [first, last] of rangesOf(record.u)) count += last - first + 1;
        this.uidNext = Math.max(this.uidNext, record.n + count);
        this.highestModseq = Math.max(this.highestModseq, record.m + count - 1);
        return;
      }
      case 'settled':
        this.uidNext = Math.max(this.uidNext, record.n);
        return;
      case 'clean':
        this.uidNext = Math.max(this.uidNext, record.n);
        this.highestModseq = Math.max(this.highestModseq, record.m);
        return;
      default:
    }
  }

  #applyToSet(set: string, change: FlagChange, modseq: number, withFlags: boolean): void {
    for (const keyword of change.keywords) this.words.learn(keyword);
    this.highestModseq = Math.max(this.highestModseq, modseq);
    const columns = this.columns;
    for (const [first, last] of rangesOf(set)) {
      for (let at = lowerBound(columns, first); at < columns.count && columns.uid[at]! <= last; at++) {
        this.applyFlags(at, change, modseq, withFlags);
      }
    }
  }

  /** What the file names do not say, as records. */
  *snapshot(mailboxId: string): Generator<JournalRecord> {
    yield {
      t: 'folder',
      f: mailboxId,
      n: this.uidNext,
      m: this.highestModseq,
      kw: this.keywords,
      s: this.#settledSet(),
      x: this.gone,
      ...(this.goneKnownFrom > 0 ? { gk: this.goneKnownFrom } : {}),
    };
    const columns = this.columns;
    let rows: SnapshotRow[] = [];
    for (let at = 0; at < columns.count; ) {
      const start = at;
      const flags = columns.flags[at]!;
      const set = columns.keywordSet[at]!;
      const modseq = columns.modseq[at]!;
      if (set === 0 && saidByName(columns.nameOf(at), flags, modseq)) {
        at++;
        continue;
      }
      while (
        at < columns.count &&
        columns.flags[at] === flags &&
        columns.keywordSet[at] === set &&
        columns.modseq[at] === modseq &&
        columns.uid[at]! - columns.uid[start]! === at - start
      ) {
        at++;
      }
      const range = formatUidSet(columns.uid.subarray(start, at));
      const words = this.words.at(set).map((word) => this.keywords.indexOf(word));
      rows.push([range, flags, words, modseq]);
      if (rows.length === rowsPerRecord) {
        yield { t: 'rows', f: mailboxId, r: rows };
        rows = [];
      }
    }
    if (rows.length > 0) yield { t: 'rows', f: mailboxId, r: rows };
  }

  /** Settled UIDs whose names may still say a key. */
  #settledSet(): string {
    return this.settled.map(([first, last]) => (first === last ? `${first}` : `${first}:${last}`)).join(',');
  }

  #rememberGone(set: string, modseq: number): void {
    this.gone.push([set, modseq]);
    if (this.gone.length <= goneEntriesMax) return;
    const ranges: (readonly [number, number])[] = [];
    const joined = this.gone.splice(0, goneEntriesMax / 2);
    for (const [old] of joined) for (const range of rangesOf(old)) addRange(ranges, ...range);
    const text = ranges.map(([first, last]) => (first === last ? `${first}` : `${first}:${last}`)).join(',');
    this.gone.unshift([text, joined.at(-1)![1]]);
  }
}

/** Senders give up within five days (RFC 5321 4.5.4.1); after that a delivery key is not asked for again. */
export const keyKeptSeconds = 5 * 86_400;

export function combineFlags(before: number, change: FlagChange): number {
  if (change.how === 'set') return change.flags;
  return change.how === 'add' ? before | change.flags : before & ~change.flags;
}

/** First index whose UID is not below `uid`. */
export function lowerBound(columns: MessageColumns, uid: number): number {
  let low = 0;
  let high = columns.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (columns.uid[middle]! < uid) low = middle + 1;
    else high = middle;
  }
  return low;
}

function saidByName(text: string, flags: number, modseq: number): boolean {
  const name = parseMessageName(text);
  return name !== undefined && name.modseq === modseq && lettersIn(text).flags === flags;
}

function emailIdIn(name: string): string {
  const start = name.indexOf('_') + 1;
  return name.slice(start, start + 16);
}

function greatest<T>(items: readonly T[], of: (item: T) => number): number {
  let most = 0;
  for (const item of items) most = Math.max(most, of(item));
  return most;
}
