/**
 * The stream of an accepted session, as a door carries it. Under it are, one
 * after the other, the link streams of the account's owners: it keeps the newest
 * checkpoint and the client's bytes behind it, and when the stream under it ends
 * without the session having ended, it goes on with the next one.
 *
 * One per client that is logged in, nearly all of them idle: shared handlers, no
 * timer, no closure.
 */
import { EventEmitter } from 'node:events';
import { constants } from 'node:http2';
import type { Address } from '../../cluster-protocol/ids.ts';
import {
  afterStreamEnd,
  type NotResumed,
  type StreamEnd,
  type Taking,
} from '../../cluster-protocol/resumption.ts';
import { keptBytesMax, type MarkListener, MarkReader } from '../../cluster-protocol/session-marks.ts';
import type { Session } from '../session/session.ts';
import type { OwnerSide } from './exchange.ts';
import { SessionSocket } from './session-socket.ts';

/** What a door needs of a session's stream: the part of a Duplex that it uses; and `compress`, see `MarkListener`. */
export interface SessionStream extends EventEmitter {
  /** false: write on after `drain`. */
  write(chunk: Buffer): boolean;
  end(): unknown;
  pause(): unknown;
  resume(): unknown;
  destroy(): unknown;
  readonly destroyed: boolean;
  readonly writableEnded: boolean;
  readonly readableEnded: boolean;
  /** The client stands in the middle of an answer: nothing may be said to it. */
  readonly midAnswer?: boolean;
}

/** Who looks for the next owner of a session. */
export interface Resumer {
  /** Calls `attach` or `giveUp` of the stream, once, unless it was destroyed meanwhile. */
  resume(stream: ResumableStream): void;
  /** For the log and the metrics. */
  lost(stream: ResumableStream, reason: NotResumed): void;
}

/** What of a session is needed to open it again. */
export interface ResumableSession {
  readonly session: Session;
  readonly service: 'imap' | 'pop3';
  readonly account: Address;
}

const outerOf = Symbol('outer');
type Held = OwnerSide & { [outerOf]: ResumableStream | undefined };

export class ResumableStream extends EventEmitter implements SessionStream, MarkListener {
  readonly about: ResumableSession;
  readonly #resumer: Resumer;
  readonly #reader = new MarkReader();
  #inner: OwnerSide | undefined;
  #state: Buffer;
  /** Client bytes from the login to the checkpoint. */
  #offset = 0;
  /** The client's bytes behind the checkpoint; `#missing` of them, in front of these, were too many to keep. */
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #missing = 0;
  /** The first so many of them may have been run by an owner. */
  #replayed = 0;
  #streamEnd: StreamEnd = 'lost';
  #paused = false;
  #pausedAtMs = 0;
  #needsDrain = false;
  /** Owners that went with what is kept, one after the other. */
  #tries = 0;
  destroyed = false;
  writableEnded = false;
  readableEnded = false;
  midAnswer = false;
  /** When the stream under it ended, by the monotonic clock. */
  pausedAtMs = 0;

  /**
   * @param inner  Answered with `accepted` and `marks`.
   * @param state  The first checkpoint.
   */
  constructor(inner: OwnerSide, state: Buffer, about: ResumableSession, resumer: Resumer) {
    super();
    this.about = about;
    this.#state = state;
    this.#resumer = resumer;
    this.#listen(inner);
  }

  /** The newest checkpoint, as text. */
  get state(): string {
    return this.#state.toString('base64');
  }

  get taking(): Taking {
    return {
      answered: this.#reader.reached === 'line',
      continuations: this.#reader.continuations,
      offset: this.#offset,
      replayedBytes: this.#replayed,
    };
  }

  /** How the last stream under it ended. */
  get streamEnd(): StreamEnd {
    return this.#streamEnd;
  }

  /** The client waits for an answer. */
  get waitedFor(): boolean {
    return this.#keptBytes > 0;
  }

  write(chunk: Buffer): boolean {
    if (this.destroyed) return true;
    this.#keep(chunk);
    // While there is no owner the client may go on until as much is kept as can be.
    const room = this.#inner === undefined ? this.#keptBytes < keptBytesMax / 2 : this.#inner.write(chunk);
    if (!room) this.#needsDrain = true;
    return room;
  }

  end(): void {
    this.writableEnded = true;
    this.#inner?.end();
  }

  pause(): void {
    this.#paused = true;
    this.#pausedAtMs = performance.now();
    this.#inner?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#inner?.resume();
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    const inner = this.#letGo();
    inner?.close(constants.NGHTTP2_CANCEL);
    this.#kept = [];
  }

