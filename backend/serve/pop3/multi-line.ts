/**
 * Multi-line answers (RFC 1939 3): lines that start with a dot get another one,
 * and a dot alone ends the answer. TOP cuts after the header and some lines.
 */

const dot = 0x2e;
const lf = 0x0a;
const cr = 0x0d;

/** Feeds a message through in pieces and gives it dot-stuffed. */
export class DotStuffer {
  #lineStart = true;
  #last = lf;
  #beforeLast = cr;

  push(chunk: Buffer): Buffer {
    if (chunk.length === 0) return chunk;
    const pieces: Buffer[] = [];
    let from = 0;
    if (this.#lineStart && chunk[0] === dot) pieces.push(dotBytes);
    for (let at = chunk.indexOf(lfDot); at >= 0; at = chunk.indexOf(lfDot, at + 1)) {
      pieces.push(chunk.subarray(from, at + 1), dotBytes);
      from = at + 1;
    }
    const last = chunk[chunk.length - 1] as number;
    this.#beforeLast = chunk.length > 1 ? (chunk[chunk.length - 2] as number) : this.#last;
    this.#last = last;
    this.#lineStart = last === lf;
    if (pieces.length === 0) return chunk;
    pieces.push(chunk.subarray(from));
    return Buffer.concat(pieces);
  }

  /** What ends the answer: a CRLF first where the message does not end with one. */
  end(): Buffer {
    return this.#last === lf && this.#beforeLast === cr ? endBytes : crlfEndBytes;
  }
}

const dotBytes = Buffer.from('.');
const lfDot = Buffer.from('\n.');
const endBytes = Buffer.from('.\r\n');
const crlfEndBytes = Buffer.from('\r\n.\r\n');

/** RFC 1939 7, TOP: the header, the empty line, and the first lines of the body. */
export class TopCut {
  #linesLeft: number;
  #inHeader = true;
  /** Bytes of the current header line, without CR. */
  #headerLineBytes = 0;

  constructor(lines: number) {
    this.#linesLeft = lines;
  }

  get done(): boolean {
    return !this.#inHeader && this.#linesLeft === 0;
  }

  /** The part of `chunk` that belongs to the answer; shorter than `chunk` once `done`. */
  push(chunk: Buffer): Buffer {
    let at = 0;
    while (at < chunk.length && !this.done) {
      const end = chunk.indexOf(lf, at);
      if (end < 0) {
        this.#headerLineBytes += lengthWithoutCr(chunk, at, chunk.length);
        return chunk;
      }
      if (this.#inHeader) {
        this.#headerLineBytes += lengthWithoutCr(chunk, at, end);
        if (this.#headerLineBytes === 0) this.#inHeader = false;
        this.#headerLineBytes = 0;
      } else {
        this.#linesLeft -= 1;
      }
      at = end + 1;
    }
    return chunk.subarray(0, at);
  }
}

function lengthWithoutCr(chunk: Buffer, start: number, end: number): number {
  const bytes = end - start;
  return bytes > 0 && chunk[end - 1] === cr ? bytes - 1 : bytes;
}
