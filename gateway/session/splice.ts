/**
 * A logged-in session: bytes both ways between client and owner, each side read
 * only as fast as the other takes it. Ten thousand of these are idle most of
 * the time, so one costs one small object: handlers are shared functions that
 * find their session through the socket they were called on.
 */
import { constants, type Http2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Deadline, Deadlines } from '../net/deadline.ts';
import { giveBack } from '../routing/receive-buffers.ts';
import type { SessionStream } from '../routing/session-stream.ts';
import { type ClientSide, Compression, type CompressionListener } from './compression.ts';
import type { MutableSession } from './session.ts';

const spliceOf = Symbol('splice');
type Held<T> = T & { [spliceOf]: Splice };

const lf = 10;
/** Dead clients of idle sessions are found by TCP, within about this and the kernel's probes. */
const keepAliveMs = 5 * 60_000;
/** How long a client that was told goodbye may take to close. */
const lingerMs = 5000;

export interface SpliceOwner {
  readonly deadlines: Deadlines;
  /** Said on a line of its own when the owner has gone or the gateway stops, where that cannot be taken for message text. */
  readonly farewell: { readonly lost: string; readonly stopping: string };
  /** Both sides are closed. */
  ended(splice: Splice, reason: string): void;
}

export class Splice implements CompressionListener {
  readonly client: Socket;
  readonly stream: SessionStream;
  readonly session: MutableSession;
  readonly #owner: SpliceOwner;
  /** What is written to the client goes here: the socket, or what compresses for it. */
  #side: ClientSide;
  #compression: Compression | undefined;
  /** The client's bytes came last: an answer is due. */
  #asked: boolean;
  /** What the client has not taken all of: the owner waits. */
  #unwritten: Buffer | undefined;
  /** What went to the client ended a line. */
  #lineEnded = true;
  #reason = '';
  /** `bytesWritten` at the last look, see `quiet`. */
  #seenBytes = -1;
  #keptAlive = false;
  #lingering: Deadline | undefined;

  /**
   * Starts at once. `client` must have no listeners of its own but for errors.
   * @param first  The client's bytes that came after its login.
   */
  constructor(
    client: Socket,
    stream: SessionStream,
    session: MutableSession,
    owner: SpliceOwner,
    first: Buffer,
  ) {
    this.client = client;
    this.stream = stream;
    this.session = session;
    this.#owner = owner;
    this.#side = client;
    this.#asked = first.length > 0;
    (client as Held<Socket>)[spliceOf] = this;
    (stream as Held<SessionStream>)[spliceOf] = this;
    client.on('drain', clientDrain);
    client.on('end', clientEnd);
    client.on('close', clientClose);
    stream.on('error', ignore);
    stream.on('data', streamData);
    stream.on('drain', streamDrain);
    stream.on('end', streamEnd);
    stream.on('close', streamClose);
    stream.on('compress', streamCompress);
    const room = first.length === 0 || stream.write(first);
    client.on('data', clientData);
    if (room) client.resume();
    else client.pause();
    // Either side may have gone while the other was being opened.
    if (client.destroyed) this.clientClosed();
    else if (stream.destroyed) this.streamClosed();
    else if (client.readableEnded) stream.end();
  }

