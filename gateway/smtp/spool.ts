/**
 * Where a message is while it is received, scanned and delivered: in memory
 * while small, in a file without a name once larger, so that a thousand large
 * messages cost disk and not memory, and a crash leaves nothing behind.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { Fault } from '../../base/fault.ts';

/** A message up to this size stays in memory, as long as all of them together allow it. */
export const spoolMemoryBytesMax = 256 * 1024;
/** All messages in memory together; past it every message goes to its file at once. */
export const spoolsMemoryBytesMax = 64 * 1024 * 1024;
/** Bytes on their way to the file before the client has to wait. */
const backlogBytesMax = 1024 * 1024;
const readBytes = 128 * 1024;
/** Slices below this are copied together: a Buffer of its own for every byte of a slow sender adds up. */
const smallBytes = 2048;
const blockBytes = 16 * 1024;

/** The spools of one door: their directory and what they hold in memory together. */
export class SpoolRoom {
  memoryBytes = 0;
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** @throws {Fault} `cannot-write` */
  static async open(directory: string): Promise<SpoolRoom> {
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new Fault('cannot-write', `${directory}: cannot be created; make the data directory writable`, {
        cause: error,
      });
    }
    return new SpoolRoom(directory);
  }
}

export class Spool {
  size = 0;
  readonly #room: SpoolRoom;
  readonly #hash = createHash('sha256');
  readonly #onRoom: () => void;
  #memory: Buffer[] = [];
  #memoryBytes = 0;
  #block: Buffer | undefined;
  #blockUsed = 0;
  #spilling = false;
  #file: FileHandle | undefined;
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: unknown;
  #readers = 0;
  #dropped = false;
  #waiting = false;

  /**
   * @param keyPrefix  Goes into the delivery key before the message: the reverse-path and a NUL.
   * @param onRoom     Called when `write` had asked to wait and there is room again.
   */
  constructor(room: SpoolRoom, keyPrefix: string, onRoom: () => void) {
    this.#room = room;
    this.#onRoom = onRoom;
    this.#hash.update(keyPrefix);
  }

