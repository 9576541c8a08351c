/**
 * Brings the files of a folder into the order of their UIDs. Directories list
 * them in no order, and a hundred thousand objects sort ten times as slowly as
 * as many numbers do.
 */
import type { NamedFile } from './folder-state.ts';

/** More files than this are sorted as objects. A UID and an index together stay below 2^53. */
const indicesMax = 2 ** 21;

/** Numbers sorted at once: some milliseconds. */
const runLengthUsual = 2 ** 16;

/** Indices of `files` by UID, then by name; in steps, so that others can be served in between. */
export function* orderOf(
  files: readonly NamedFile[],
  runLength = runLengthUsual,
): Generator<void, Uint32Array> {
  if (files.length > indicesMax) {
    const indices = files.map((_, index) => index);
    indices.sort((a, b) => byUid(files[a]!, files[b]!));
    return Uint32Array.from(indices);
  }
  let keys = new Float64Array(files.length);
  for (let index = 0; index < files.length; index++)
    keys[index] = files[index]!.name.uid * indicesMax + index;
  yield;
  for (let from = 0; from < keys.length; from += runLength) {
    keys.subarray(from, from + runLength).sort();
    yield;
  }
  let merged = new Float64Array(files.length);
  for (let length = runLength; length < keys.length; length *= 2) {
    for (let from = 0; from < keys.length; from += 2 * length) {
      merge(
        keys,
        merged,
        from,
        Math.min(from + length, keys.length),
        Math.min(from + 2 * length, keys.length),
      );
      yield;
    }
    [keys, merged] = [merged, keys];
  }
  const order = new Uint32Array(files.length);
  let before = -1;
  for (let at = 0; at < keys.length; at++) {
    const uid = Math.floor(keys[at]! / indicesMax);
    order[at] = keys[at]! - uid * indicesMax;
    // Two files with one UID are rare: put in order by their names, a swap at a time.
    if (uid === before) sink(order, at, files);
    before = uid;
  }
  yield;
  return order;
}

/** Two ascending runs of `keys`, [from, middle) and [middle, end), become one of `merged`. */
function merge(keys: Float64Array, merged: Float64Array, from: number, middle: number, end: number): void {
  let left = from;
  let right = middle;
  for (let to = from; to < end; to++) {
    const takeLeft = right >= end || (left < middle && keys[left]! <= keys[right]!);
    merged[to] = takeLeft ? keys[left++]! : keys[right++]!;
  }
}

function sink(order: Uint32Array, from: number, files: readonly NamedFile[]): void {
  for (let to = from; to > 0 && byUid(files[order[to - 1]!]!, files[order[to]!]!) > 0; to--) {
    [order[to - 1], order[to]] = [order[to]!, order[to - 1]!];
  }
}

function byUid(a: NamedFile, b: NamedFile): number {
  return a.name.uid - b.name.uid || (a.text < b.text ? -1 : 1);
}
