/**
 * How texts are written into IMAP answers (RFC 9051 section 9). Answers are
 * built as Latin-1 strings: one char is one byte on the wire, so UTF-8 text
 * goes through `bytesOf` first.
 */
import { isUtf8 } from 'node:buffer';

/** Longest text written as a quoted string; longer ones become literals. */
const quotedCharsMax = 1000;

/** UTF-8 bytes of a text, as a Latin-1 string. */
export function bytesOf(text: string): string {
  for (let at = 0; at < text.length; at++) {
    if (text.charCodeAt(at) > 0x7f) return Buffer.from(text, 'utf8').toString('latin1');
  }
  return text;
}

/**
 * A string answer: quoted where RFC 3501 allows (7-bit, no CR, LF, NUL), else a literal.
 * @param latin1  One char per byte. NUL, which neither form may hold, becomes a space.
 * @param utf8Quoted  8-bit may stand in quoted strings: after ENABLE IMAP4rev2 (RFC 9051 `QUOTED-CHAR`).
 */
export function imapString(latin1: string, utf8Quoted = false): string {
  let escaped = false;
  let eightBit = false;
  if (latin1.length > quotedCharsMax) return imapLiteral(latin1);
  for (let at = 0; at < latin1.length; at++) {
    const code = latin1.charCodeAt(at);
    if (code === 0x22 || code === 0x5c) escaped = true;
    else if (code === 0x0d || code === 0x0a || code === 0) return imapLiteral(latin1);
    else if (code > 0x7f) eightBit = true;
  }
  // In quoted strings 8-bit is UTF-8 and nothing else; a literal holds what there is.
  if (eightBit && !(utf8Quoted && isUtf8(Buffer.from(latin1, 'latin1')))) return imapLiteral(latin1);
  return escaped ? `"${latin1.replace(/["\\]/g, '\\$&')}"` : `"${latin1}"`;
}

/** A literal with its size: `{3}\r\nabc`. */
export function imapLiteral(latin1: string): string {
  const text = latin1.includes('\0') ? latin1.replaceAll('\0', ' ') : latin1;
  return `{${text.length}}\r\n${text}`;
}

/** A string, or NIL for `undefined`. */
export function imapNstring(latin1: string | undefined, utf8Quoted = false): string {
  return latin1 === undefined ? 'NIL' : imapString(latin1, utf8Quoted);
}

/** An atom where it is one, else a string: mailbox names. */
export function imapAstring(latin1: string, utf8Quoted = false): string {
  const plain = latin1.length <= 200 && /^[!#$&'+,\-./0-9:;<=>?@A-Z[\]^_`a-z|}~]+$/.test(latin1);
  return plain && latin1.toUpperCase() !== 'NIL' ? latin1 : imapString(latin1, utf8Quoted);
}

/** Text of a status line: one line, printable, cut to what clients read well. */
export function imapText(text: string): string {
  let out = '';
  for (const char of text.slice(0, 400)) {
    const code = char.charCodeAt(0);
    out += code >= 0x20 && code < 0x7f ? char : '?';
  }
  return out === '' ? 'Done' : out;
}

/** Ascending numbers as the shortest sequence set: `1:3,7`. Empty for none. */
export function imapNumberSet(numbers: ArrayLike<number>): string {
  let out = '';
  for (let at = 0; at < numbers.length; ) {
    let last = at;
    while (last + 1 < numbers.length && numbers[last + 1] === numbers[last]! + 1) last++;
    out += `${out === '' ? '' : ','}${numbers[at]}${last > at ? `:${numbers[last]}` : ''}`;
    at = last + 1;
  }
  return out;
}

const monthNames = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `"01-Feb-2024 10:00:00 +0000"`: INTERNALDATE, always in UTC. */
export function imapDateTime(ms: number): string {
  const date = new Date(ms);
  const two = (value: number) => (value < 10 ? `0${value}` : `${value}`);
  const day = date.getUTCDate();
  const year = String(Math.max(0, Math.min(9999, date.getUTCFullYear()))).padStart(4, '0');
  return `"${two(day)}-${monthNames[date.getUTCMonth()]}-${year} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000"`;
}
