/** Content-Transfer-Encodings (RFC 2045 6), decoded as a stream: a few bytes are carried over, no more. */
import { decodeCharset } from './charset.ts';

export interface TransferDecoder {
  /** What is decoded so far of what was pushed since the last call. */
  push(bytes: Buffer): Buffer;
  /** What was still carried. */
  end(): Buffer;
}

const empty = Buffer.alloc(0);

/** A decoder for the encoding (any case); unknown ones and 7bit, 8bit, binary pass bytes through. */
export function transferDecoder(encoding: string): TransferDecoder {
  switch (encoding.trim().toLowerCase()) {
    case 'base64':
      return new Base64Decoder();
    case 'quoted-printable':
      return new QuotedPrintableDecoder();
    default:
      return { push: (bytes) => bytes, end: () => empty };
  }
}

class Base64Decoder implements TransferDecoder {
  #carried = '';
  #ended = false;

  push(bytes: Buffer): Buffer {
    if (this.#ended) return empty;
    let text = this.#carried + bytes.toString('latin1').replace(/[^A-Za-z0-9+/=]+/g, '');
    const padding = text.indexOf('=');
    if (padding >= 0) {
      this.#ended = true;
      this.#carried = '';
      return Buffer.from(text.slice(0, padding), 'base64');
    }
    const whole = text.length - (text.length % 4);
    this.#carried = text.slice(whole);
    text = text.slice(0, whole);
    return Buffer.from(text, 'base64');
  }

  end(): Buffer {
    const rest = Buffer.from(this.#carried, 'base64');
    this.#carried = '';
    return rest;
  }
}

class QuotedPrintableDecoder implements TransferDecoder {
  #carried: Buffer = empty;

  push(bytes: Buffer): Buffer {
    return this.#decode(this.#carried.length === 0 ? bytes : Buffer.concat([this.#carried, bytes]), false);
  }

  end(): Buffer {
    return this.#decode(this.#carried, true);
  }

  #decode(bytes: Buffer, last: boolean): Buffer {
    const out = Buffer.allocUnsafe(bytes.length);
    let length = 0;
    let at = 0;
    // White space at a line's end was added on the way (RFC 2045 6.7 rule 3): how much of `out` ends in it.
    let blanks = 0;
    while (at < bytes.length) {
      const byte = bytes[at]!;
      if (byte !== 0x3d) {
        if (byte === 0x0d || byte === 0x0a) length -= blanks;
        blanks = byte === 0x20 || byte === 0x09 ? blanks + 1 : 0;
        out[length++] = byte;
        at++;
        continue;
      }
      blanks = 0;
      const left = bytes.length - at;
      const soft = softBreakLength(bytes, at + 1);
      if (soft > 0) {
        at += 1 + soft;
      } else if (left < 3 && !last) {
        break;
      } else {
        const high = hexValue(bytes[at + 1]);
        const low = hexValue(bytes[at + 2]);
        if (high >= 0 && low >= 0) {
          out[length++] = high * 16 + low;
          at += 3;
        } else {
          out[length++] = byte; // not an escape: as it stands (rule 1, note for robust decoders)
          at++;
        }
      }
    }
    this.#carried = last ? empty : Buffer.from(bytes.subarray(at));
    return out.subarray(0, length);
  }
}

/** Bytes of a soft line break behind `=`: CRLF or LF. 0: none. */
function softBreakLength(bytes: Buffer, at: number): number {
  if (bytes[at] === 0x0a) return 1;
  return bytes[at] === 0x0d && bytes[at + 1] === 0x0a ? 2 : 0;
}

function hexValue(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  if (byte >= 0x41 && byte <= 0x46) return byte - 0x37;
  return byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : -1;
}

/** All of a part's body, decoded from its transfer encoding. */
export function decodeTransfer(bytes: Buffer, encoding: string): Buffer {
  const decoder = transferDecoder(encoding);
  const head = decoder.push(bytes);
  const tail = decoder.end();
  return tail.length === 0 ? head : Buffer.concat([head, tail]);
}

/** All of a text part's body as Unicode. */
export function decodeBody(bytes: Buffer, encoding: string, charset: string): string {
  return decodeCharset(decodeTransfer(bytes, encoding), charset);
}