  /** For sessions that have lasted a while: short ones are spared the system calls. */
  keepAlive(): void {
    if (this.#keptAlive || this.client.destroyed) return;
    this.#keptAlive = true;
    this.client.setKeepAlive(true, keepAliveMs);
  }

  /** Nothing is being answered, and nothing was since the last call: a word of ours would stand between two answers. */
  quiet(): boolean {
    const { bytesWritten } = this.client;
    const still = this.#seenBytes === bytesWritten && this.client.writableLength === 0;
    this.#seenBytes = bytesWritten;
    return still && !this.#asked && this.#lineEnded;
  }

  /** Ends the session with a word. */
  stop(): void {
    this.#end('stopping', this.#owner.farewell.stopping);
  }

  /** Ends the session in mid-word. */
  cut(): void {
    this.#reason ||= 'cut';
    this.client.destroy();
  }

  fromClient(chunk: Buffer): void {
    this.#asked = true;
    if (!this.stream.write(chunk)) this.#side.pause();
  }

  /** As they came over the wire. */
  rawFromClient(chunk: Buffer): void {
    if (this.#compression === undefined) this.fromClient(chunk);
    else this.#compression.push(chunk);
  }

  clientDrained(): void {
    this.stream.resume();
  }

  /** The socket says so; with compression what it drained is only a part of the way. */
  socketDrained(): void {
    if (this.#compression !== undefined) return;
    if (this.#unwritten !== undefined) giveBack(this.#unwritten);
    this.#unwritten = undefined;
    this.stream.resume();
  }

  clientEnded(): void {
    const { stream } = this;
    if (!stream.writableEnded && !stream.destroyed) stream.end();
  }

  socketEnded(): void {
    if (this.#compression === undefined) this.clientEnded();
    else this.#compression.finish();
  }

  streamDrained(): void {
    this.#side.resume();
  }

  /** RFC 4978: what was written so far goes out as it is; from here on both ways are compressed. */
  compress(): void {
    if (this.#compression !== undefined || this.client.destroyed) return;
    this.#compression = new Compression(this.client, this);
    this.#side = this.#compression;
  }

  notCompressed(reason: string): void {
    this.#reason ||= reason;
    this.client.destroy();
  }

  fromOwner(chunk: Buffer): void {
    this.#asked = false;
    this.#lineEnded = chunk[chunk.length - 1] === lf;
    const room = this.#side.write(chunk);
    if (this.#compression !== undefined) {
      if (!room) this.stream.pause();
    } else if (this.client.writableLength === 0) giveBack(chunk);
    else if (!room) {
      this.#unwritten = chunk;
      this.stream.pause();
    }
  }

  ownerEnded(): void {
    const { client, stream } = this;
    // Node ends a stream that was reset with CANCEL as if its owner had ended it: only the code tells.
    if ((stream as Partial<Http2Stream>).rstCode) {
      this.#end('owner-lost', this.#lineEnded ? this.#owner.farewell.lost : '');
      return;
    }
    this.#reason ||= 'ended';
    client.off('data', clientData);
    client.resume();
    if (!stream.writableEnded) stream.end();
    this.#side.end();
    this.#linger();
  }

  streamClosed(): void {
    const { readableEnded } = this.stream;
    // A stream that closes without an end was reset: the owner died, or the link did.
    if (readableEnded) {
      if (!this.client.writableEnded) this.#side.end();
      return;
    }
    const mayTell = this.#lineEnded && this.stream.midAnswer !== true;
    this.#end('owner-lost', mayTell ? this.#owner.farewell.lost : '');
  }

  clientClosed(): void {
    this.#reason ||= 'client';
    this.#lingering?.cancel();
    this.#compression?.close();
    if (!this.stream.destroyed) closeStream(this.stream);
    this.#owner.ended(this, this.#reason);
  }

  /** Whoever does not close its side is cut off. Given back at once on close: a short session must not be kept for it. */
  #linger(): void {
    this.#lingering ??= this.#owner.deadlines.start(lingerMs, () => this.client.destroy());
  }

  #end(reason: string, word: string): void {
    this.#reason ||= reason;
    const { client, stream } = this;
    stream.off('data', streamData);
    if (!stream.destroyed) closeStream(stream);
    if (client.destroyed) return;
    client.off('data', clientData);
    client.resume();
    if (this.#compression !== undefined) this.#compression.end(word);
    else if (word === '') client.end();
    else client.end(word, 'latin1');
    this.#linger();
  }
}

function closeStream(stream: SessionStream): void {
  const http2Stream = stream as Partial<Pick<Http2Stream, 'close'>>;
  if (typeof http2Stream.close === 'function') http2Stream.close(constants.NGHTTP2_CANCEL);
  else stream.destroy();
}

function clientData(this: Socket, chunk: Buffer): void {
  (this as Held<Socket>)[spliceOf].rawFromClient(chunk);
}
function clientDrain(this: Socket): void {
  (this as Held<Socket>)[spliceOf].socketDrained();
}
function clientEnd(this: Socket): void {
  (this as Held<Socket>)[spliceOf].socketEnded();
}
function clientClose(this: Socket): void {
  (this as Held<Socket>)[spliceOf].clientClosed();
}
function streamData(this: SessionStream, chunk: Buffer): void {
  (this as Held<SessionStream>)[spliceOf].fromOwner(chunk);
}
function streamDrain(this: SessionStream): void {
  (this as Held<SessionStream>)[spliceOf].streamDrained();
}
function streamEnd(this: SessionStream): void {
  (this as Held<SessionStream>)[spliceOf].ownerEnded();
}
function streamClose(this: SessionStream): void {
  (this as Held<SessionStream>)[spliceOf].streamClosed();
}
function streamCompress(this: SessionStream): void {
  (this as Held<SessionStream>)[spliceOf].compress();
}
/** Shared: 'close' follows every error and is what counts. */
function ignore(): void {}
