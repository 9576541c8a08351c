/**
 * Cuts a client's byte stream into IMAP commands. Gateway (before login) and
 * backend (after it) use the same reader, so that both frame alike and no byte
 * is read twice or by the wrong side (CASES 21-25).
 *
 * Framing knows nothing of the grammar: a command is lines that end in CRLF,
 * and a line that ends in `{n}` or `{n+}` is followed by n bytes and goes on.
 * Nothing is allocated for a literal before the caller accepted it; time is
 * linear in the bytes pushed.
 */
import { Fault } from '../base/fault.ts';

export interface ImapReaderLimits {
  /** Longest single line, CRLF included. */
  readonly lineBytesMax: number;
  /** Largest literal that `acceptLiteral` collects in memory. */
  readonly literalBytesMax: number;
  /** All lines and collected literals of one command together; each piece counts `pieceBytes` more. */
  readonly commandBytesMax: number;
}

/** A stretch of a line (without `{n}` and CRLF), or a literal. A streamed literal stands as an empty one. */
export type ImapPiece = Buffer | { readonly literal: Buffer; readonly binary: boolean };

export type ImapReading =
  /** Push more bytes. */
  | { readonly kind: 'more' }
  | { readonly kind: 'command'; readonly pieces: readonly ImapPiece[] }
  /**
   * A literal is announced. Answer with exactly one of `acceptLiteral`, `streamLiteral`, `refuseLiteral`;
   * when `sync`, send the continuation request after the first two.
   */
  | {
      readonly kind: 'literal';
      readonly size: number;
      /** The client waits for `+`. Otherwise its bytes are on the way already (RFC 7888). */
      readonly sync: boolean;
      /** `~{n}`: RFC 3516 literal8. */
      readonly binary: boolean;
      /** What `acceptLiteral` would throw `literal-too-big` or `command-too-big` for. */
      readonly tooBig: boolean;
      readonly soFar: readonly ImapPiece[];
    };

/** What a piece costs beside its bytes, so that many empty literals are bounded too. */
const pieceBytes = 64;
/** RFC 3501 `number`: what a literal may announce at all. */
const literalSizeMax = 0xffff_ffff;
const tagCharsMax = 256;
const more: ImapReading = { kind: 'more' };
const empty = Buffer.alloc(0);

type LiteralState = { size: number; sync: boolean; binary: boolean; left: number };
type State = 'line' | 'asked' | 'collect' | 'stream' | 'skip';

export class ImapCommandReader {
  readonly #limits: ImapReaderLimits;
  #bytes: Buffer = empty;
  #start = 0;
  #end = 0;
  /** No LF stands before this offset. */
  #scanned = 0;
  #state: State = 'line';
  #pieces: ImapPiece[] = [];
  #commandBytes = 0;
  #literal: LiteralState | undefined;
  #collected: Buffer = empty;
  /** Bytes of `#collected` that are filled. */
  #filled = 0;
  /** Memory that `push` made itself, and may write behind `#end` of. */
  #grown: ArrayBufferLike | undefined;
  #tag: string | undefined;
  #mustClose = false;
  /** The rest of a refused command is being thrown away. */
  #dropping = false;
  #pushed = 0;

  constructor(limits: ImapReaderLimits) {
    this.#limits = limits;
  }

