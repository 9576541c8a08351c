/**
 * A session's own socket to a backend of this machine (`session-opening.ts`), to
 * be used like the stream of a link: the same events and calls, `close(code)` and
 * `rstCode` included. It costs less than a stream: no frames, no copies, its own
 * back-pressure, and the kernel tells at once when the backend is gone.
 */
import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import net, { type OnReadOpts } from 'node:net';
import { Fault } from '../../base/fault.ts';
import { encodeHead, type Head, HeadReader } from '../../cluster-protocol/session-opening.ts';
import { received, sharedReceiveBuffer, unused } from './receive-buffers.ts';

/** Told to a backend that has ended a session, to see that it is there: nobody reads it. */
const probe = Buffer.from('\n');

/** Where the socket whose callback runs reads next: Node asks for that right after the callback, without saying for which. */
let nextBuffer: Buffer = sharedReceiveBuffer;
const onread: OnReadOpts = {
  buffer: () => nextBuffer,
  callback(this: unknown, bytes: number, into: Uint8Array): boolean {
    return (this as SessionSocket).took(into as Buffer, bytes);
  },
};

export interface OpenedSession {
  readonly headers: IncomingHttpHeaders;
  readonly status: number;
  readonly stream: SessionSocket;
}

export class SessionSocket extends net.Socket {
  /** As of an HTTP/2 stream: set when the backend broke the session off. */
  rstCode: number = constants.NGHTTP2_NO_ERROR;
  /** The session says itself when it is over (`session-marks.ts`): how the socket ends does not matter. */
  endsInBand = false;
  /** Until the backend's answer is there. */
  #head: HeadReader | undefined = new HeadReader();
  /** Told of it, once. */
  answered: ((head: Record<string, string | number>) => void) | undefined;
  /** The first bytes of the session, which came with the answer. */
  #early: Buffer | undefined;
  #buffer: Buffer = sharedReceiveBuffer;

  constructor(path: string, opening: OutgoingHttpHeaders) {
    nextBuffer = sharedReceiveBuffer;
    super({ allowHalfOpen: true, onread });
    // 'close' follows every error, and says the same.
    this.on('error', ignore);
    // The first of its listeners: whoever hears of the end sees what kind of end it was.
    this.on('end', ended);
    this.on('close', closed);
    this.connect(path);
    this.write(encodeHead(opening as Head));
  }

  /** For `onread`. @returns false: read no more for now. */
  took(into: Buffer, bytes: number): boolean {
    const { chunk, next } = received(into, bytes);
    this.#buffer = next;
    let goOn: boolean;
    if (this.#head !== undefined) goOn = this.#readHead(chunk);
    else {
      this.emit('data', chunk);
      goOn = !this.isPaused();
    }
    // Last: a listener may have opened another socket.
    nextBuffer = next;
    return goOn;
  }

  #readHead(chunk: Buffer): boolean {
    try {
      const found = this.#head!.push(chunk);
      if (found === undefined) return true;
      this.#head = undefined;
      if (found.rest.length > 0) this.#early = found.rest;
      this.answered?.(found.head);
    } catch (error) {
      this.destroy(Fault.from(error));
    }
    // Nobody listens yet: what comes next waits until somebody reads.
    return false;
  }

  override resume(): this {
    const early = this.#early;
    if (early !== undefined && this.#head === undefined && this.listenerCount('data') > 0) {
      this.#early = undefined;
      process.nextTick(() => {
        if (!this.destroyed) this.emit('data', early);
      });
    }
    return super.resume();
  }

  /** As of an HTTP/2 stream. */
  close(code: number = constants.NGHTTP2_NO_ERROR): void {
    this.rstCode = code;
    this.destroy();
  }

  /** Its buffer is free. */
  letGo(): void {
    unused(this.#buffer);
    this.#buffer = sharedReceiveBuffer;
  }
}

function ended(this: SessionSocket): void {
  // A half that we have closed cannot be written to; the client that closed it is gone, whatever the reason.
  if (this.endsInBand || this.writableEnded || this.destroyed) return;
  this.write(probe);
  if (this.errored !== null) this.rstCode = constants.NGHTTP2_CANCEL;
}

function closed(this: SessionSocket): void {
  this.letGo();
}

/**
 * The backend's answer to the opening.
 * @throws {Fault} `unavailable`: the backend cannot be reached this way; `deadline-passed`. The socket is closed then.
 */
export function answerOn(socket: SessionSocket, waitMs: number): Promise<OpenedSession> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer);
      socket.off('end', broken);
      socket.off('close', broken);
      socket.answered = undefined;
    };
    const fail = (fault: Fault): void => {
      settle();
      socket.destroy();
      reject(fault);
    };
    const broken = (): void => fail(new Fault('unavailable', 'the session socket broke'));
    const timer = setTimeout(() => fail(new Fault('deadline-passed', 'the backend does not answer')), waitMs);
    socket.answered = ({ ':status': status, ...headers }) => {
      settle();
      resolve({ status: Number(status), headers: headers as IncomingHttpHeaders, stream: socket });
    };
    socket.on('end', broken);
    socket.on('close', broken);
  });
}

function ignore(): void {}
