/**
 * The bytes of a resumable session stream, from backend to gateway: the client's
 * answers in frames, and marks between them that say where the session could be
 * taken up again. The other way the client's bytes go as they are.
 *
 * Marks stand in the stream itself because two streams of one link have no order
 * between them. A mark comes in front of the answers it is made of, and the
 * gateway lets none of those through before it has all of them: so a client
 * that has seen a command completed belongs to a gateway that holds the
 * checkpoint after it, and the command is never answered again.
 */
import { Fault } from '../base/fault.ts';

/** One byte in front of each frame; the length of what follows comes after it, four bytes, little-endian. */
export const frameKind = {
  /** Whole answer lines without literals: wherever a line ends, a line of somebody else could follow. */
  lines: 1,
  /** Answers that end with a line, and may have literals inside. */
  answers: 2,
  /** Answers that end somewhere in the middle. */
  part: 3,
  /** A continuation request, sent at a place where the client's command is not over. */
  more: 4,
  /** A checkpoint, and the answers it includes: see `markHeadBytes`. */
  mark: 5,
  /** The session goes on at another backend (or here again): nothing follows. */
  moved: 6,
  /** The session is over: nothing follows. */
  over: 7,
  /**
   * Stands in front of a mark: what comes behind the mark's answers, and what the client sends when it has them, is
   * compressed between client and gateway (RFC 4978). Only to a gateway that has said that it can.
   */
  compress: 8,
} as const;

export type FrameKind = (typeof frameKind)[keyof typeof frameKind];

export const frameHeadBytes = 5;
/**
 * A mark's head: kind, length of the answers, client bytes consumed since the mark before (six bytes), length of
 * the state (four bytes; `sameState` when it has not changed). State and answers follow.
 */
export const markHeadBytes = 15;
export const sameState = 0xffff_ffff;

/** Longest state, in bytes. A session with a longer one cannot be resumed. */
export const stateBytesMax = 16 * 1024;
/** Answers of one mark up to this size wait at the gateway until all are there. Longer ones go through as they come. */
export const heldBytesMax = 256 * 1024;

/** Client bytes behind the last checkpoint that a gateway keeps. A session with more is not resumable until the next one. */
export const keptBytesMax = 256 * 1024;

/** Writes a frame's head. */
export function writeFrameHead(to: Buffer, kind: FrameKind, bytes: number): void {
  to[0] = kind;
  to.writeUInt32LE(bytes, 1);
}

/** Writes a mark's head. @param stateBytes  Or `sameState`. */
export function writeMarkHead(to: Buffer, bytes: number, consumed: number, stateBytes: number): void {
  to[0] = frameKind.mark;
  to.writeUInt32LE(bytes, 1);
  to.writeUIntLE(consumed, 5, 6);
  to.writeUInt32LE(stateBytes, 11);
}

/** What a client has of the answers behind the checkpoint. */
export type Reached = 'nothing' | 'line' | 'middle';

export interface MarkListener {
  /** Bytes for the client. */
  answers(bytes: Buffer): void;
  /**
   * A checkpoint, told before the answers it includes.
   * @param consumed  Client bytes since the one before.
   * @param state     `undefined`: as before. Empty: the session cannot be resumed from here.
   */
  checkpoint(consumed: number, state: Buffer | undefined): void;
  /** From here on the client's side is compressed. */
  compress(): void;
  /** `moved` or `over`. */
  ended(kind: 'moved' | 'over'): void;
}

/** Reads the frames of one stream. Keeps nothing between frames. */
export class MarkReader {
  #kind: FrameKind | 0 = 0;
  /** Payload bytes of the frame that are still to come. */
  #left = 0;
  /** What cannot be told before all of it is there, as far as it has come: a head, the answers of a mark. */
  #waiting: Buffer[] | undefined;
  #consumed = 0;
  #state: Buffer | undefined;
  #reached: Reached = 'nothing';
  #continuations = 0;
  /** Behind the mark that comes next. */
  #compresses = false;

  /** What went to the client since the last checkpoint, continuation requests left out. */
  get reached(): Reached {
    return this.#reached;
  }

  /** Continuation requests since the last checkpoint. */
  get continuations(): number {
    return this.#continuations;
  }

