/**
 * Mailbox names on the wire: modified UTF-7 (RFC 3501 5.1.3) for clients of
 * IMAP4rev1, UTF-8 for IMAP4rev2. A name has exactly one spelling: what is not
 * what we would write ourselves is refused, so that no two names mean one
 * mailbox and nothing hides a `/` or `..` in base64 (CASES 31).
 */
import { Fault } from '../base/fault.ts';
import { decodeModifiedUtf7, encodeModifiedUtf7 } from './modified-utf7.ts';

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
  const name = utf8Names || eightBit ? fromUtf8(latin1) : decodeModifiedUtf7(latin1);
  if (name === undefined) throw refused('Mailbox name is not proper modified UTF-7');
  return checkMailboxName(name);
}

/** A mailbox name for a client, one char per byte; may hold anything: goes through `imapAstring`. */
export function encodeMailboxName(name: string, utf8Names: boolean): string {
  return utf8Names ? Buffer.from(name, 'utf8').toString('latin1') : encodeModifiedUtf7(name);
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

function refused(message: string): Fault {
  return new Fault('bad-name', message);
}
