/**
 * Gathers a session's answers into few large writes and stops when the client
 * does not read: what is waiting here is bounded by one gathering (CASES 28).
 */

/** Where a session's bytes go and come from. The service makes one of an HTTP/2 stream, tests one of arrays. */
export interface Transport {
  /** false: more than the other side reads; wait for `drained` before writing on. */
  write(chunk: Buffer): boolean;
  /** Resolves when the next write may come, or when the connection is gone. */
  drained(): Promise<void>;
  pauseInput(): void;
  resumeInput(): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
  readonly closed: boolean;
}

/** A gathering this large is written out. Over a link, 64 KiB at a time cost a fifth of the rate of 128. */
const gatherBytes = 128 * 1024;
/** Buffers from this size on are written as they are, smaller ones are copied together. */
const copyBytesMax = 32 * 1024;

export class ReplyWriter {
  readonly #transport: Transport;
  #text = '';
  #parts: (string | Buffer)[] = [];
  #bytes = 0;
  #writtenBytes = 0;
  #blocked = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Adds text, one char per byte. */
  text(latin1: string): void {
    this.#text += latin1;
    this.#bytes += latin1.length;
  }

  /** Adds bytes; the caller must not change them afterwards. */
  bytes(chunk: Buffer): void {
    if (this.#text !== '') {
      this.#parts.push(this.#text);
      this.#text = '';
    }
    this.#parts.push(chunk);
    this.#bytes += chunk.length;
  }

  /** Is it time to flush? */
  get full(): boolean {
    return this.#bytes >= gatherBytes;
  }

  /** Bytes given to the transport since the start. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Waits for the client to read. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Writes what was gathered. A promise comes back when the client has to read first: await it. */
  flush(): Promise<void> | undefined {
    if (this.#bytes === 0) return undefined;
    let room = true;
    if (this.#parts.length === 0) {
      room = this.#write(Buffer.from(this.#text, 'latin1'));
    } else {
      if (this.#text !== '') this.#parts.push(this.#text);
      room = this.#writeParts();
      this.#parts = [];
    }
    this.#text = '';
    this.#bytes = 0;
    if (room || this.#transport.closed) return undefined;
    this.#blocked = true;
    return this.#transport.drained().then(() => {
      this.#blocked = false;
    });
  }

  #writeParts(): boolean {
    let room = true;
    let from = 0;
    const parts = this.#parts;
    for (let at = 0; at < parts.length; at++) {
      const part = parts[at]!;
      if (typeof part === 'string' || part.length < copyBytesMax) continue;
      room = this.#writeJoined(from, at) && room;
      room = this.#write(part);
      from = at + 1;
    }
    return from < parts.length ? this.#writeJoined(from, parts.length) : room;
  }

  #writeJoined(from: number, to: number): boolean {
    let size = 0;
    for (let at = from; at < to; at++) size += this.#parts[at]!.length;
    if (size === 0) return true;
    const joined = Buffer.allocUnsafe(size);
    let filled = 0;
    for (let at = from; at < to; at++) {
      const part = this.#parts[at]!;
      if (typeof part === 'string') filled += joined.write(part, filled, 'latin1');
      else filled += part.copy(joined, filled);
    }
    return this.#write(joined);
  }

  #write(chunk: Buffer): boolean {
    this.#writtenBytes += chunk.length;
    return this.#transport.closed ? true : this.#transport.write(chunk);
  }
}
