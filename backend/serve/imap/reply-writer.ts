/**
 * Gathers a session's answers into few large writes and stops when the client
 * does not read: what is waiting here is bounded by one gathering (CASES 28).
 * On a resumable stream the writes are framed, see `cluster-protocol/session-marks.ts`.
 */
import {
  type FrameKind,
  frameHeadBytes,
  frameKind,
  markHeadBytes,
  sameState,
  writeFrameHead,
  writeMarkHead,
} from '../../../cluster-protocol/session-marks.ts';

import { gatherBuffer } from '../gather-buffers.ts';

/** Where a session's bytes go and come from. The service makes one of an HTTP/2 stream, tests one of arrays. */
export interface Transport {
  /** The chunk is the transport's from now on. false: more than the other side reads; wait for `drained` before writing on. */
  write(chunk: Buffer): boolean;
  /** Resolves when the next write may come, or when the connection is gone. */
  drained(): Promise<void>;
  /** What is written from here on leaves with `end`. */
  gather?(): void;
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

/** A place in what was gathered up to which the session could be taken up again. */
interface Boundary {
  /** Gathered bytes before it. */
  readonly bytes: number;
  /** Whole parts before it, and chars of the text behind those. */
  readonly parts: number;
  readonly chars: number;
}

export class ReplyWriter {
  readonly #transport: Transport;
  readonly #marked: boolean;
  #text = '';
  #parts: (string | Buffer)[] = [];
  #bytes = 0;
  #writtenBytes = 0;
  #blocked = false;
  #boundary: Boundary | undefined;
  /** Client bytes consumed at the boundary, and at the last one that was written. */
  #consumed = 0;
  #toldConsumed = 0;
  #state: Buffer | undefined;
  #asksForMore = false;
  #compresses = false;

