/** Bodies on their way through the door: counted, bounded in time, never faster than the slower side. */
import { type Readable, Transform, type Writable } from 'node:stream';
import { Fault } from '../../base/fault.ts';

/** Bodies up to this are sent to the owner in one piece. */
const smallBytes = 64 * 1024;

/**
 * The body of a request, for the router: a small one whole, a larger one as a stream that ends with
 * `message-too-big` past `bytesMax` and with `deadline-passed` after `totalMs`.
 *
 * @throws {Fault} the same for a small body; `gone` when the client broke off.
 */
export async function requestBody(
  body: Readable,
  limits: { bytesMax: number; totalMs: number },
): Promise<Buffer | Transform> {
  const late = new Fault('deadline-passed', 'the request took too long');
  let bytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > limits.bytesMax) done(new Fault('message-too-big', 'the request is too large'));
      else done(null, chunk);
    },
  });
  const timer = setTimeout(() => meter.destroy(late), limits.totalMs);
  const settled = (): void => clearTimeout(timer);
  meter.once('close', settled).once('end', settled).on('error', settled);
  body.once('close', () => {
    if (!body.readableEnded) meter.destroy(new Fault('gone', 'the client broke off'));
  });
  body.pipe(meter);
  const first: Buffer[] = [];
  let firstBytes = 0;
  const iterator = meter.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  for await (const chunk of iterator) {
    first.push(chunk);
    firstBytes += chunk.length;
    if (firstBytes > smallBytes) {
      meter.unshift(Buffer.concat(first));
      return meter;
    }
  }
  return Buffer.concat(first);
}

/**
 * Copies an answer to the client.
 * @returns bytes copied.
 * @throws {Fault} `deadline-passed`: the client took nothing for `stallMs`, or the whole took longer than `totalMs`;
 *     `gone`: the client left; `unavailable`: the owner broke off.
 */
export async function copyAnswer(
  from: Readable,
  to: Writable,
  limits: { stallMs: number; totalMs: number },
): Promise<number> {
  let bytes = 0;
  const endsAtMs = performance.now() + limits.totalMs;
  const left = (): void => void from.destroy();
  to.once('close', left);
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (to.destroyed) throw new Fault('gone', 'the client left');
      if (!to.write(chunk)) await drained(to, Math.min(limits.stallMs, endsAtMs - performance.now()));
      if (performance.now() > endsAtMs) throw new Fault('deadline-passed', 'the answer took too long');
    }
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw to.destroyed
      ? new Fault('gone', 'the client left', { cause })
      : new Fault('unavailable', 'the owner broke off', { cause });
  } finally {
    to.off('close', left);
  }
  return bytes;
}

/** Waits until the client has taken what was written. */
async function drained(to: Writable, waitMs: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const finish = (fault?: Fault): void => {
      clearTimeout(timer);
      to.off('drain', onDrain);
      to.off('close', onClose);
      if (fault === undefined) resolve();
      else reject(fault);
    };
    const onDrain = (): void => finish();
    const onClose = (): void => finish(new Fault('gone', 'the client left'));
    const timer = setTimeout(
      () => finish(new Fault('deadline-passed', 'the client does not read')),
      Math.max(0, waitMs),
    );
    to.on('drain', onDrain);
    to.on('close', onClose);
    if (to.destroyed) onClose();
  });
}
