/**
 * Reading one message. Files this store wrote hold the very bytes; files of
 * other programs may end their lines with LF alone, and are read as if each
 * line ended with CRLF, which is how their size was counted.
 */
import { Readable } from 'node:stream';
import { closeFile, readAt } from './files.ts';
import type { OpenMessage } from './store.ts';

const sliceBytes = 256 * 1024;

/** @param size  Bytes with CRLF line ends. @param fileBytes  Bytes of the file. */
export function openMessage(fd: number, size: number, fileBytes: number): OpenMessage {
  return size === fileBytes ? new PlainMessage(fd, size) : new ConvertedMessage(fd, size, fileBytes);
}

/** Files up to this size are read whole, in one go. */
export const wholeBytesMax = 256 * 1024;

/** What a small file holds, with CRLF line ends. */
export function wholeMessage(raw: Buffer, size: number, fileBytes: number): Buffer {
  return size === fileBytes ? raw : withCrlf(raw, false);
}

/** A message that is in memory. */
export class WholeMessage implements OpenMessage {
  readonly whole: Buffer;

  constructor(whole: Buffer) {
    this.whole = whole;
  }

  get size(): number {
    return this.whole.length;
  }

  async read(start: number, end: number): Promise<Buffer> {
    return this.whole.subarray(start, Math.max(start, end));
  }

  stream(start: number, end: number): Readable {
    const bytes = this.whole.subarray(start, Math.max(start, end));
    return Readable.from(bytes.length === 0 ? [] : [bytes], { objectMode: false });
  }

  async close(): Promise<void> {}
}

class PlainMessage implements OpenMessage {
  readonly size: number;
  readonly #fd: number;

  constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  read(start: number, end: number): Promise<Buffer> {
    return readAt(this.#fd, start, Math.max(0, Math.min(end, this.size) - start));
  }

  stream(start: number, end: number): Readable {
    // Not a ReadStream: destroying one closes the descriptor whatever `autoClose` says, and `close` would close it
    // a second time, when it may already be another file's.
    return Readable.from(this.#slices(start, Math.min(end, this.size)), {
      objectMode: false,
      highWaterMark: sliceBytes,
    });
  }

  async *#slices(start: number, end: number): AsyncGenerator<Buffer> {
    for (let at = start; at < end; ) {
      const bytes = await readAt(this.#fd, at, Math.min(sliceBytes, end - at));
      if (bytes.length === 0) return;
      yield bytes;
      at += bytes.length;
    }
  }

  close(): Promise<void> {
    return closeFile(this.#fd);
  }
}

/** Where a slice of the file begins, in both countings. */
interface Mark {
  readonly file: number;
  readonly converted: number;
  /** The byte before was a CR. */
  readonly afterCr: boolean;
}

class ConvertedMessage implements OpenMessage {
  readonly size: number;
  readonly #fd: number;
  readonly #fileBytes: number;
  readonly #marks: Mark[] = [{ file: 0, converted: 0, afterCr: false }];

  constructor(fd: number, size: number, fileBytes: number) {
    this.#fd = fd;
    this.size = size;
    this.#fileBytes = fileBytes;
  }

  async read(start: number, end: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.#slices(start, end)) parts.push(part);
    return Buffer.concat(parts);
  }

  stream(start: number, end: number): Readable {
    return Readable.from(this.#slices(start, end), { objectMode: false, highWaterMark: sliceBytes });
  }

  close(): Promise<void> {
    return closeFile(this.#fd);
  }

  async *#slices(start: number, end: number): AsyncGenerator<Buffer> {
    const stop = Math.min(end, this.size);
    let at = this.#marks.findLastIndex((mark) => mark.converted <= start);
    while (at < this.#marks.length) {
      const mark = this.#marks[at]!;
      if (mark.converted >= stop || mark.file >= this.#fileBytes) return;
      const raw = await readAt(this.#fd, mark.file, Math.min(sliceBytes, this.#fileBytes - mark.file));
      if (raw.length === 0) return;
      const bytes = withCrlf(raw, mark.afterCr);
      const next = mark.converted + bytes.length;
      if (at + 1 === this.#marks.length) {
        this.#marks.push({
          file: mark.file + raw.length,
          converted: next,
          afterCr: raw[raw.length - 1] === 13,
        });
      }
      const from = Math.max(start, mark.converted) - mark.converted;
      const to = Math.min(stop, next) - mark.converted;
      if (to > from) yield bytes.subarray(from, to);
      at++;
    }
  }
}

function withCrlf(raw: Buffer, afterCr: boolean): Buffer {
  const bare = countBareLf(raw, afterCr);
  if (bare === 0) return raw;
  const out = Buffer.allocUnsafe(raw.length + bare);
  let to = 0;
  let from = 0;
  for (let lf = raw.indexOf(10); lf >= 0; lf = raw.indexOf(10, lf + 1)) {
    if (lf === 0 ? afterCr : raw[lf - 1] === 13) continue;
    to += raw.copy(out, to, from, lf);
    out[to++] = 13;
    from = lf;
  }
  raw.copy(out, to, from);
  return out;
}

function countBareLf(raw: Buffer, afterCr: boolean): number {
  let count = 0;
  for (let lf = raw.indexOf(10); lf >= 0; lf = raw.indexOf(10, lf + 1)) {
    if (!(lf === 0 ? afterCr : raw[lf - 1] === 13)) count++;
  }
  return count;
}

/** Bytes of a file and what they become with CRLF line ends. */
export async function measureFile(fd: number): Promise<{ fileBytes: number; size: number }> {
  let fileBytes = 0;
  let bare = 0;
  let afterCr = false;
  for (;;) {
    const raw = await readAt(fd, fileBytes, sliceBytes);
    bare += countBareLf(raw, afterCr);
    fileBytes += raw.length;
    if (raw.length > 0) afterCr = raw[raw.length - 1] === 13;
    if (raw.length < sliceBytes) return { fileBytes, size: fileBytes + bare };
  }
}
