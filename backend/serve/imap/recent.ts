/**
 * `\Recent` of IMAP4rev1 (RFC 3501 2.3.2): a message is recent to the first session with write access that is told
 * of it. One process owns a folder, so who was first is known here; it is forgotten with the folder, and what was
 * there when the folder was opened counts as told.
 */
import type { Folder } from '../../store/store.ts';

/** First UID of a folder that nobody was told of. */
const untold = new WeakMap<Folder, number>();

/** Messages that came together; `from` included, `to` not. */
type UidRange = readonly [from: number, to: number];

/** Beyond this the oldest are no longer recent. */
const rangesMax = 100;

/** First UID nobody was told of; `Infinity` where the store does not know what is new. */
export function untoldFrom(folder: Folder): number {
  return untold.get(folder) ?? folder.uidAtOpening ?? Number.POSITIVE_INFINITY;
}

/** The messages that are recent to one session. */
export class RecentMessages {
  #ranges: UidRange[] | undefined;

  /** The session is being told of all there is. @param first  It has write access: nobody after it will be the first. */
  tell(folder: Folder, first: boolean): void {
    const from = untoldFrom(folder);
    const to = folder.uidNext;
    if (to <= from) return;
    if (first) untold.set(folder, to);
    this.#ranges ??= [];
    const last = this.#ranges.at(-1);
    if (last !== undefined && last[1] >= from) this.#ranges.splice(-1, 1, [Math.min(last[0], from), to]);
    else this.#ranges.push([from, to]);
    if (this.#ranges.length > rangesMax) this.#ranges.shift();
  }

  has(uid: number): boolean {
    return this.#ranges?.some(([from, to]) => uid >= from && uid < to) ?? false;
  }

  count(uids: Uint32Array): number {
    if (this.#ranges === undefined) return 0;
    let count = 0;
    for (let at = uids.length - 1; at >= 0 && uids[at]! >= this.#ranges[0]![0]; at--) {
      if (this.has(uids[at]!)) count++;
    }
    return count;
  }
}
