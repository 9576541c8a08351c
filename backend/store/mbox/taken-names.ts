/**
 * Messages of other programs that have a UID, while their `From ` line does not
 * say it: they are known by what they hold. The journal keeps this until the
 * mbox is rewritten for another reason, and all of them get their names.
 */
import type { JournalRecord } from '../journal-records.ts';
import { parseMessageName } from '../message-name.ts';
import { addRange, inRanges, rangesOf } from '../uid-set.ts';

export class TakenNames {
  /** By digest; several messages may be alike. */
  readonly #texts = new Map<string, string[]>();
  count = 0;

  /** What a folder's journal says of messages that were not expunged. */
  static of(records: readonly JournalRecord[]): TakenNames {
    const gone: (readonly [number, number])[] = [];
    const gather = (set: string): void => {
      for (const range of rangesOf(set)) addRange(gone, ...range);
    };
    const purged = records.reduce((most, one) => (one.t === 'purged' ? Math.max(most, one.m) : most), 0);
    for (const record of records) {
      if (record.t === 'gone' && record.m <= purged) gather(record.u);
      if (record.t === 'folder') for (const [set] of record.x) gather(set);
    }
    const names = new TakenNames();
    for (const record of records) {
      if (record.t !== 'taken') continue;
      for (const [digest, text] of record.k) {
        const uid = parseMessageName(text)?.uid;
        if (uid !== undefined && !inRanges(gone, uid)) names.add(digest, text);
      }
    }
    return names;
  }

  add(digest: string, text: string): void {
    const alike = this.#texts.get(digest);
    if (alike) alike.push(text);
    else this.#texts.set(digest, [text]);
    this.count++;
  }

  /** The name of a message, once for each that is alike. */
  take(digest: string): string | undefined {
    const alike = this.#texts.get(digest);
    if (!alike) return undefined;
    const text = alike.shift();
    if (alike.length === 0) this.#texts.delete(digest);
    this.count--;
    return text;
  }

  copy(): TakenNames {
    const copy = new TakenNames();
    for (const [digest, texts] of this.#texts) for (const text of texts) copy.add(digest, text);
    return copy;
  }

  /** Leaves only messages that are in `uids`. */
  keepOnly(has: (uid: number) => boolean): void {
    for (const [digest, texts] of [...this.#texts]) {
      const kept = texts.filter((text) => has(parseMessageName(text)!.uid));
      this.count += kept.length - texts.length;
      if (kept.length === 0) this.#texts.delete(digest);
      else this.#texts.set(digest, kept);
    }
  }

  /** What the journal has to say after a compaction. */
  *records(mailboxId: string): Generator<JournalRecord> {
    const all = [...this.#texts].flatMap(([digest, texts]) => texts.map((text) => [digest, text] as const));
    for (let at = 0; at < all.length; at += 500)
      yield { t: 'taken', f: mailboxId, k: all.slice(at, at + 500) };
  }
}
