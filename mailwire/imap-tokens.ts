/**
 * A cursor over the pieces of one IMAP command (RFC 9051 section 9, RFC 3501).
 * Each method takes one token or throws; nothing backtracks and nothing here
 * recurses, so time is linear. Texts are held as Latin-1 (one char, one byte);
 * `utf8` turns them into what they mean.
 */
import { Fault } from '../base/fault.ts';
import type { ImapPiece } from './imap-command-reader.ts';

/** Numbers from `from` to `to`, both included, `from` ≤ `to` unless one is `star`. */
export interface ImapRange {
  readonly from: number;
  readonly to: number;
}

/** Stands for `*`, the largest number in use. */
export const star = Number.POSITIVE_INFINITY;

/** `'$'`: the saved result of the last SEARCH (RFC 5182). */
export type ImapSequenceSet = readonly ImapRange[] | '$';

const uint32Max = 0xffff_ffff;

// Character classes, one bit each, by byte.
const atomChar = 1;
const astringChar = 2;
const listChar = 4;
const digit = 8;
const classes = new Uint8Array(256);
for (let byte = 0x21; byte < 0x7f; byte++) {
  const char = String.fromCharCode(byte);
  if (!'(){%*"\\]'.includes(char)) classes[byte]! |= atomChar | astringChar | listChar;
  if (char === ']') classes[byte]! |= astringChar | listChar;
  if (char === '%' || char === '*') classes[byte]! |= listChar;
  if (char >= '0' && char <= '9') classes[byte]! |= digit;
}

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

export class ImapCursor {
  readonly #pieces: readonly ImapPiece[];
  #index = 0;
  /** The stretch of line the cursor is in, Latin-1. */
  #text = '';
  #at = 0;

  constructor(pieces: readonly ImapPiece[]) {
    this.#pieces = pieces;
    this.#enterText();
  }

  /** Nothing is left of the command. */
  get atEnd(): boolean {
    return this.#at >= this.#text.length && this.#index >= this.#pieces.length;
  }

  /** Does the cursor stand before this character? */
  isAt(char: string): boolean {
    return this.#text[this.#at] === char;
  }

