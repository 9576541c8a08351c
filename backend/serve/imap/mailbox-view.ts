/**
 * What one session sees of the folder it has selected: sequence numbers stand
 * still between the points where IMAP allows them to change (RFC 9051 5.2, 7.5.1).
 * The numbers are the folder's own UID array as it was at the last such point,
 * so that an idle session costs no copy of it.
 */
import { Fault } from '../../../base/fault.ts';
import { imapNumberSet } from '../../../mailwire/imap-reply.ts';
import { type ImapSequenceSet, star } from '../../../mailwire/imap-tokens.ts';
import type { Folder, FolderEvent, MessageFacts } from '../../store/store.ts';
import { flagsText } from './flags.ts';
import { RecentMessages } from './recent.ts';

/** Stretches of the view, as indices: `from` included, `to` not; ascending, apart from one another. */
export type IndexRanges = readonly { readonly from: number; readonly to: number }[];

/** More changed messages than this between two points are looked for by modification sequence. */
export const dirtyMax = 1000;

/** A view as a session had it at another backend. */
export interface RestoredView {
  readonly uids: Uint32Array;
  readonly keywords: number;
  readonly modseq: number;
  readonly uidLimit: number;
  readonly untold: string;
  readonly flagsModseq: number;
  /** UIDs of the view whose flags changed since; more than so many are only known to be many. */
  readonly changed: readonly number[];
  /** The folder's modification sequence when they were looked for. */
  readonly seenModseq: number;
}

/** Who is told of changes. */
export interface Told {
  /** Expunged messages are told by UID (RFC 7162 3.2.10). */
  readonly qresync: boolean;
  /** RFC 9051 knows no RECENT. */
  readonly rev2: boolean;
  /** Takes an answer, without its CRLF. */
  untagged(answer: string): void;
  /** Words of a FETCH answer with the flags of a message. */
  flagsAnswer(sequence: number, uid: number): string | undefined;
}

export class MailboxView {
  readonly folder: Folder;
  readonly readOnly: boolean;
  /** UIDs by sequence number − 1. */
  uids: Uint32Array;
  /** The folder was deleted, or the account is leaving. */
  gone = false;
  /** Messages whose flags changed, with the modification sequence of the change; 0: of several. */
  #dirty: Map<number, number> | undefined;
  /** Too many were dirty: whatever is newer than this modseq is. */
  #dirtySince: number | undefined;
  /** Modification sequences of this session's own changes that it told itself. */
  #ownModseqs: number[] = [];
  readonly #endWatch: () => void;
  readonly #recent = new RecentMessages();
  /** Keywords already announced by a FLAGS answer. */
  keywordCount: number;
  /** Where the numbers stand in the folder's history: expunges up to this modseq are told, UIDs from the limit on are not. */
  modseq: number;
  uidLimit: number;
  /** UIDs of the view that were gone at `modseq` and not told; a set as IMAP writes it. Of restored views alone. */
  untold: string;
  /** Flags as of this modification sequence have been told. */
  flagsModseq: number;

