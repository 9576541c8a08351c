/** One stream at one backend: open it, wait for its answer within a bound, read a small answer body. */
import type { ClientHttp2Stream, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { constants } from 'node:http2';
import type { Duplex } from 'node:stream';
import { Fault } from '../../base/fault.ts';
import type { BackendLink } from './backend-link.ts';

/** What an answer came on: a stream of a link, or a session's own socket. */
export type OwnerSide = Duplex & {
  close(code?: number): void;
  /** Not 0: the other end broke it off, even if it looks ended. */
  readonly rstCode?: number | undefined;
};

export interface Answer<Stream extends OwnerSide = ClientHttp2Stream> {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly stream: Stream;
}

/** Answer bodies that are read whole are small JSON. */
const answerBytesMax = 1024 * 1024;
/** Bodies up to this are copied together: a write for each piece costs more. */
const atOnceBytesMax = 64 * 1024;
/** Longest a backend may take no byte of a body while it was not answered. */
const stallMsMax = 60_000;

/** A request body: nothing, bytes, a stream that can be read once, or a source that gives its chunks. */
export type Body = Buffer | Duplex | AsyncIterable<Buffer> | Iterable<Buffer> | undefined;

/**
 * Opens a stream and resolves with the head of its answer.
 * @param body    `undefined`: none, the stream is ended. `'open'`: the caller goes on writing.
 * @param waitMs  From the end of the body to the answer.
 * @throws {Fault} `unavailable`: no link, the stream broke, or no answer in time. The stream is closed then.
 */
export function exchange(
  link: BackendLink,
  headers: OutgoingHttpHeaders,
  body: Body | 'open',
  waitMs: number,
): Promise<Answer> {
  const stream = link.open({ ':method': 'POST', ...headers }, body === undefined);
  if (stream === undefined) return Promise.reject(new Fault('unavailable', 'no link to the backend'));
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let over = false;
    const settle = (): void => {
      over = true;
      clearTimeout(timer);
      stream.off('response', answered);
      stream.off('close', broken);
    };
    const fail = (error: unknown): void => {
      if (over) return;
      settle();
      stream.close(constants.NGHTTP2_CANCEL);
      reject(Fault.from(error, 'unavailable'));
    };
    const answered = (found: IncomingHttpHeaders & { ':status'?: number }): void => {
      settle();
      resolve({ status: found[':status'] ?? 0, headers: found, stream });
    };
    const broken = (): void =>
      fail(new Fault('unavailable', 'the stream broke', { detail: { rstCode: stream.rstCode } }));
    // 'close' follows every 'error', and says the same.
    stream.on('error', ignore);
    stream.on('response', answered);
    stream.on('close', broken);
    const wait = (): void => {
      if (over) return;
      timer = setTimeout(() => fail(new Fault('unavailable', 'the backend does not answer')), waitMs);
    };
    if (body === undefined || body === 'open') wait();
    else if (sendAtOnce(stream, body)) wait();
    else send(stream, body).then(wait, fail);
  });
}

/** Opens a session: on a socket of its own where that can be, else on a stream of the link. @throws as `exchange` */
export async function openSession(
  link: BackendLink,
  headers: OutgoingHttpHeaders,
  waitMs: number,
): Promise<Answer<OwnerSide>> {
  return (await link.openSession(headers, waitMs)) ?? exchange(link, headers, 'open', waitMs);
}

/** The answer's body, parsed. @throws {Fault} `unavailable` when it broke off, `peer-protocol` when it is no JSON. */
export async function readJson(stream: ClientHttp2Stream): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > answerBytesMax) throw new Fault('peer-protocol', 'the answer is too long');
      chunks.push(chunk);
    }
  } catch (error) {
    throw Fault.from(error, 'unavailable');
  }
  // Node ends a stream that was reset with NO_ERROR or CANCEL as if it were whole: only its code tells.
  if (!stream.readableEnded || stream.rstCode !== constants.NGHTTP2_NO_ERROR)
    throw new Fault('unavailable', 'the answer broke off');
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (cause) {
    throw new Fault('peer-protocol', 'the answer is not JSON', { cause });
  }
}

/** Lets go of an answer whose body nobody reads. */
export function discard(stream: OwnerSide): void {
  if (!stream.writableEnded) stream.close(constants.NGHTTP2_CANCEL);
  else stream.resume();
}

/** Shared by all streams: an error is always followed by 'close', which is what counts. */
export function ignore(): void {}

/** A body that is small and all here goes as one piece. @returns false when it has to be sent with care. */
function sendAtOnce(stream: ClientHttp2Stream, body: Exclude<Body, undefined>): boolean {
  if (Buffer.isBuffer(body)) {
    stream.end(body);
    return true;
  }
  if (!Array.isArray(body)) return false;
  let bytes = 0;
  for (const piece of body as readonly Buffer[]) bytes += piece.length;
  if (bytes > atOnceBytesMax) return false;
  stream.end(Buffer.concat(body as readonly Buffer[], bytes));
  return true;
}

/** Writes a body, at the pace the backend reads. Ends early when the backend has answered or is gone. */
async function send(stream: ClientHttp2Stream, body: Exclude<Body, undefined>): Promise<void> {
  let answered = false;
  stream.once('response', () => {
    answered = true;
  });
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (stream.destroyed || stream.closed) return;
    // An answer before the end of the body is a refusal: the rest is of no use to the backend.
    if (answered) break;
    if (!stream.write(chunk)) await drained(stream);
  }
  stream.end();
}

/** @throws {Fault} `unavailable` when the backend reads nothing for too long. */
function drained(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (): void => {
      clearTimeout(timer);
      stream.off('drain', over);
      stream.off('close', over);
      stream.off('response', over);
      resolve();
    };
    const timer = setTimeout(() => {
      over();
      reject(new Fault('unavailable', 'the backend does not read'));
    }, stallMsMax);
    stream.on('drain', over);
    stream.on('close', over);
    stream.on('response', over);
  });
}
