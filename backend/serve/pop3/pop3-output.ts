/**
 * Answers on their way to the client: gathered into few large writes, and no faster than the client reads. On a
 * resumable stream the writes are framed, see `cluster-protocol/session-marks.ts`.
 */
import type { Writable } from 'node:stream';
import { Fault } from '../../../base/fault.ts';
import {
  frameHeadBytes,
  frameKind,
  markHeadBytes,
  sameState,
  stateBytesMax,
  writeFrameHead,
  writeMarkHead,
} from '../../../cluster-protocol/session-marks.ts';

const flushBytes = 64 * 1024;

export class Pop3Output {
  readonly #stream: Writable;
  #pieces: (string | Buffer)[] = [];
  #gatheredBytes = 0;
  #sentBytes = 0;

  /** Pieces before the last boundary, and the client's bytes up to it; the state when it has changed. */
  #boundary: { readonly pieces: number; readonly consumed: number } | undefined;
  #toldConsumed = 0;
  readonly #stateNow: (() => Buffer | undefined) | undefined;

  /** @param stateNow  The stream is resumable: the state at the last boundary, when it is another than before. */
  constructor(stream: Writable, stateNow?: () => Buffer | undefined) {
    this.#stream = stream;
    this.#stateNow = stateNow;
  }

  /** A command is over: the session could be taken up again behind its answer. */
  boundary(consumed: number): void {
    if (this.#stateNow !== undefined) this.#boundary = { pieces: this.#pieces.length, consumed };
  }

  /** The last word. */
  end(kind: 'moved' | 'over'): void {
    if (this.#stateNow === undefined || this.#stream.destroyed || this.#stream.writableEnded) return;
    const head = Buffer.alloc(frameHeadBytes);
    writeFrameHead(head, kind === 'moved' ? frameKind.moved : frameKind.over, 0);
    this.#stream.write(head);
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Adds to what is gathered. Resolves at once, or when the client has taken enough of what was sent. */
  async add(piece: string | Buffer): Promise<void> {
    this.#pieces.push(piece);
    this.#gatheredBytes += piece.length;
    if (this.#gatheredBytes >= flushBytes) await this.flush();
  }

  /** @throws {Fault} `gone` when the stream has ended. */
  async flush(): Promise<void> {
    if (this.#pieces.length === 0) return;
    const pieces = this.#pieces.map((piece) =>
      typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece,
    );
    this.#sentBytes += this.#gatheredBytes;
    const bytes = Buffer.concat(this.#stateNow === undefined ? pieces : this.#framed(pieces, this.#stateNow));
    this.#pieces = [];
    this.#gatheredBytes = 0;
    if (this.#stream.destroyed || this.#stream.writableEnded)
      throw new Fault('gone', 'the session has ended');
    if (!this.#stream.write(bytes)) await this.#drained();
  }

  /** The answers of whole commands behind a mark; then what is there of the next one's. */
  #framed(pieces: readonly Buffer[], stateNow: () => Buffer | undefined): Buffer[] {
    const boundary = this.#boundary;
    this.#boundary = undefined;
    const frames: Buffer[] = [];
    if (boundary !== undefined) {
      const whole = pieces.slice(0, boundary.pieces);
      const state = stateNow();
      const told = state !== undefined && state.length > stateBytesMax ? Buffer.alloc(0) : state;
      const head = Buffer.alloc(markHeadBytes);
      writeMarkHead(head, bytesIn(whole), boundary.consumed - this.#toldConsumed, told?.length ?? sameState);
      this.#toldConsumed = boundary.consumed;
      frames.push(head, ...(told === undefined ? [] : [told]), ...whole);
    }
    const rest = pieces.slice(boundary?.pieces ?? 0);
    if (rest.length > 0) {
      const head = Buffer.alloc(frameHeadBytes);
      // An answer of several lines cannot be followed by an error: it is whole or the connection ends.
      writeFrameHead(head, frameKind.part, bytesIn(rest));
      frames.push(head, ...rest);
    }
    return frames;
  }

  async #drained(): Promise<void> {
    const stream = this.#stream;
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        stream.off('drain', settle);
        stream.off('close', settle);
        if (stream.destroyed) reject(new Fault('gone', 'the session has ended'));
        else resolve();
      };
      stream.on('drain', settle);
      stream.on('close', settle);
      if (stream.destroyed) settle();
    });
  }
}

function bytesIn(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}
