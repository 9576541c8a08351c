/**
 * What the client has sent and nobody has taken yet: command lines come out one
 * at a time, and what is no SMTP at all is turned away by its first bytes.
 */

import { saslLineBytesMax } from '../session/sasl.ts';
import { takeLine } from './command-line.ts';
import { type Reply, replies } from './reply.ts';

/** RFC 5321 4.5.3.1.4 asks for 512; extensions add to it. CR LF included. */
const commandBytesMax = 4096;

const httpVerb = /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) /;
const tlsHandshake = 0x16; // RFC 8446 5.1
const nothing = Buffer.alloc(0);

const faults = {
  'too-long': replies.commandTooLong,
  'bare-newline': replies.bareNewlineInCommand,
  'nul-byte': replies.nulInCommand,
} as const;

/** A line, or the last reply of this connection and what the log is to say. */
export type Taken = { readonly line: string } | { readonly reply: Reply; readonly reason: string };

export class CommandReader {
  #bytes: Buffer = nothing;
  #wake: (() => void) | undefined;

  get length(): number {
    return this.#bytes.length;
  }

  push(bytes: Buffer): void {
    // an empty slice would keep the whole chunk it was cut from
    if (bytes.length === 0) return;
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    this.#wake?.();
  }

  /** The next line, or `undefined` when it has not come yet. @param sasl  It answers a challenge of AUTH. */
  take(sasl: boolean, first: boolean): Taken | undefined {
    if (this.#bytes.length === 0) return undefined;
    if (first && this.#bytes[0] === tlsHandshake) {
      return { reply: replies.notSmtp, reason: 'tls on a plain port' };
    }
    const begins = this.#bytes.toString('latin1', 0, 16);
    const taken = takeLine(this.#bytes, sasl || /^auth /i.test(begins) ? saslLineBytesMax : commandBytesMax);
    if (taken === 'more') return undefined;
    // a web page that makes a browser talk to us (CASES 63)
    if (httpVerb.test(begins)) return { reply: replies.notSmtp, reason: 'http' };
    if ('fault' in taken) return { reply: faults[taken.fault], reason: taken.fault };
    this.#bytes = taken.rest.length === 0 ? nothing : taken.rest;
    return { line: taken.line };
  }

  /** Everything, as the beginning of a message. */
  takeAll(): Buffer {
    const bytes = this.#bytes;
    this.#bytes = nothing;
    return bytes;
  }

  /** Throws away what is there; whoever waits for bytes waits no longer. */
  clear(): void {
    this.#bytes = nothing;
    this.#wake?.();
  }

  /** Waits for the first byte, for at most `waitMs`; false when none came. */
  async arrived(waitMs: number): Promise<boolean> {
    if (this.#bytes.length === 0) {
      await new Promise<void>((done) => {
        const timer = setTimeout(done, waitMs);
        this.#wake = () => {
          clearTimeout(timer);
          done();
        };
      });
      this.#wake = undefined;
    }
    return this.#bytes.length > 0;
  }
}
