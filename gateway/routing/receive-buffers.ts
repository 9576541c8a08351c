/**
 * Buffers that sockets of sessions are read into. Node makes one of 64 KiB for
 * each read: at several hundred MB/s collecting those costs more than the
 * copying. Here small reads are copied out of one buffer that all sockets share,
 * and bulk is read into larger ones that come back when the client has it.
 *
 * Measured, a bare splice of a Unix socket to a client, per MB: 480 us of CPU
 * with Node's own, 280 with these at 64 KiB, 230 at 256 KiB.
 */

/** More than a Unix socket holds (some 208 KiB): one read takes all there is. */
const bulkBytes = 256 * 1024;
/** A read this large is bulk: the next goes into a buffer of its own. */
const bulkReadMin = 16 * 1024;
/** Buffers kept for the next bulk. */
const keptMax = 8;

/** Every socket that is not in the middle of bulk reads into this, and is done with it when its callback returns. */
export const sharedReceiveBuffer = Buffer.allocUnsafeSlow(64 * 1024);

const kept: Buffer[] = [];
/** Bytes that were read into each. */
const lent = new WeakMap<ArrayBufferLike, number>();

/** What a socket has read, and where it reads next. */
export interface Received {
  /** The bytes; the receiver's own until it gives them back. */
  readonly chunk: Buffer;
  readonly next: Buffer;
}

/** @param into  Buffer the socket has read `bytes` into. */
export function received(into: Buffer, bytes: number): Received {
  const isBulk = bytes >= bulkReadMin;
  const next = isBulk ? (kept.pop() ?? Buffer.allocUnsafeSlow(bulkBytes)) : sharedReceiveBuffer;
  if (into === sharedReceiveBuffer || !isBulk) {
    const chunk = Buffer.from(into.subarray(0, bytes));
    if (into !== sharedReceiveBuffer) keep(into);
    return { chunk, next };
  }
  lent.set(into.buffer, bytes);
  return { chunk: into.subarray(0, bytes), next };
}

/** A socket that is closed reads no more into its buffer. */
export function unused(buffer: Buffer): void {
  if (buffer !== sharedReceiveBuffer) keep(buffer);
}

/**
 * All that was read up to the end of this piece has been written, and nobody looks at it any more. Of a chunk that is
 * written in pieces, the last one counts. Chunks that never come back are collected.
 */
export function giveBack(piece: Buffer): void {
  const { buffer } = piece;
  if (buffer.byteLength !== bulkBytes || lent.get(buffer) !== piece.byteOffset + piece.length) return;
  lent.delete(buffer);
  keep(Buffer.from(buffer));
}

function keep(buffer: Buffer): void {
  if (kept.length < keptMax) kept.push(buffer);
}
