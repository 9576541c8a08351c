/** Sets of UIDs as text, the way IMAP writes them (`1:5,7`): in journal records a range costs what one UID does. */

/** @param uids  Ascending, without repeats. */
export function formatUidSet(uids: Iterable<number>): string {
  const parts: string[] = [];
  let first = -1;
  let last = -1;
  const flush = (): void => {
    if (first >= 0) parts.push(first === last ? String(first) : `${first}:${last}`);
  };
  for (const uid of uids) {
    if (uid === last + 1 && first >= 0) {
      last = uid;
      continue;
    }
    flush();
    first = last = uid;
  }
  flush();
  return parts.join(',');
}

/** Ranges [first, last] of a set this store wrote; nothing for what is not one. */
export function* rangesOf(set: string): Generator<readonly [number, number]> {
  if (set === '') return;
  for (const part of set.split(',')) {
    const found = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(part);
    if (!found) continue;
    const first = Number(found[1]);
    const last = found[2] === undefined ? first : Number(found[2]);
    if (first > 0 && last >= first) yield [first, last];
  }
}

/** The UIDs of a set this store wrote. */
export function uidsIn(set: string): number[] {
  const uids: number[] = [];
  for (const [first, last] of rangesOf(set)) for (let uid = first; uid <= last; uid++) uids.push(uid);
  return uids;
}

/** Is `uid` in one of the ranges? They must be ascending. */
export function inRanges(ranges: readonly (readonly [number, number])[], uid: number): boolean {
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [first, last] = ranges[middle]!;
    if (uid < first) high = middle - 1;
    else if (uid > last) low = middle + 1;
    else return true;
  }
  return false;
}

/** Adds a range to ascending ranges, joining what touches. */
export function addRange(ranges: (readonly [number, number])[], first: number, last: number): void {
  const tail = ranges.at(-1);
  if (tail === undefined || first > tail[1] + 1) {
    ranges.push([first, last]);
    return;
  }
  let at = 0;
  while (at < ranges.length && ranges[at]![1] + 1 < first) at++;
  let low = first;
  let high = last;
  let end = at;
  while (end < ranges.length && ranges[end]![0] <= high + 1) {
    low = Math.min(low, ranges[end]![0]);
    high = Math.max(high, ranges[end]![1]);
    end++;
  }
  ranges.splice(at, end - at, [low, high]);
}
