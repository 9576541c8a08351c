/**
 * How a session opens on a socket of its own beside the links, where gateway and
 * backend share a machine. What is said is what opens a stream of a link: the
 * headers of `link.ts`, here as one JSON object with its length in front; then
 * the answer's headers in the same form; then the session's own bytes both ways.
 *
 * An end is told from a loss by the socket itself: a backend that ends a session
 * sends FIN and goes on reading until the gateway closes, and one that breaks a
 * session off, or dies, closes both ways: then writing fails.
 */
import { Fault } from '../base/fault.ts';

const lengthBytes = 4;
/** As for the headers of a stream. */
export const headBytesMax = 64 * 1024;

export type Head = Readonly<Record<string, string | number | undefined>>;

/** What one end says before the session's bytes. */
export function encodeHead(head: Head): Buffer {
  const text = JSON.stringify(head);
  const bytes = Buffer.byteLength(text);
  const encoded = Buffer.allocUnsafe(lengthBytes + bytes);
  encoded.writeUInt32LE(bytes);
  encoded.write(text, lengthBytes);
  return encoded;
}

/** Takes the other end's head out of what comes first. */
export class HeadReader {
  #held: Buffer | undefined;

  /**
   * @returns `undefined`: not all there yet; else the head, and what came behind it.
   * @throws {Fault} `peer-protocol`
   */
  push(chunk: Buffer): { readonly head: Record<string, string | number>; readonly rest: Buffer } | undefined {
    // A copy: the chunk is its sender's again when this returns.
    const bytes = this.#held === undefined ? chunk : Buffer.concat([this.#held, chunk]);
    if (bytes.length >= lengthBytes) {
      const end = lengthBytes + bytes.readUInt32LE();
      if (end > lengthBytes + headBytesMax)
        throw new Fault('peer-protocol', 'the head of a session is too long');
      if (bytes.length >= end) {
        this.#held = undefined;
        return { head: parsed(bytes.toString('utf8', lengthBytes, end)), rest: bytes.subarray(end) };
      }
    }
    this.#held = bytes === chunk ? Buffer.from(chunk) : bytes;
    return undefined;
  }
}

function parsed(text: string): Record<string, string | number> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without a cause: a parser's message may quote credentials.
    throw new Fault('peer-protocol', 'the head of a session is not in form');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Fault('peer-protocol', 'the head of a session is not in form');
  for (const one of Object.values(value))
    if (typeof one !== 'string' && typeof one !== 'number')
      throw new Fault('peer-protocol', 'the head of a session is not in form');
  return value as Record<string, string | number>;
}