  /**
   * @param changed   Called on each event, for IDLE.
   * @param restored  The view as another backend had it; else the folder as it is now.
   */
  constructor(folder: Folder, readOnly: boolean, changed: () => void, restored?: RestoredView) {
    this.folder = folder;
    this.readOnly = readOnly;
    this.uids = restored?.uids ?? folder.uids();
    this.keywordCount = restored?.keywords ?? folder.keywords.length;
    this.modseq = restored?.modseq ?? folder.highestModseq;
    this.uidLimit = restored?.uidLimit ?? folder.uidNext;
    this.untold = restored?.untold ?? '';
    this.flagsModseq = restored?.flagsModseq ?? folder.highestModseq;
    if (restored !== undefined) this.#restore(restored);
    else this.#recent.tell(folder, !readOnly);
    this.#endWatch = folder.watch((event) => {
      this.#take(event);
      changed();
    });
  }

  #restore({ changed, seenModseq, flagsModseq }: RestoredView): void {
    const tooMany = changed.length > dirtyMax;
    if (tooMany || this.folder.highestModseq !== seenModseq) this.#dirtySince = flagsModseq + 1;
    else if (changed.length > 0) this.#dirty = new Map(changed.map((uid) => [uid, 0]));
  }

  close(): void {
    this.#endWatch();
    this.#dirty = undefined;
  }

  get count(): number {
    return this.uids.length;
  }

  /** Messages with \\Recent (RFC 3501 2.3.2). */
  get recentCount(): number {
    return this.#recent.count(this.uids);
  }

  isRecent(uid: number): boolean {
    return this.#recent.has(uid);
  }

  /** What stands in a FLAGS item, without parentheses. @param rev2  Without \\Recent. */
  flagsWords({ uid, flags, keywords }: MessageFacts, rev2: boolean): string {
    const words = flagsText(flags, keywords);
    if (rev2 || !this.#recent.has(uid)) return words;
    return words === '' ? '\\Recent' : `${words} \\Recent`;
  }

  /** Sequence number of a UID, 0 when the view has none. */
  sequenceOf(uid: number): number {
    const at = lowerBound(this.uids, uid);
    return this.uids[at] === uid ? at + 1 : 0;
  }

  /**
   * The messages a set names.
   * @param saved  What `$` stands for: UIDs, ascending.
   * @param lenient  A sequence number beyond the last message names nothing, as in SEARCH.
   * @throws {Fault} `bad-syntax`: a sequence number beyond the last message (RFC 9051 9, seq-number)
   */
  resolve(set: ImapSequenceSet, byUid: boolean, saved: ArrayLike<number>, lenient = false): IndexRanges {
    const ranges: { from: number; to: number }[] = [];
    if (set === '$') {
      for (let at = 0; at < saved.length; at++) {
        const sequence = this.sequenceOf(saved[at]!);
        if (sequence > 0) ranges.push({ from: sequence - 1, to: sequence });
      }
      return merged(ranges);
    }
    const last = byUid ? (this.uids[this.count - 1] ?? 0) : this.count;
    for (const { from, to } of set) {
      const first = from === star ? last : from;
      const second = to === star ? last : to;
      const low = Math.min(first, second);
      // `9:*` names the last message when there are fewer (RFC 9051 9, seq-range).
      const high = !byUid && (from === star || to === star) ? last : Math.max(first, second);
      if (byUid) {
        const start = lowerBound(this.uids, low);
        const end = lowerBound(this.uids, high + 1);
        if (end > start) ranges.push({ from: start, to: end });
      } else {
        const known = low >= 1 && high >= 1 && high <= this.count;
        if (known) ranges.push({ from: Math.min(low, high) - 1, to: high });
        else if (!lenient) throw new Fault('bad-syntax', 'No such message');
        else if (low >= 1 && low <= this.count) ranges.push({ from: low - 1, to: this.count });
      }
    }
    return merged(ranges);
  }

  /** UIDs of ranges, ascending. */
  uidsOf(ranges: IndexRanges): number[] {
    const found: number[] = [];
    for (const { from, to } of ranges) for (let at = from; at < to; at++) found.push(this.uids[at]!);
    return found;
  }

  /**
   * These messages were changed by the session itself.
   * @param whole  The client was told all their flags. Otherwise (STORE with .SILENT) it knows of its own change
   *   only, and what others changed before is still to be told.
   */
  told(uids: readonly number[], whole: boolean): void {
    for (const uid of uids) {
      const modseq = this.folder.modseqOf(uid);
      if (whole || this.#dirty?.get(uid) === modseq) this.#dirty?.delete(uid);
      if (modseq !== undefined && this.#ownModseqs.at(-1) !== modseq) this.#ownModseqs.push(modseq);
    }
    if (this.#ownModseqs.length > 64) this.#ownModseqs = this.#ownModseqs.slice(-32);
  }

  /**
   * Brings the view up to date.
   *
   * @param expunges  Sequence numbers may change here. Otherwise only flags are told.
   */
  sync(expunges: boolean, client: Told): void {
    if (expunges) this.#syncNumbers(client);
    this.#tellFlags(client);
    this.flagsModseq = this.folder.highestModseq;
  }

  #tellFlags(client: Told): void {
    if (this.#dirty === undefined && this.#dirtySince === undefined) return;
    for (const uid of this.#dirtyUids()) {
      const sequence = this.sequenceOf(uid);
      const answer = sequence > 0 ? client.flagsAnswer(sequence, uid) : undefined;
      if (answer !== undefined) client.untagged(answer);
    }
    this.#dirty = undefined;
    this.#dirtySince = undefined;
  }

  #syncNumbers(client: Told): void {
    const now = this.folder.uids();
    const before = this.uids;
    if (now === before) return;
    const known = before.length;
    // Both ascend, and new UIDs are larger than all others: when the last one stands where it stood, none went.
    const onlyAdded = now.length >= known && (known === 0 || now[known - 1] === before[known - 1]);
    if (!onlyAdded) {
      let there = lowerBound(now, (before[known - 1] ?? 0) + 1) - 1;
      const uids: number[] = [];
      // From the end, so that no number told shifts another.
      for (let at = known - 1; at >= 0; at--) {
        if (there >= 0 && now[there] === before[at]) there--;
        else if (client.qresync) uids.push(before[at]!);
        else client.untagged(`* ${at + 1} EXPUNGE`);
      }
      if (uids.length > 0) client.untagged(`* VANISHED ${imapNumberSet(uids.reverse())}`);
    }
    const added = now.length - lowerBound(now, (before[known - 1] ?? 0) + 1);
    this.uids = now;
    if (onlyAdded && added === 0) return;
    this.modseq = this.folder.highestModseq;
    this.uidLimit = this.folder.uidNext;
    this.untold = '';
    if (added === 0) return;
    client.untagged(`* ${now.length} EXISTS`);
    this.#recent.tell(this.folder, !this.readOnly);
    if (client.rev2) return;
    const recent = this.recentCount;
    if (recent !== this.#recent.count(before)) client.untagged(`* ${recent} RECENT`);
  }

  #dirtyUids(): readonly number[] {
    const since = this.#dirtySince;
    if (since === undefined) return [...this.#dirty!.keys()].sort((a, b) => a - b);
    const found: number[] = [];
    for (const uid of this.uids) {
      if ((this.folder.modseqOf(uid) ?? -1) >= since) found.push(uid);
    }
    return found;
  }

  #take(event: FolderEvent): void {
    if (event.kind === 'gone') this.gone = true;
    if (event.kind !== 'flags' || this.#ownModseqs.includes(event.modseq)) return;
    if (this.#dirtySince !== undefined) return;
    this.#dirty ??= new Map();
    for (const uid of event.uids) this.#dirty.set(uid, this.#dirty.has(uid) ? 0 : event.modseq);
    if (this.#dirty.size > dirtyMax) {
      let least = event.modseq;
      for (const uid of this.#dirty.keys()) least = Math.min(least, this.folder.modseqOf(uid) ?? least);
      this.#dirtySince = least;
      this.#dirty = undefined;
    }
  }
}

/** First index whose value is not below `value`. */
export function lowerBound(sorted: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function merged(ranges: { from: number; to: number }[]): IndexRanges {
  ranges.sort((a, b) => a.from - b.from);
  const out: { from: number; to: number }[] = [];
  for (const range of ranges) {
    const last = out.at(-1);
    if (last !== undefined && range.from <= last.to) last.to = Math.max(last.to, range.to);
    else out.push({ ...range });
  }
  return out;
}