  /** @returns False: wait for `onRoom` before the next. The bytes may be kept by reference. */
  write(slice: Buffer): boolean {
    if (this.#dropped) return true;
    this.#hash.update(slice);
    this.size += slice.length;
    if (!this.#spilling) {
      this.#keep(slice);
      if (
        this.#memoryBytes > spoolMemoryBytesMax ||
        (this.#room.memoryBytes > spoolsMemoryBytesMax && this.size > blockBytes)
      ) {
        this.#spill();
      }
      return this.#backlogBytes < backlogBytesMax;
    }
    this.#backlog.push(slice);
    this.#backlogBytes += slice.length;
    this.#writing ??= this.#writeBacklog();
    this.#waiting = this.#backlogBytes >= backlogBytesMax;
    return !this.#waiting;
  }

  /** First 32 hex digits of SHA-256 over prefix and message. Once, after the last `write`. */
  deliveryKey(): string {
    return this.#hash.digest('hex').slice(0, 32);
  }

  /** Resolves when all of it is where it can be read. @throws {Fault} `no-space`, `storage-failed` */
  async complete(): Promise<void> {
    await this.#writing;
    if (this.#failure === undefined) return;
    const code = (this.#failure as { code?: string }).code;
    throw new Fault(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'no-space' : 'storage-failed',
      'the spool cannot be written',
      {
        cause: this.#failure,
      },
    );
  }

  /** The message from its first byte. In memory: the pieces themselves; any number side by side. */
  chunks(): Iterable<Buffer> | AsyncIterable<Buffer> {
    return this.#file === undefined ? [...this.#memory] : this.#readFile(this.#file);
  }

  /** Bytes `start` (inclusive) to `end` (exclusive, clamped to what is there). After `complete`. */
  async read(start: number, end: number): Promise<Buffer> {
    const stop = Math.min(end, this.size);
    if (stop <= start) return nothing;
    if (this.#file === undefined) return cut(this.#memory, start, stop);
    if (this.#dropped) throw new Fault('bug', 'the message was dropped before it was read');
    this.#readers += 1;
    try {
      const { bytesRead, buffer } = await this.#file.read(
        Buffer.allocUnsafe(stop - start),
        0,
        stop - start,
        start,
      );
      return buffer.subarray(0, bytesRead);
    } finally {
      this.#readers -= 1;
      this.#closeWhenUnused();
    }
  }

  stream(): Readable {
    return Readable.from(this.chunks(), { objectMode: false });
  }

  /** Gives memory and file back, the file after its last reader. */
  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#forgetMemory();
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#closeWhenUnused();
  }

  #keep(slice: Buffer): void {
    this.#memoryBytes += slice.length;
    this.#room.memoryBytes += slice.length;
    if (slice.length >= smallBytes) {
      this.#block = undefined;
      this.#memory.push(slice);
      return;
    }
    if (this.#block === undefined || this.#blockUsed + slice.length > blockBytes) {
      // a message of one small piece needs no block around it
      this.#block = this.#memory.length === 0 ? undefined : Buffer.allocUnsafeSlow(blockBytes);
      this.#blockUsed = 0;
      if (this.#block === undefined) {
        this.#memory.push(Buffer.from(slice));
        return;
      }
      this.#memory.push(nothing);
    }
    slice.copy(this.#block, this.#blockUsed);
    this.#blockUsed += slice.length;
    this.#memory[this.#memory.length - 1] = this.#block.subarray(0, this.#blockUsed);
  }

  #spill(): void {
    this.#spilling = true;
    this.#backlog = this.#memory;
    this.#backlogBytes = this.#memoryBytes;
    this.#forgetMemory();
    this.#writing = this.#writeBacklog();
  }

  #forgetMemory(): void {
    this.#room.memoryBytes -= this.#memoryBytes;
    this.#memoryBytes = 0;
    this.#memory = [];
    this.#block = undefined;
  }

  async #writeBacklog(): Promise<void> {
    try {
      if (this.#file === undefined) {
        const name = path.join(this.#room.directory, randomUUID());
        this.#file = await open(name, 'wx+', 0o600);
        // without a name it cannot outlive this process
        await unlink(name);
      }
      while (this.#backlog.length > 0) {
        const batch = this.#backlog;
        this.#backlog = [];
        for (let done = 0, bytes = sum(batch); done < bytes; ) {
          const { bytesWritten } = await this.#file.writev(after(batch, done));
          done += bytesWritten;
          this.#backlogBytes = Math.max(0, this.#backlogBytes - bytesWritten);
        }
        if (this.#waiting && this.#backlogBytes < backlogBytesMax) {
          this.#waiting = false;
          this.#onRoom();
        }
      }
    } catch (error) {
      this.#failure ??= error;
      this.#backlog = [];
      this.#backlogBytes = 0;
      if (this.#waiting) this.#onRoom();
    } finally {
      this.#writing = undefined;
      this.#closeWhenUnused();
    }
  }

  async *#readFile(file: FileHandle): AsyncGenerator<Buffer> {
    if (this.#dropped) throw new Fault('bug', 'the message was dropped before it was read');
    this.#readers += 1;
    try {
      for (let position = 0; position < this.size; ) {
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(readBytes), 0, readBytes, position);
        if (bytesRead === 0) throw new Fault('storage-failed', 'the spool is shorter than what was written');
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      this.#readers -= 1;
      this.#closeWhenUnused();
    }
  }

  #closeWhenUnused(): void {
    if (!this.#dropped || this.#readers > 0 || this.#writing !== undefined) return;
    const file = this.#file;
    this.#file = undefined;
    file?.close().catch(() => {});
  }
}

const nothing = Buffer.alloc(0);

/** Bytes `start` to `end` of pieces that stand one after the other. */
function cut(pieces: readonly Buffer[], start: number, end: number): Buffer {
  const found: Buffer[] = [];
  let at = 0;
  for (const piece of pieces) {
    if (at >= end) break;
    const next = at + piece.length;
    if (next > start) found.push(piece.subarray(Math.max(0, start - at), Math.min(piece.length, end - at)));
    at = next;
  }
  return found.length === 1 ? found[0]! : Buffer.concat(found);
}

function sum(buffers: readonly Buffer[]): number {
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.length;
  return bytes;
}

/** What is left of `buffers` after `skip` bytes, at most 1000 pieces for one writev (IOV_MAX is 1024). */
function after(buffers: readonly Buffer[], skip: number): Buffer[] {
  const rest: Buffer[] = [];
  let left = skip;
  for (const buffer of buffers) {
    if (left >= buffer.length) left -= buffer.length;
    else {
      rest.push(buffer.subarray(left));
      left = 0;
      if (rest.length === 1000) break;
    }
  }
  return rest;
}
