/** The body of a `/deliver` stream, in pieces large enough to be worth a write each. */
import type { ServerHttp2Stream } from 'node:http2';
import { Fault } from '../../../base/fault.ts';

/** HTTP/2 hands out frames of 16 KiB; pieces are gathered up to this before they are written. */
export const pieceBytes = 256 * 1024;

/** A gateway that sends nothing for this long has lost the message. */
export const bodyIdleMs = 60_000;

/**
 * A body of at most `pieceBytes`, whole. Most messages are that small, and for them a generator and its timer cost
 * more than the bytes.
 *
 * @param size  Bytes announced.
 * @throws {Fault} `peer-protocol`: as `messageBody`.
 */
export function smallBody(stream: ServerHttp2Stream, size: number, idleMs = bodyIdleMs): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const gathered: Buffer[] = [];
    let receivedBytes = 0;
    const late = setTimeout(() => {
      fail('the message body stopped coming');
      stream.destroy();
    }, idleMs);
    const over = (): void => {
      clearTimeout(late);
      stream.off('data', onData).off('end', onEnd).off('close', onClose).off('aborted', onClose);
    };
    const fail = (message: string): void => {
      over();
      reject(new Fault('peer-protocol', message));
    };
    const onData = (chunk: Buffer): void => {
      receivedBytes += chunk.length;
      if (receivedBytes > size) {
        fail('the message body is longer than announced');
        return;
      }
      gathered.push(chunk);
      late.refresh();
    };
    const onClose = (): void => fail(`the message body broke off after ${receivedBytes} of ${size} bytes`);
    const onEnd = (): void => {
      if (stream.aborted || receivedBytes !== size) {
        onClose();
        return;
      }
      over();
      resolve(gathered.length === 1 ? gathered[0]! : Buffer.concat(gathered, receivedBytes));
    };
    stream.on('data', onData).on('end', onEnd).on('close', onClose).on('aborted', onClose);
  });
}

/**
 * Yields the body in pieces of about `pieceBytes`; a small body comes as one piece. Reads no further while the
 * consumer is at work.
 *
 * @param size  Bytes announced.
 * @throws {Fault} `peer-protocol`: the body was shorter or longer than announced, the stream was reset, or
 *     nothing came for `idleMs`.
 */
export async function* messageBody(
  stream: ServerHttp2Stream,
  size: number,
  idleMs = bodyIdleMs,
): AsyncGenerator<Buffer, void> {
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let receivedBytes = 0;
  stream.setTimeout(idleMs, () =>
    stream.destroy(new Fault('peer-protocol', 'the message body stopped coming')),
  );
  try {
    // Leaving the loop early must not destroy the stream: the answer still has to go out on it.
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      receivedBytes += chunk.length;
      if (receivedBytes > size) throw new Fault('peer-protocol', 'the message body is longer than announced');
      gathered.push(chunk);
      gatheredBytes += chunk.length;
      if (gatheredBytes >= pieceBytes) {
        yield gathered.length === 1 ? chunk : Buffer.concat(gathered, gatheredBytes);
        gathered = [];
        gatheredBytes = 0;
      }
    }
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault('peer-protocol', 'the message body broke off', { cause });
  } finally {
    if (!stream.destroyed) stream.setTimeout(0);
  }
  if (stream.aborted || receivedBytes !== size) {
    throw new Fault('peer-protocol', `the message body broke off after ${receivedBytes} of ${size} bytes`);
  }
  if (gatheredBytes > 0) yield Buffer.concat(gathered, gatheredBytes);
}
