/** One stream at one backend: open it, wait for its answer within a bound, read a small answer body. */
import type { ClientHttp2Stream, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { constants } from 'node:http2';
import type { Duplex } from 'node:stream';
import { Fault } from '../../base/fault.ts';
import type { BackendLink } from './backend-link.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly stream: ClientHttp2Stream;
}

/** Answer bodies that are read whole are small JSON. */
const answerBytesMax = 1024 * 1024;
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
export async function exchange(
  link: BackendLink,
  headers: OutgoingHttpHeaders,
  body: Body | 'open',
  waitMs: number,
): Promise<Answer> {
  const stream = link.open({ ':method': 'POST', ...headers }, body === undefined);
  if (stream === undefined) throw new Fault('unavailable', 'no link to the backend');
  const answer = headOf(stream);
  let timer: NodeJS.Timeout | undefined;
  let over = false;
  const late = new Promise<never>((_, reject) => {
    const start = (): void => {
      if (over) return;
      timer = setTimeout(() => reject(new Fault('unavailable', 'the backend does not answer')), waitMs);
    };
    if (body === undefined || body === 'open') start();
    else send(stream, body).then(start, (error) => reject(Fault.from(error, 'unavailable')));
  });
  try {
    return await Promise.race([answer, late]);
  } catch (error) {
    stream.close(constants.NGHTTP2_CANCEL);
    throw Fault.from(error, 'unavailable');
  } finally {
    over = true;
    clearTimeout(timer);
  }
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
export function discard(stream: ClientHttp2Stream): void {
  if (!stream.writableEnded) stream.close(constants.NGHTTP2_CANCEL);
  else stream.resume();
}

function headOf(stream: ClientHttp2Stream): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      stream.off('response', answered);
      stream.off('close', broken);
    };
    const answered = (headers: IncomingHttpHeaders & { ':status'?: number }): void => {
      settle();
      resolve({ status: headers[':status'] ?? 0, headers, stream });
    };
    const broken = (): void => {
      settle();
      reject(new Fault('unavailable', 'the stream broke', { detail: { rstCode: stream.rstCode } }));
    };
    // 'close' follows every 'error', and says the same.
    stream.on('error', ignore);
    stream.on('response', answered);
    stream.on('close', broken);
  });
}

/** Shared by all streams: an error is always followed by 'close', which is what counts. */
export function ignore(): void {}

/** Writes a body, at the pace the backend reads. Ends early when the backend has answered or is gone. */
async function send(stream: ClientHttp2Stream, body: Exclude<Body, undefined>): Promise<void> {
  let answered = false;
  stream.once('response', () => {
    answered = true;
  });
  if (Buffer.isBuffer(body)) {
    stream.end(body);
    return;
  }
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
