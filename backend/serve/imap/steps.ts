/**
 * Long computations in steps: a generator yields now and then, and whoever runs
 * it lets other sessions in between. What computes stays free of promises.
 */
import { Slice } from './session-clock.ts';

export type Steps<T> = Generator<void, T, void>;

/** Runs to the end, a few milliseconds at a time. */
export async function inSlices<T>(steps: Steps<T>): Promise<T> {
  const slice = new Slice();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    const rest = slice.used();
    if (rest !== undefined) await rest;
  }
}

/** Runs to the end at once: for what is known to be small. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Rows sorted, or merged, between two yields: less than two milliseconds. */
const stretchRows = 500;

/** A sorted copy; rows that compare equal keep their order. */
export function* sorted<T>(rows: readonly T[], compare: (a: T, b: T) => number): Steps<T[]> {
  if (rows.length <= stretchRows) return [...rows].sort(compare);
  let stretches: T[][] = [];
  for (let at = 0; at < rows.length; at += stretchRows) {
    stretches.push(rows.slice(at, at + stretchRows).sort(compare));
    yield;
  }
  while (stretches.length > 1) {
    const merged: T[][] = [];
    for (let at = 0; at < stretches.length; at += 2) {
      const [left, right] = [stretches[at]!, stretches[at + 1] ?? []];
      const out: T[] = [];
      for (let l = 0, r = 0; l < left.length || r < right.length; ) {
        const takeLeft = r >= right.length || (l < left.length && compare(left[l]!, right[r]!) <= 0);
        out.push(takeLeft ? left[l++]! : right[r++]!);
        if (out.length % stretchRows === 0) yield;
      }
      merged.push(out);
    }
    stretches = merged;
  }
  return stretches[0]!;
}