  /** @throws {Fault} `peer-protocol` */
  push(chunk: Buffer, listener: MarkListener): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#payload(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end), listener);
        at = end;
      } else {
        const used = this.#head(chunk, at, listener);
        if (used === 0) return;
        at += used;
      }
    }
  }

  /** Begins anew with another stream, behind the same checkpoint. */
  restart(): void {
    this.#kind = 0;
    this.#left = 0;
    this.#waiting = undefined;
    this.#state = undefined;
    this.#compresses = false;
  }

  #payload(bytes: Buffer, listener: MarkListener): void {
    let whole = bytes;
    if (this.#waiting !== undefined) {
      // Copies: a chunk is its sender's again when this returns.
      if (this.#left > 0 || this.#waiting.length > 0) this.#waiting.push(Buffer.from(bytes));
      if (this.#left > 0) return;
      if (this.#waiting.length > 0) whole = Buffer.concat(this.#waiting);
      this.#waiting = undefined;
    }
    switch (this.#kind) {
      case frameKind.lines:
        this.#reached = whole[whole.length - 1] === 10 ? 'line' : 'middle';
        break;
      case frameKind.answers:
        this.#reached = this.#left === 0 ? 'line' : 'middle';
        break;
      case frameKind.part:
        this.#reached = 'middle';
        break;
      case frameKind.more:
        this.#continuations++;
        break;
      case frameKind.mark:
        // One too long to be held counts when the last of it is through.
        this.#reached = 'middle';
        if (this.#left === 0) this.#checkpoint(listener);
        break;
    }
    listener.answers(whole);
    if (this.#compresses && this.#kind === frameKind.mark && this.#left === 0) {
      this.#compresses = false;
      listener.compress();
    }
  }

  #checkpoint(listener: MarkListener): void {
    const state = this.#state;
    this.#state = undefined;
    this.#reached = 'nothing';
    this.#continuations = 0;
    listener.checkpoint(this.#consumed, state);
  }

  /** @returns bytes used of the chunk; 0 when the head is not all there: it is kept. */
  #head(chunk: Buffer, at: number, listener: MarkListener): number {
    let bytes = chunk;
    let start = at;
    let kept = 0;
    if (this.#waiting !== undefined) {
      kept = this.#waiting[0]!.length;
      bytes = Buffer.concat([this.#waiting[0]!, chunk.subarray(at)]);
      start = 0;
    }
    const size = headBytes(bytes, start);
    if (bytes.length - start < size) {
      // A copy: a few bytes must not keep a chunk alive.
      this.#waiting = [Buffer.from(start === 0 ? bytes : bytes.subarray(start))];
      return 0;
    }
    this.#waiting = undefined;
    this.#begin(bytes, start, listener);
    return size - kept;
  }

  #begin(bytes: Buffer, start: number, listener: MarkListener): void {
    const kind = bytes[start] as FrameKind;
    const length = bytes.readUInt32LE(start + 1);
    this.#kind = kind;
    this.#left = length;
    if (kind === frameKind.mark) {
      this.#consumed = bytes.readUIntLE(start + 5, 6);
      const stateBytes = bytes.readUInt32LE(start + 11);
      if (stateBytes !== sameState) {
        // A copy: the chunk must not live as long as the session.
        this.#state = Buffer.from(bytes.subarray(start + markHeadBytes, start + markHeadBytes + stateBytes));
      }
      if (length === 0) this.#checkpoint(listener);
      else if (length <= heldBytesMax) this.#waiting = [];
      return;
    }
    if (kind === frameKind.more && length > 0) this.#waiting = [];
    if (kind === frameKind.compress) this.#compresses = true;
    if (kind === frameKind.moved || kind === frameKind.over) {
      listener.ended(kind === frameKind.moved ? 'moved' : 'over');
    }
  }
}

/** Bytes of the head that begins at `start`, as far as it can be told yet. @throws {Fault} `peer-protocol` */
function headBytes(bytes: Buffer, start: number): number {
  const kind = bytes[start]!;
  if (kind < frameKind.lines || kind > frameKind.compress) throw unknownFrame();
  if (kind !== frameKind.mark) return frameHeadBytes;
  if (bytes.length - start < markHeadBytes) return markHeadBytes;
  const stateBytes = bytes.readUInt32LE(start + 11);
  if (stateBytes === sameState) return markHeadBytes;
  if (stateBytes > stateBytesMax) throw unknownFrame();
  return markHeadBytes + stateBytes;
}

function unknownFrame(): Fault {
  return new Fault('peer-protocol', 'the session stream is not in form');
}
