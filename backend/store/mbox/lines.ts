/** Lines of a part of a file, in slices: an mbox is read once from end to end and may be of any size. */
import { readAt } from '../files.ts';

const sliceBytes = 256 * 1024;
/** A longer line comes in pieces; only the first says how the line begins. */
const pieceBytesMax = 64 * 1024;

export interface LinePiece {
  /** Where it is in the file. */
  readonly at: number;
  readonly bytes: Buffer;
  readonly first: boolean;
  /** Ends with LF; false at the end of the part, and for a piece in the middle of a line. */
  readonly whole: boolean;
}

export async function* linesOf(fd: number, start: number, end: number): AsyncGenerator<LinePiece> {
  let rest: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  let first = true;
  for (let at = start; at < end; ) {
    const raw = await readAt(fd, at, Math.min(sliceBytes, end - at));
    if (raw.length === 0) break;
    const data = rest.length === 0 ? raw : Buffer.concat([rest, raw]);
    const base = at - rest.length;
    at += raw.length;
    let from = 0;
    for (let lf = data.indexOf(10); lf >= 0; lf = data.indexOf(10, from)) {
      yield { at: base + from, bytes: data.subarray(from, lf + 1), first, whole: true };
      first = true;
      from = lf + 1;
    }
    rest = data.subarray(from);
    if (rest.length >= pieceBytesMax) {
      // A CR may be the first half of the line's end.
      const kept = rest[rest.length - 1] === 13 ? 1 : 0;
      yield { at: base + from, bytes: rest.subarray(0, rest.length - kept), first, whole: false };
      first = false;
      rest = rest.subarray(rest.length - kept);
    }
  }
  if (rest.length > 0) yield { at: end - rest.length, bytes: rest, first, whole: false };
}