  /** A new owner has taken the session up. */
  attach(inner: OwnerSide): void {
    this.#streamEnd = 'lost';
    this.#reader.restart();
    this.#listen(inner);
    if (this.#paused) inner.pause();
    let room = true;
    for (const chunk of this.#kept) room = inner.write(chunk);
    if (this.writableEnded) inner.end();
    if (room) this.innerDrained();
  }

  /** Nobody takes it up. */
  giveUp(reason: NotResumed): void {
    if (this.destroyed) return;
    this.midAnswer = this.#reader.reached === 'middle';
    this.destroyed = true;
    this.#kept = [];
    this.#resumer.lost(this, reason);
    this.emit('close');
  }

  // What the reader of marks tells.

  answers(bytes: Buffer): void {
    this.emit('data', bytes);
  }

  checkpoint(consumed: number, state: Buffer | undefined): void {
    if (state !== undefined) this.#state = state;
    this.#tries = 0;
    this.#offset += consumed;
    this.#replayed = Math.max(0, this.#replayed - consumed);
    let over = consumed - this.#missing;
    this.#missing = Math.max(0, -over);
    if (over <= 0) return;
    if (over >= this.#keptBytes) {
      this.#keptBytes = 0;
      this.#kept.length = 0;
      return;
    }
    this.#keptBytes -= over;
    while (over > 0) {
      const first = this.#kept[0]!;
      if (first.length > over) this.#kept[0] = first.subarray(over);
      else this.#kept.shift();
      over -= first.length;
    }
  }

  compress(): void {
    this.emit('compress');
  }

  ended(kind: 'moved' | 'over'): void {
    this.#streamEnd = kind;
    // Nothing follows: a socket need not be heard out, and is closed at once.
    if (kind === 'moved' || this.#inner instanceof SessionSocket) this.innerOver();
  }

  // What the stream under it tells.

  innerData(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, this);
    } catch {
      // Not in form: nothing of it can be trusted, but what was before can.
      this.#inner?.close(constants.NGHTTP2_PROTOCOL_ERROR);
    }
  }

  innerDrained(): void {
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    this.emit('drain');
  }

  /** The stream under it has ended, or says that nothing more will come. */
  innerOver(): void {
    const inner = this.#letGo();
    if (inner === undefined || this.destroyed) return;
    if (inner instanceof SessionSocket) inner.destroy();
    else if (!inner.writableEnded) inner.end();
    const next = afterStreamEnd({
      end: this.#streamEnd,
      whole: this.#missing === 0 && this.#state.length > 0,
      reached: this.#reader.reached,
      clientGone: this.writableEnded && this.#keptBytes === 0,
      stalledMs: this.#paused ? performance.now() - this.#pausedAtMs : 0,
      tries: this.#tries,
    });
    switch (next.do) {
      case 'resume':
        // Whether the old owner has done what came behind the checkpoint is not known.
        if (this.#streamEnd === 'lost') {
          this.#replayed = this.#keptBytes;
          if (this.#keptBytes > 0) this.#tries++;
        }
        this.pausedAtMs = performance.now();
        this.#resumer.resume(this);
        return;
      case 'close':
        if (next.reason === 'ended') {
          this.readableEnded = true;
          this.emit('end');
        } else this.giveUp(next.reason);
        return;
      case 'say-goodbye':
        this.giveUp(next.reason);
    }
  }

  #keep(chunk: Buffer): void {
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
    if (this.#keptBytes <= keptBytesMax || this.#inner === undefined) return;
    this.#missing += this.#keptBytes;
    this.#kept.length = 0;
    this.#keptBytes = 0;
  }

  #listen(inner: OwnerSide): void {
    forgetSentHeaders(inner);
    this.#inner = inner;
    if (inner instanceof SessionSocket) inner.endsInBand = true;
    (inner as Held)[outerOf] = this;
    inner.on('error', ignore);
    inner.on('data', innerData);
    inner.on('drain', innerDrain);
    inner.on('end', innerEnd);
    inner.on('close', innerEnd);
    if (inner.destroyed) queueMicrotask(() => this.innerOver());
  }

  /** Hears nothing of it any more. @returns it, once */
  #letGo(): OwnerSide | undefined {
    const inner = this.#inner;
    if (inner === undefined) return undefined;
    this.#inner = undefined;
    (inner as Held)[outerOf] = undefined;
    inner.off('drain', innerDrain);
    return inner;
  }
}

/**
 * Node keeps what a stream was opened with for as long as the stream lives: the
 * password of every idle session, and a kilobyte each. Nobody asks for it again.
 */
export function forgetSentHeaders(stream: OwnerSide): void {
  if (stream instanceof SessionSocket) return;
  const held = stream as unknown as Record<symbol, unknown>;
  for (const symbol of Object.getOwnPropertySymbols(stream)) {
    if (symbol.description === 'sent-headers') held[symbol] = undefined;
  }
}

function innerData(this: OwnerSide, chunk: Buffer): void {
  (this as Held)[outerOf]?.innerData(chunk);
}
function innerDrain(this: OwnerSide): void {
  (this as Held)[outerOf]?.innerDrained();
}
function innerEnd(this: OwnerSide): void {
  (this as Held)[outerOf]?.innerOver();
}
/** Shared: 'close' follows every error and is what counts. */
function ignore(): void {}
