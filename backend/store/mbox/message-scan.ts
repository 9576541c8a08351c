/**
 * Reads one message of an mbox line by line: its digest, its size as a client
 * sees it, and what other programs noted in its header (Status, X-UID and their
 * like). The digest leaves those lines out, since they change and the message
 * does not.
 */
import { createHash } from 'node:crypto';
import { hasQuote } from './quoting.ts';

/** Lines other mbox programs keep their state in. They are not shown of messages such a program wrote. */
const stateHeader =
  /^(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines)[ \t]*:(.{0,2000})/is;

export interface ScannedMessage {
  /** 32 hex digits. */
  readonly digest: string;
  /** Bytes with CRLF line ends, without quotes and without state lines. */
  readonly size: number;
  /** State lines by lower-case name; the first of each. */
  readonly state: ReadonlyMap<string, string>;
}

/** Tells state lines of a header from those of the message, folded ones too. */
export class HeaderLines {
  #inHeader = true;
  #inState = false;
  readonly state = new Map<string, string>();

  /** Is this line other programs' state? Pieces of a long line are asked about in turn. */
  isState(bytes: Buffer, first: boolean): boolean {
    if (!this.#inHeader) return false;
    if (!first) return this.#inState;
    if (bytes[0] === 10 || (bytes[0] === 13 && bytes[1] === 10)) {
      this.#inHeader = false;
      return false;
    }
    if (bytes[0] === 32 || bytes[0] === 9) return this.#inState;
    const found = stateHeader.exec(bytes.toString('latin1', 0, 2100));
    this.#inState = found !== null;
    if (!found) return false;
    const name = found[1]!.toLowerCase();
    if (!this.state.has(name)) this.state.set(name, found[2]!.trim());
    return true;
  }
}

export class MessageScan {
  readonly #hash = createHash('sha256');
  readonly #header = new HeaderLines();
  #size = 0;

  push(bytes: Buffer, first: boolean, whole: boolean): void {
    if (this.#header.isState(bytes, first)) return;
    this.#hash.update(bytes);
    this.#size += bytes.length;
    if (first && hasQuote(bytes)) this.#size--;
    if (whole && bytes[bytes.length - 2] !== 13) this.#size++;
  }

  finish(): ScannedMessage {
    return {
      digest: this.#hash.digest('hex').slice(0, 32),
      size: this.#size,
      state: this.#header.state,
    };
  }
}