  /** @param marked  The stream is resumable: writes are frames. */
  constructor(transport: Transport, marked = false) {
    this.#transport = transport;
    this.#marked = marked;
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

  /** Adds a continuation request: the command that asks for more has no boundary yet. Flush after it. */
  more(line: string): void {
    this.text(line);
    this.#asksForMore = true;
  }

  /**
   * The session could be taken up again behind what was added so far.
   * @param consumed  Client bytes of the commands this answers, since the start.
   * @param state     `undefined`: as at the boundary before.
   */
  boundary(consumed: number, state: Buffer | undefined): void {
    if (!this.#marked) return;
    this.#boundary = { bytes: this.#bytes, parts: this.#parts.length, chars: this.#text.length };
    this.#consumed = consumed;
    if (state !== undefined) this.#state = state;
  }

  /** Behind the next boundary the gateway compresses. What follows has to wait for it: the writer is full. */
  compressBehind(): void {
    this.#compresses = true;
  }

  /** Is it time to flush? */
  get full(): boolean {
    return this.#bytes >= gatherBytes || this.#compresses;
  }

  /** Bytes of answers given to the transport since the start. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Waits for the client to read. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Writes what was gathered. A promise comes back when the client has to read first: await it. */
  flush(): Promise<void> | undefined {
    if (this.#bytes === 0 && !this.#movedOn) return undefined;
    this.#writtenBytes += this.#bytes;
    let room = true;
    if (this.#marked) room = this.#writeFrames();
    else if (this.#parts.length === 0) room = this.#write(Buffer.from(this.#text, 'latin1'));
    else {
      if (this.#text !== '') this.#parts.push(this.#text);
      room = this.#writeParts(this.#parts);
    }
    this.#parts = [];
    this.#text = '';
    this.#bytes = 0;
    if (room || this.#transport.closed) return undefined;
    this.#blocked = true;
    return this.#transport.drained().then(() => {
      this.#blocked = false;
    });
  }

  /** The last word on a resumable stream. Flushes. */
  end(kind: 'moved' | 'over'): void {
    if (this.#marked) this.#transport.gather?.();
    void this.flush();
    if (!this.#marked) return;
    const head = Buffer.alloc(frameHeadBytes);
    writeFrameHead(head, kind === 'moved' ? frameKind.moved : frameKind.over, 0);
    this.#write(head);
  }

  /** There is a boundary to tell without answers in front of it. */
  get #movedOn(): boolean {
    if (this.#boundary === undefined) return false;
    return this.#state !== undefined || this.#consumed !== this.#toldConsumed;
  }

  #writeFrames(): boolean {
    const boundary = this.#boundary;
    this.#boundary = undefined;
    if (boundary === undefined) return this.#writeFrame(this.#takeParts());
    if (this.#compresses) {
      this.#compresses = false;
      const compress = Buffer.alloc(frameHeadBytes);
      writeFrameHead(compress, frameKind.compress, 0);
      this.#write(compress);
    }
    const consumed = this.#consumed - this.#toldConsumed;
    this.#toldConsumed = this.#consumed;
    const state = this.#state;
    this.#state = undefined;
    const headBytes = markHeadBytes + (state?.length ?? 0);
    if (this.#parts.length === 0 && boundary.bytes === this.#bytes) {
      // What most answers are: a few lines, whole.
      const all = Buffer.allocUnsafe(headBytes + this.#bytes);
      writeMarkHead(all, this.#bytes, consumed, state?.length ?? sameState);
      state?.copy(all, markHeadBytes);
      all.write(this.#text, headBytes, 'latin1');
      return this.#write(all);
    }
    const head = Buffer.allocUnsafe(headBytes);
    writeMarkHead(head, boundary.bytes, consumed, state?.length ?? sameState);
    state?.copy(head, markHeadBytes);
    const parts = this.#takeParts();
    const before = parts.slice(0, boundary.parts);
    const after = parts.slice(boundary.parts);
    const cut = after[0];
    if (typeof cut === 'string' && boundary.chars > 0) {
      before.push(cut.slice(0, boundary.chars));
      if (boundary.chars === cut.length) after.shift();
      else after[0] = cut.slice(boundary.chars);
    }
    const room = this.#writeParts([head, ...before]);
    return after.length === 0 ? room : this.#writeFrame(after) && room;
  }

  /** What is behind the last boundary: a piece of the answer of a command that still runs. */
  #writeFrame(parts: (string | Buffer)[]): boolean {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const head = Buffer.allocUnsafe(frameHeadBytes);
    writeFrameHead(head, this.#asksForMore ? frameKind.more : kindOf(parts), bytes);
    this.#asksForMore = false;
    return this.#writeParts([head, ...parts]);
  }

  #takeParts(): (string | Buffer)[] {
    if (this.#text !== '') this.#parts.push(this.#text);
    return this.#parts;
  }

  #writeParts(parts: readonly (string | Buffer)[]): boolean {
    let room = true;
    let from = 0;
    for (let at = 0; at < parts.length; at++) {
      const part = parts[at]!;
      if (typeof part === 'string' || part.length < copyBytesMax) continue;
      room = this.#writeJoined(parts, from, at) && room;
      room = this.#write(part);
      from = at + 1;
    }
    return from < parts.length ? this.#writeJoined(parts, from, parts.length) : room;
  }

  #writeJoined(parts: readonly (string | Buffer)[], from: number, to: number): boolean {
    let size = 0;
    for (let at = from; at < to; at++) size += parts[at]!.length;
    if (size === 0) return true;
    const joined = gatherBuffer(size);
    let filled = 0;
    for (let at = from; at < to; at++) {
      const part = parts[at]!;
      if (typeof part === 'string') filled += joined.write(part, filled, 'latin1');
      else filled += part.copy(joined, filled);
    }
    return this.#write(joined);
  }

  #write(chunk: Buffer): boolean {
    return this.#transport.closed ? true : this.#transport.write(chunk);
  }
}

/** Where could a line of somebody else follow? Literals end in the middle of a line: what ends a line is text. */
function kindOf(parts: readonly (string | Buffer)[]): FrameKind {
  const last = parts.at(-1);
  if (typeof last !== 'string' || !last.endsWith('\r\n') || last.endsWith('}\r\n')) return frameKind.part;
  return parts.length === 1 && !last.includes('}\r\n') ? frameKind.lines : frameKind.answers;
}
