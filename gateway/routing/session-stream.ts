/**
 * The stream of an accepted session, as a door carries it. Today it is the
 * link's own stream: when the owner goes, it closes and so does the client's
 * connection. Checkpoints, hand-over and resuming at a new owner go in here:
 * a Duplex that outlives the stream under it, with nothing else to change.
 */
import type { ClientHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';

/** @param stream  Answered with `accepted`. */
export function sessionStream(stream: ClientHttp2Stream): Duplex {
  forgetSentHeaders(stream);
  return stream;
}

/**
 * Node keeps what a stream was opened with for as long as the stream lives: the
 * password of every idle session, and a kilobyte each. Nobody asks for it again.
 */
function forgetSentHeaders(stream: ClientHttp2Stream): void {
  const held = stream as unknown as Record<symbol, unknown>;
  for (const symbol of Object.getOwnPropertySymbols(stream)) {
    if (symbol.description === 'sent-headers') held[symbol] = undefined;
  }
}
