/**
 * The message between 354 and the final dot, judged as its bytes arrive. What
 * comes out is exactly what the client sent with the dot-stuffing undone
 * (RFC 5321 4.5.2); what is not a message by RFC 5321 2.3.8, or is over a
 * limit, is refused whole and never mended. Pure: bytes in, bytes and a
 * verdict out.
 */
import { headerExtent } from './message-header.ts';
import { type Reply, replies } from './reply.ts';

export interface DataLimits {
  readonly messageBytesMax: number;
  /** Longest line, CR LF not counted. */
  readonly lineBytesMax: number;
  readonly headerLinesMax: number;
  readonly headerBytesMax: number;
  readonly receivedMax: number;
}

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
const nothing = Buffer.alloc(0);

/** Past the limit the rest is read and thrown away, so that the client sees the reply; but not for ever. */
const discardBytesMax = 64 * 1024 * 1024;

// the typed array's own indexOf is a third of the price of Buffer's for single bytes
const find = Uint8Array.prototype.indexOf;

export class DataReceiver {
  /** Why the message cannot be taken. A reply with `close` is given at once, others at the final dot. */
  failure: Reply | undefined;
  /** Bytes of the message so far, dot-stuffing undone. */
  size = 0;
  /** The header, its empty line included, once it is complete. */
  header: Buffer | undefined;

  readonly #limits: DataLimits;
  readonly #sink: (slice: Buffer) => void;
  /** `.`, `.` CR or CR at the end of a chunk: what it means, the next byte tells. */
  #held: Buffer = nothing;
  #lineStart = true;
  #lineBytes = 0;
  #headerLines = 0;
  #headerParts: Buffer[] | undefined = [];
  #discarded = 0;

  /** @param sink  Gets the message in order; nothing more once `failure` is set. */
  constructor(limits: DataLimits, sink: (slice: Buffer) => void) {
    this.#limits = limits;
    this.#sink = sink;
  }

  /** @returns How many bytes of `input` belong to the message, final dot included, once it has come; else −1. */
  push(input: Buffer): number {
    const heldBytes = this.#held.length;
    const chunk = heldBytes === 0 ? input : Buffer.concat([this.#held, input]);
    this.#held = nothing;
    const ended = this.#scan(chunk);
    // NUL is looked for in what was judged, not in commands that follow the dot
    const judged = ended === -1 ? chunk.length : ended;
    const nul = find.call(chunk, 0);
    if (nul !== -1 && nul < judged) this.#fail(replies.nulByte);
    return ended === -1 ? -1 : ended - heldBytes;
  }

  /** Index in `chunk` after the final CR LF, or −1. */
  #scan(chunk: Buffer): number {
    const { length } = chunk;
    let sent = 0; // handed to the sink up to here
    let at = 0;
    let cr = -2; // next CR at or after `at`, −1: none; kept, or a flood of LF would be searched anew for each line
    while (at < length) {
      if (this.#lineStart && chunk[at] === DOT) {
        if (at + 1 === length || (chunk[at + 1] === CR && at + 2 === length)) {
          this.#emit(chunk, sent, at);
          this.#held = chunk.subarray(at);
          return -1;
        }
        this.#emit(chunk, sent, at);
        if (chunk[at + 1] === CR && chunk[at + 2] === LF) {
          this.#endHeader();
          return at + 3;
        }
        at += 1;
        sent = at;
        this.#lineStart = false;
      }
      const lf = find.call(chunk, LF, at);
      if (cr !== -1 && cr < at) cr = find.call(chunk, CR, at);
      if (lf === -1) {
        const end = chunk[length - 1] === CR ? length - 1 : length;
        if (cr !== -1 && cr < end) this.#fail(replies.bareNewline);
        if (end > at) this.#lineStart = false;
        this.#countLine(end - at);
        this.#emit(chunk, sent, end);
        this.#held = chunk.subarray(end);
        return -1;
      }
      if (lf === at || cr !== lf - 1) {
        this.#fail(replies.bareNewline);
        // past this nothing is stored; what ends the message is still looked for in the same way
      }
      this.#countLine(Math.max(0, lf - 1 - at));
      if (this.#headerParts !== undefined) {
        const empty = this.#lineBytes === 0;
        this.#headerLines += 1;
        if (empty || this.#headerLines > this.#limits.headerLinesMax) {
          this.#emit(chunk, sent, lf + 1);
          sent = lf + 1;
          if (empty) this.#endHeader();
          else this.#checkHeader();
        }
      }
      // a bare LF starts no line: <LF>.<CR><LF> is not the end of the message
      this.#lineStart = cr === lf - 1 && lf !== at;
      this.#lineBytes = 0;
      at = lf + 1;
    }
    this.#emit(chunk, sent, length);
    return -1;
  }

  #countLine(bytes: number): void {
    this.#lineBytes += bytes;
    if (this.#lineBytes > this.#limits.lineBytesMax) this.#fail(replies.lineTooLong);
  }

  #emit(chunk: Buffer, from: number, to: number): void {
    if (to <= from) return;
    const bytes = to - from;
    if (this.failure !== undefined) {
      this.#discarded += bytes;
      if (this.#discarded > discardBytesMax) this.#fail(replies.farTooBig);
      return;
    }
    this.size += bytes;
    if (this.size > this.#limits.messageBytesMax) {
      this.#fail(replies.tooBig);
      return;
    }
    const slice = chunk.subarray(from, to);
    this.#sink(slice);
    if (this.#headerParts !== undefined) {
      this.#headerParts.push(slice);
      if (this.size > this.#limits.headerBytesMax) this.#checkHeader();
    }
  }

  /** A limit of the header is reached: has a body without an empty line begun, or is it a header too big? */
  #checkHeader(): void {
    const seen = Buffer.concat(this.#headerParts ?? []);
    const extent = headerExtent(seen);
    if (extent === seen.length) {
      this.#fail(replies.headerTooBig);
      return;
    }
    this.#takeHeader(seen.subarray(0, extent));
  }

  #endHeader(): void {
    if (this.#headerParts === undefined || this.failure !== undefined) return;
    const seen = Buffer.concat(this.#headerParts);
    this.#takeHeader(seen.subarray(0, headerExtent(seen)));
  }

  #takeHeader(header: Buffer): void {
    this.#headerParts = undefined;
    this.header = header;
    const received = header.toString('latin1').match(/^received[ \t]*:/gim)?.length ?? 0;
    if (received > this.#limits.receivedMax) this.#fail(replies.loop);
  }

  #fail(reply: Reply): void {
    // the first reason stands, but one that closes goes before one that can wait for the dot
    if (this.failure === undefined || (reply.close && !this.failure.close)) this.failure = reply;
    this.#headerParts = undefined;
  }
}
