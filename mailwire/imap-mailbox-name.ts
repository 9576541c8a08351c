/**
 * Mailbox names on the wire: modified UTF-7 (RFC 3501 5.1.3) for clients of
 * IMAP4rev1, UTF-8 for IMAP4rev2. A name has exactly one spelling: what is not
 * what we would write ourselves is refused, so that no two names mean one
 * mailbox and nothing hides a `/` or `..` in base64 (CASES 31).
 */
import { Fault } from '../base/fault.ts';

/** Levels of a name are separated by this. */
export const mailboxSeparator = '/';
export const mailboxNameBytesMax = 1000;

/**
 * A mailbox name from a client as Unicode (NFC).
 *
 * @param latin1  The astring, one char per byte.
 * @param utf8Names  The client enabled IMAP4rev2 or UTF8=ACCEPT: names are UTF-8.
 * @throws {Fault} `bad-name`
 */
export function decodeMailboxName(latin1: string, utf8Names: boolean): string {
  if (latin1.length > mailboxNameBytesMax) throw refused('Mailbox name is too long');
  // 8-bit names were never allowed in modified UTF-7; clients that send them mean UTF-8.
  const eightBit = /[\u0080-\u00ff]/.test(latin1);
  const name = utf8Names || eightBit ? fromUtf8(latin1) : fromModifiedUtf7(latin1);
  return checkMailboxName(name);
}

/** A mailbox name for a client, one char per byte; may hold anything: goes through `imapAstring`. */
export function encodeMailboxName(name: string, utf8Names: boolean): string {
  return utf8Names ? Buffer.from(name, 'utf8').toString('latin1') : toModifiedUtf7(name);
}

/**
 * Is it a name a mailbox may have? INBOX comes back in capitals; NFC is required, not made, so that a
 * client finds what it created.
 * @throws {Fault} `bad-name`
 */
export function checkMailboxName(name: string): string {
  if (name === '') throw refused('Mailbox name is empty');
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff\ufffd]/.test(name)) {
    throw refused('Mailbox name has control characters');
  }
  if (name.normalize('NFC') !== name) throw refused('Mailbox name is not in Unicode NFC');
  const levels = name.split(mailboxSeparator);
  for (const level of levels) {
    if (level === '') throw refused('Mailbox name has an empty level');
    if (level === '.' || level === '..') throw refused('Mailbox name has a level of dots');
  }
  if (levels[0]!.toUpperCase() === 'INBOX') levels[0] = 'INBOX';
  return levels.join(mailboxSeparator);
}

function fromUtf8(latin1: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(latin1, 'latin1'));
  } catch {
    throw refused('Mailbox name is not UTF-8');
  }
}

/** Unicode of a modified UTF-7 text; the one spelling only. @throws {Fault} `bad-name` */
export function fromModifiedUtf7(text: string): string {
  if (!text.includes('&')) return text;
  let out = '';
  let at = 0;
  while (at < text.length) {
    const shift = text.indexOf('&', at);
    if (shift < 0) break;
    out += text.slice(at, shift);
    const end = text.indexOf('-', shift);
    if (end < 0) throw refused('Mailbox name has an unclosed "&"');
    out += end === shift + 1 ? '&' : fromBase64(text.slice(shift + 1, end));
    at = end + 1;
  }
  out += text.slice(at);
  // Overlong forms, base64 of printable ASCII (`/`, `..`), lone surrogates, shifts that touch: all are
  // told by writing the name again.
  if (!out.isWellFormed() || toModifiedUtf7(out) !== text) {
    throw refused('Mailbox name is not proper modified UTF-7');
  }
  return out;
}

function fromBase64(text: string): string {
  if (!/^[A-Za-z0-9+,]+$/.test(text)) throw refused('Mailbox name is not proper modified UTF-7');
  const bytes = Buffer.from(text.replaceAll(',', '/'), 'base64');
  if (bytes.length % 2 !== 0) throw refused('Mailbox name is not proper modified UTF-7');
  return bytes.swap16().toString('utf16le');
}

/** Modified UTF-7 of a Unicode text. */
export function toModifiedUtf7(text: string): string {
  if (!/[^\u0020-\u007e]|&/.test(text)) return text;
  return text.replace(/&|[^\u0020-\u007e]+/g, (run) => {
    if (run === '&') return '&-';
    const base64 = Buffer.from(run, 'utf16le').swap16().toString('base64');
    return `&${base64.replaceAll('/', ',').replace(/=+$/, '')}-`;
  });
}

function refused(message: string): Fault {
  return new Fault('bad-name', message);
}