  /** Takes the character if it is next. */
  takeIf(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  /** Does what is left of this stretch of line begin so? Nothing is taken. @param form  Anchored at the start, linear. */
  aheadMatches(form: RegExp): boolean {
    return form.test(this.#text.slice(this.#at, this.#at + 100));
  }

  /** Takes this text, in any case, if it is next. */
  takeText(text: string): boolean {
    const next = this.#text.slice(this.#at, this.#at + text.length);
    if (next.toUpperCase() !== text.toUpperCase()) return false;
    this.#at += text.length;
    return true;
  }

  /** @throws {Fault} `bad-syntax` */
  expect(char: string): void {
    if (!this.takeIf(char)) throw bad(char === ' ' ? 'Missing space' : `Missing "${char}"`);
  }

  /** One space: IMAP separates by exactly one. */
  space(): void {
    this.expect(' ');
  }

  /** @throws {Fault} `bad-syntax` when something is left over. */
  end(): void {
    if (!this.atEnd) throw bad('Unexpected text at the end of the command');
  }

  /** The command's tag. */
  tag(): string {
    const text = this.#run(astringChar, 'tag');
    if (text.includes('+') || text.length > 256) throw bad('Bad tag');
    return text;
  }

  /** An atom as written. */
  atom(): string {
    return this.#run(atomChar, 'atom');
  }

  /** An atom in upper case: names of commands, items and keys. */
  keyword(): string {
    return this.atom().toUpperCase();
  }

  /** Letters and digits, dots and dashes up to `[`, `<`, space or parenthesis, in upper case: FETCH items. */
  itemName(): string {
    const start = this.#at;
    while (this.#at < this.#text.length) {
      const code = this.#text.charCodeAt(this.#at);
      const ok =
        (code >= 0x41 && code <= 0x5a) ||
        (code >= 0x61 && code <= 0x7a) ||
        (code >= 0x30 && code <= 0x39) ||
        code === 0x2e ||
        code === 0x2d;
      if (!ok) break;
      this.#at++;
    }
    if (this.#at === start) throw bad('Missing item name');
    return this.#text.slice(start, this.#at).toUpperCase();
  }

  /** Is a literal next? */
  get atLiteral(): boolean {
    return this.#at >= this.#text.length && this.#index < this.#pieces.length;
  }

  /** Is a quoted string or literal next? */
  get atString(): boolean {
    return this.isAt('"') || this.atLiteral;
  }

  /** A literal's bytes. */
  literal(): Buffer {
    if (!this.atLiteral) throw bad('Missing literal');
    const piece = this.#pieces[this.#index]!;
    if (Buffer.isBuffer(piece)) throw bad('Missing literal');
    this.#index++;
    this.#enterText();
    return piece.literal;
  }

  /** A quoted string or a literal, as bytes in Latin-1. Literals with NUL are refused (RFC 9051 `literal`: CHAR8). */
  string(): string {
    if (this.atLiteral) {
      const text = this.literal().toString('latin1');
      if (text.includes('\0')) throw bad('NUL is not allowed');
      return text;
    }
    if (!this.takeIf('"')) throw bad('Missing string');
    let out = '';
    let from = this.#at;
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined) throw bad('Unclosed quoted string');
      if (char === '"') break;
      // The reader lets neither NUL nor a lone CR or LF through; checked again because a caller may build pieces itself.
      if (char === '\0' || char === '\r' || char === '\n') throw bad('Bad character in a quoted string');
      if (char === '\\') {
        const hidden = this.#text[this.#at + 1];
        if (hidden !== '"' && hidden !== '\\') throw bad('Bad escape in a quoted string');
        out += this.#text.slice(from, this.#at);
        from = this.#at + 1;
        this.#at++;
      }
      this.#at++;
    }
    out += this.#text.slice(from, this.#at);
    this.#at++;
    return out;
  }

  /** atom or string; `]` allowed in the atom. */
  astring(): string {
    return this.atString ? this.string() : this.#run(astringChar, 'argument');
  }

  /** Mailbox pattern of LIST: like astring, with `%` and `*`. */
  listMailbox(): string {
    return this.atString ? this.string() : this.#run(listChar, 'mailbox pattern');
  }

  /** A string, or `undefined` for NIL. */
  nstring(): string | undefined {
    if (this.atString) return this.string();
    if (this.keyword() !== 'NIL') throw bad('Missing string or NIL');
    return undefined;
  }

  /** 0 … 2^32−1. */
  number(): number {
    return this.#digits(uint32Max);
  }

  /** 1 … 2^32−1. */
  nzNumber(): number {
    const value = this.number();
    if (value === 0) throw bad('0 is not allowed here');
    return value;
  }

  /** 0 … 2^53−1 (RFC 9051 number64 is 63 bits; nothing here counts that far). */
  number64(): number {
    return this.#digits(Number.MAX_SAFE_INTEGER);
  }

  sequenceSet(): ImapSequenceSet {
    if (this.takeIf('$')) return '$';
    const ranges: ImapRange[] = [];
    do {
      const first = this.takeIf('*') ? star : this.nzNumber();
      const second = this.takeIf(':') ? (this.takeIf('*') ? star : this.nzNumber()) : first;
      ranges.push(first <= second ? { from: first, to: second } : { from: second, to: first });
    } while (this.takeIf(','));
    return ranges;
  }

  /** `\Seen` or a keyword, as written. */
  flag(): string {
    return this.takeIf('\\') ? `\\${this.atom()}` : this.atom();
  }

  /** `(\Seen $Work)`, may be empty. */
  flagList(): string[] {
    this.expect('(');
    const flags: string[] = [];
    if (this.takeIf(')')) return flags;
    do flags.push(this.flag());
    while (this.takeIf(' '));
    this.expect(')');
    return flags;
  }

  /** `1-Feb-1994` or `"1-Feb-1994"` → ms since 1970 of its midnight UTC. */
  date(): number {
    const text = this.isAt('"') ? this.string() : this.atom();
    const found = /^([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})$/.exec(text);
    const ms = found ? utcOf(found[3]!, found[2]!, found[1]!, 0, 0, 0) : undefined;
    if (ms === undefined) throw bad('Bad date');
    return ms;
  }

  /** `" 1-Feb-1994 21:52:25 -0800"` → ms since 1970. */
  dateTime(): number {
    const found =
      /^([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})$/.exec(
        this.string(),
      );
    if (!found) throw bad('Bad date and time');
    const [, day, month, year, hour, minute, second, sign, zoneHours, zoneMinutes] = found;
    const ms = utcOf(year!, month!, day!, Number(hour), Number(minute), Number(second));
    const zone = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60_000;
    if (ms === undefined || Number(zoneMinutes) > 59) throw bad('Bad date and time');
    return sign === '+' ? ms - zone : ms + zone;
  }

  /** `1.2.3` of a section, may be empty. At most 100 levels deep. */
  partNumbers(): number[] {
    const numbers: number[] = [];
    while ((classes[this.#text.charCodeAt(this.#at) & 0xff]! & digit) !== 0) {
      numbers.push(this.nzNumber());
      if (numbers.length > 100) throw bad('Section is too deep');
      if (!this.isAt('.')) break;
      const code = this.#text.charCodeAt(this.#at + 1);
      if (!(code >= 0x30 && code <= 0x39)) break;
      this.#at++;
    }
    return numbers;
  }

  #enterText(): void {
    const piece = this.#pieces[this.#index];
    this.#at = 0;
    if (piece !== undefined && Buffer.isBuffer(piece)) {
      this.#text = piece.toString('latin1');
      this.#index++;
    } else {
      this.#text = '';
    }
  }

  #run(wanted: number, what: string): string {
    const text = this.#text;
    const start = this.#at;
    let at = start;
    while (at < text.length && (classes[text.charCodeAt(at)]! & wanted) !== 0) at++;
    if (at === start) throw bad(`Missing ${what}`);
    this.#at = at;
    return text.slice(start, at);
  }

  #digits(max: number): number {
    const start = this.#at;
    let value = 0;
    while ((classes[this.#text.charCodeAt(this.#at) & 0xff]! & digit) !== 0) {
      value = value * 10 + this.#text.charCodeAt(this.#at) - 0x30;
      if (value > max) throw bad('Number is too large');
      this.#at++;
    }
    if (this.#at === start) throw bad('Missing number');
    return value;
  }
}

/** Latin-1 held bytes as UTF-8 text. @throws {Fault} `bad-syntax` when they are not UTF-8. */
export function utf8(latin1: string): string {
  let ascii = true;
  for (let at = 0; at < latin1.length && ascii; at++) ascii = latin1.charCodeAt(at) < 0x80;
  if (ascii) return latin1;
  try {
    return strictUtf8.decode(Buffer.from(latin1, 'latin1'));
  } catch {
    throw bad('Text is not UTF-8');
  }
}
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function bad(message: string): Fault {
  return new Fault('bad-syntax', message);
}

/** ms since 1970; `undefined` when there is no such day or time. */
function utcOf(
  year: string,
  month: string,
  day: string,
  hour: number,
  minute: number,
  second: number,
): number | undefined {
  const monthIndex = months.indexOf(month.toLowerCase());
  if (monthIndex < 0 || hour > 23 || minute > 59 || second > 60) return undefined;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), monthIndex, Number(day));
  if (date.getUTCMonth() !== monthIndex || date.getUTCDate() !== Number(day)) return undefined;
  date.setUTCHours(hour, minute, second);
  return date.getTime();
}
