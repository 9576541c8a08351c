/**
 * Buffers in which sessions gather their answers before a large write. A new one
 * for each write of a bulk FETCH is a hundred megabytes and more a second of
 * memory outside the heap, and collecting that took a third of the thread.
 */

/** Smaller answers are not worth it. */
const gatheredBytesMin = 16 * 1024;
/** A gathering, and the message that filled it. */
const bufferBytes = 192 * 1024;
/** Kept for the next write, of all sessions together. */
const keptMax = 8;

const kept: Buffer[] = [];
const lent = new WeakSet<ArrayBufferLike>();

/** A buffer of `bytes`; give it back when it was written. One that never comes back is collected. */
export function gatherBuffer(bytes: number): Buffer {
  if (bytes < gatheredBytesMin || bytes > bufferBytes) return Buffer.allocUnsafe(bytes);
  const whole = kept.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
  lent.add(whole.buffer);
  return whole.subarray(0, bytes);
}

/** The chunk has been written whole. Does nothing for one that is not from here. */
export function giveBackGathered(chunk: Buffer): void {
  if (chunk.length < gatheredBytesMin || !lent.delete(chunk.buffer)) return;
  if (kept.length < keptMax) kept.push(Buffer.from(chunk.buffer));
}