  /** Takes the next bytes of the connection. The caller must not change `chunk` afterwards. */
  push(chunk: Buffer): void {
    this.#pushed += chunk.length;
    const held = this.#end - this.#start;
    if (held === 0) {
      this.#bytes = chunk;
      this.#start = 0;
      this.#scanned = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#bytes.length || this.#bytes.buffer !== this.#grown) {
      // Doubling keeps a line that comes byte by byte linear. Pieces cut earlier keep the old memory.
      const room = Buffer.allocUnsafeSlow(Math.max(256, 2 * (held + chunk.length)));
      this.#bytes.copy(room, 0, this.#start, this.#end);
      this.#bytes = room;
      this.#grown = room.buffer;
      this.#scanned -= this.#start;
      this.#start = 0;
      this.#end = held;
    }
    chunk.copy(this.#bytes, this.#end);
    this.#end += chunk.length;
  }

  /**
   * The next event. Call until it says `more`.
   *
   * @throws {Fault} `line-too-long`, `command-too-big`: the rest is not read; answer and close.
   * @throws {Fault} `bare-newline`: a CR or LF alone; answer and close (RFC 9051 2.2: lines end in CRLF).
   * @throws {Fault} `nul-byte`, `literal-too-big` (over 2^32−1): the line was consumed; after a synchronising
   *   literal reading may go on with the next command, but `{n+}` means n bytes are on the way: close
   *   (see `mustClose`).
   */
  next(): ImapReading {
    for (;;) {
      switch (this.#state) {
        case 'line': {
          const reading = this.#nextLine();
          if (reading === undefined) continue;
          return reading;
        }
        case 'asked':
          throw new Fault('bug', 'a literal waits for acceptLiteral, streamLiteral or refuseLiteral');
        case 'collect':
          if (!this.#collectMore()) return more;
          continue;
        case 'stream':
          if (this.#literal!.left > 0) return more;
          this.#addPiece({ literal: empty, binary: this.#literal!.binary });
          this.#state = 'line';
          continue;
        case 'skip':
          this.#literal!.left -= this.#consume(this.#literal!.left).length;
          if (this.#literal!.left > 0) return more;
          this.#state = 'line';
          continue;
      }
    }
  }

  /** Collects the announced literal into memory; `next` goes on with the command. @throws {Fault} `literal-too-big`, `command-too-big` */
  acceptLiteral(): void {
    const literal = this.#asked();
    if (literal.size > this.#limits.literalBytesMax) {
      throw new Fault('literal-too-big', 'Literal is too large');
    }
    this.#count(literal.size);
    this.#collected = empty;
    this.#filled = 0;
    this.#state = 'collect';
  }

  /** The caller takes the literal's bytes by `takeLiteral` until `literalLeft` is 0, then calls `next` again. */
  streamLiteral(): void {
    this.#asked();
    this.#state = 'stream';
  }

  /** Bytes of the streamed literal that are here already; `undefined`: push more. */
  takeLiteral(): Buffer | undefined {
    if (this.#state !== 'stream') throw new Fault('bug', 'no literal is streamed');
    const bytes = this.#consume(this.#literal!.left);
    this.#literal!.left -= bytes.length;
    return bytes.length === 0 ? undefined : bytes;
  }

  /** Bytes of the streamed literal that were not taken yet. */
  get literalLeft(): number {
    return this.#state === 'stream' ? this.#literal!.left : 0;
  }

  /**
   * Drops the command. A synchronising literal never comes, so the next command follows; the bytes of
   * `{n+}` are on the way: they and the rest of the command are thrown away as they come (the caller may
   * rather close, RFC 7888 4). Also ends a literal that is being streamed: what is left of it is thrown away.
   */
  refuseLiteral(): void {
    if (this.#state === 'stream') {
      this.#state = 'skip';
    } else if (this.#asked().sync) {
      this.#forget();
      this.#state = 'line';
      return;
    } else {
      this.#state = 'skip';
    }
    this.#pieces = [];
    this.#dropping = true;
  }

  /** Bytes that were pushed and not consumed: what crosses the login boundary. The reader is empty afterwards. */
  takeRest(): Buffer {
    return this.#consume(this.#end - this.#start);
  }

  /** Bytes held that were not consumed. */
  get bufferedBytes(): number {
    return this.#end - this.#start;
  }

  /** Client bytes consumed since the start: a command boundary's offset right after `next` said `command`. */
  get consumedBytes(): number {
    return this.#pushed - (this.#end - this.#start);
  }

  /** Nothing of a command was consumed that is not complete. */
  get atBoundary(): boolean {
    return this.#state === 'line' && this.#pieces.length === 0 && !this.#dropping;
  }

  /** The tag of the command being read, for the answer to a fault; `undefined` when there is no well-formed one. */
  get tag(): string | undefined {
    return this.#tag;
  }

  /** After a fault: bytes of a literal are on the way that cannot be told from commands, so the connection has to end. */
  get mustClose(): boolean {
    return this.#mustClose;
  }

  #asked(): LiteralState {
    if (this.#state !== 'asked') throw new Fault('bug', 'no literal was announced');
    return this.#literal!;
  }

  /** One line of the command: an event, or `undefined` when there is more to do before the next one. */
  #nextLine(): ImapReading | undefined {
    const at = this.#bytes.subarray(this.#scanned, this.#end).indexOf(10);
    const found = at >= 0;
    const lineBytes = (found ? this.#scanned + at + 1 : this.#end) - this.#start;
    if (lineBytes > this.#limits.lineBytesMax) {
      this.#mustClose = true;
      this.#noteTag(this.#bytes.subarray(this.#start, this.#start + Math.min(lineBytes, tagCharsMax + 1)));
      throw new Fault('line-too-long', 'Command line is too long');
    }
    if (!found) {
      this.#scanned = this.#end;
      return more;
    }
    const raw = this.#consume(lineBytes);
    if (this.#pieces.length === 0 && !this.#dropping) this.#noteTag(raw);
    const line = raw.subarray(0, raw.length - 2);
    if (raw.length < 2 || raw.indexOf(13) !== raw.length - 2) {
      this.#mustClose = true;
      this.#forget();
      throw new Fault('bare-newline', 'Lines end in CRLF');
    }
    return this.#finishLine(line);
  }

  #finishLine(line: Buffer): ImapReading | undefined {
    const literal = line.length > 0 && line[line.length - 1] === 0x7d ? this.#literalOf(line) : undefined;
    if (this.#dropping) {
      // The rest of a refused command: only what follows a `{n+}` still belongs to it.
      this.#dropping = literal !== undefined && !literal.sync;
      if (this.#dropping) {
        this.#literal = literal;
        this.#state = 'skip';
      } else {
        this.#forget();
      }
      return undefined;
    }
    if (line.includes(0)) {
      this.#mustClose = literal !== undefined && !literal.sync;
      this.#forget();
      throw new Fault('nul-byte', 'NUL is not allowed');
    }
    this.#count(line.length);
    if (literal === undefined) {
      this.#addPiece(line);
      const pieces = this.#pieces;
      this.#forget();
      return { kind: 'command', pieces };
    }
    this.#addPiece(line.subarray(0, literal.textEnd));
    this.#literal = literal;
    this.#state = 'asked';
    const room = this.#limits.commandBytesMax - this.#commandBytes;
    return {
      kind: 'literal',
      size: literal.size,
      sync: literal.sync,
      binary: literal.binary,
      tooBig: literal.size > this.#limits.literalBytesMax || literal.size > room,
      soFar: this.#pieces,
    };
  }

  /** The `{n}`, `{n+}`, `~{n}` at the end of a line, unless it stands inside a quoted string. */
  #literalOf(line: Buffer): (LiteralState & { textEnd: number }) | undefined {
    let at = line.length - 2;
    const plus = at >= 0 && line[at] === 0x2b;
    if (plus) at--;
    const last = at;
    while (at >= 0 && line[at]! >= 0x30 && line[at]! <= 0x39) at--;
    // What is no number (`{-1}`, `{}`) is no literal: the grammar refuses it.
    if (at < 0 || at === last || line[at] !== 0x7b || insideQuotes(line, at)) return undefined;
    const size =
      last - at > 19 ? Number.POSITIVE_INFINITY : Number(line.toString('latin1', at + 1, last + 1));
    if (size > literalSizeMax) {
      this.#mustClose = plus;
      this.#forget();
      throw new Fault('literal-too-big', 'Literal is too large');
    }
    const binary = at > 0 && line[at - 1] === 0x7e;
    return { size, sync: !plus, binary, left: size, textEnd: binary ? at - 1 : at };
  }

  /** Is the literal complete? */
  #collectMore(): boolean {
    const literal = this.#literal!;
    const bytes = this.#consume(literal.left);
    if (bytes.length === literal.size) {
      this.#collected = bytes; // all of it in one chunk: no copy
    } else if (bytes.length > 0) {
      // Memory grows with what has come, not with what was announced.
      const wanted = this.#filled + bytes.length;
      if (wanted > this.#collected.length) {
        const room = Buffer.allocUnsafe(Math.min(literal.size, Math.max(1024, 2 * wanted)));
        this.#collected.copy(room, 0, 0, this.#filled);
        this.#collected = room;
      }
      bytes.copy(this.#collected, this.#filled);
      this.#filled = wanted;
    }
    literal.left -= bytes.length;
    if (literal.left > 0) return false;
    this.#addPiece({ literal: this.#collected.subarray(0, literal.size), binary: literal.binary });
    this.#collected = empty;
    this.#state = 'line';
    return true;
  }

  #consume(bytesMax: number): Buffer {
    const end = Math.min(this.#end, this.#start + bytesMax);
    const bytes = this.#bytes.subarray(this.#start, end);
    this.#start = end;
    if (this.#scanned < end) this.#scanned = end;
    if (end === this.#end) {
      // An idle session keeps no buffer.
      this.#bytes = empty;
      this.#grown = undefined;
      this.#start = 0;
      this.#end = 0;
      this.#scanned = 0;
    }
    return bytes;
  }

  #addPiece(piece: ImapPiece): void {
    this.#count(pieceBytes);
    this.#pieces.push(piece);
  }

  #count(bytes: number): void {
    this.#commandBytes += bytes;
    if (this.#commandBytes <= this.#limits.commandBytesMax) return;
    this.#mustClose = true;
    throw new Fault('command-too-big', 'Command is too long');
  }

  #forget(): void {
    this.#pieces = [];
    this.#commandBytes = 0;
    this.#dropping = false;
  }

  #noteTag(line: Buffer): void {
    let end = line.indexOf(0x20);
    // A tag and nothing else: the answer still bears it.
    if (end < 0 && line[line.length - 2] === 0x0d) end = line.length - 2;
    const tag = end > 0 && end <= tagCharsMax ? line.toString('latin1', 0, end) : '';
    this.#tag = isTag(tag) ? tag : undefined;
  }
}

/** RFC 9051 `tag`: 1*<any ASTRING-CHAR except "+">. */
export function isTag(text: string): boolean {
  return text.length <= tagCharsMax && /^[!#$&',\-./0-9:;<=>?@A-Z[\]^_`a-z|}~]+$/.test(text);
}

/** Is offset `at` inside a quoted string of this line? */
function insideQuotes(line: Buffer, at: number): boolean {
  let quoted = false;
  for (let offset = line.indexOf(0x22); offset >= 0 && offset < at; ) {
    if (!quoted) {
      quoted = true;
      offset++;
    }
    // Inside: a backslash hides the next byte.
    while (offset < at && line[offset] !== 0x22) offset += line[offset] === 0x5c ? 2 : 1;
    if (offset >= at) return true;
    quoted = false;
    offset = line.indexOf(0x22, offset + 1);
  }
  return quoted;
}
