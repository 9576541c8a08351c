/**
 * Lines out of bytes, for every protocol we speak: push what the socket gave,
 * take lines one by one. It holds no more than the caller has pushed and not
 * yet taken, and it never guesses what a client meant by half a line end.
 */
import { Fault } from '../base/fault.ts';

const cr = 13;
const lf = 10;
const none: Buffer = Buffer.alloc(0);

export class LineReader {
  readonly #lineBytesMax: number;
  #held: Buffer = none;
  /** How far `#held` is known to hold no LF. */
  #scanned = 0;
  #fault: Fault | undefined;

  /** @param lineBytesMax  Longest line in bytes, CRLF included. */
  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** Bytes pushed and not yet taken. A caller that pushes without taking has to stop reading when this grows. */
  get heldBytes(): number {
    return this.#held.length;
  }

  push(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
  }

  /**
   * Takes one line, without its CRLF.
   *
   * Only CRLF ends a line: accepting a bare CR or LF is how mail is smuggled
   * past a gateway (RFC 5321 2.3.8). After a fault the reader stays at that
   * fault: where the next line begins is no longer known.
   *
   * @returns A view of the pushed bytes; `undefined` when no whole line is there.
   * @throws {Fault} `line-too-long`: told as soon as it is certain, whole or not.
   * @throws {Fault} `bare-newline`: a CR or LF alone.
   * @throws {Fault} `nul-byte`
   */
  take(): Buffer | undefined {
    if (this.#fault) throw this.#fault;
    const held = this.#held;
    const end = held.indexOf(lf, this.#scanned);
    if (end < 0) {
      // The last byte may be the CR of a CRLF still to come.
      this.#check(held.subarray(0, held.length > 0 && held[held.length - 1] === cr ? -1 : undefined));
      this.#scanned = held.length;
      if (held.length >= this.#lineBytesMax) this.#fail('line-too-long', 'the line is too long');
      return undefined;
    }
    if (end + 1 > this.#lineBytesMax) this.#fail('line-too-long', 'the line is too long');
    if (end === 0 || held[end - 1] !== cr) this.#fail('bare-newline', 'lines end in CRLF');
    const line = held.subarray(0, end - 1);
    this.#check(line);
    this.#held = end + 1 === held.length ? none : held.subarray(end + 1);
    this.#scanned = 0;
    return line;
  }

  /** `take` as Latin-1 text: one character for one byte. */
  takeText(): string | undefined {
    return this.take()?.toString('latin1');
  }

  /** Takes up to `bytesMax` raw bytes (a literal); empty when nothing is held. */
  takeBytes(bytesMax: number): Buffer {
    const bytes = this.#held.subarray(0, bytesMax);
    this.#held = bytes.length === this.#held.length ? none : this.#held.subarray(bytes.length);
    this.#scanned = 0;
    return bytes;
  }

  /** Everything not yet taken; the reader is empty after. At STARTTLS it is thrown away, at login it goes to the owner. */
  takeRest(): Buffer {
    const rest = this.#held;
    this.#held = none;
    this.#scanned = 0;
    return rest;
  }

  #check(line: Buffer): void {
    if (line.includes(0)) this.#fail('nul-byte', 'NUL has no place in a command');
    if (line.includes(cr)) this.#fail('bare-newline', 'lines end in CRLF');
  }

  #fail(code: 'line-too-long' | 'bare-newline' | 'nul-byte', message: string): never {
    this.#held = none;
    this.#fault = new Fault(code, message);
    throw this.#fault;
  }
}
