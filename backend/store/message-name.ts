/**
 * Names of message files. The name is the truth about a message: its UID, its
 * size and its flags stand in it, so the rename that makes a message visible
 * makes all of them durable at once.
 *
 *   <seconds>.U<uid>_<email id>_M<modseq>[_D<saved>][_K<delivery key>].<host>,S=<bytes>,W=<bytes>:2,<flags>
 *
 * `seconds` is the internal date, `M` the modification sequence the message
 * was added at, `D` when it came into the folder where that is not the internal date, `S` the bytes of the file, `W` the bytes with CRLF line ends.
 */
import { hostname } from 'node:os';
import { flagBit } from './store.ts';

export interface MessageName {
  readonly seconds: number;
  readonly uid: number;
  /** 16 hex digits. */
  readonly emailId: string;
  readonly modseq: number;
  /** Seconds since 1970 when it came into its folder; `undefined`: at the internal date. */
  readonly savedSeconds?: number | undefined;
  /** 32 hex digits, deliveries only. */
  readonly deliveryKey: string | undefined;
  readonly host: string;
  readonly fileBytes: number;
  readonly size: number;
  readonly flags: number;
  /** Flag letters that are not ours: other programs' keywords, `P`. Kept through renames. */
  readonly otherLetters: string;
}

/** Slash and colon cannot stand in a Maildir name; a comma would start its attributes. */
export const hostOfNames =
  hostname()
    .replace(/[^A-Za-z0-9.-]/g, '_')
    .slice(0, 64) || 'localhost';

const ours =
  /^(\d{1,12})\.U(\d{1,10})_([0-9a-f]{16})_M(\d{1,16})(?:_D(\d{1,12}))?(?:_K([0-9a-f]{32}))?\.([^,:/]{1,100}),S=(\d{1,15}),W=(\d{1,15})(?::2,([\x21-\x7e]{0,64}))?$/;

/** `undefined`: not a name this store gave. */
export function parseMessageName(text: string): MessageName | undefined {
  const found = ours.exec(text);
  if (!found) return undefined;
  const uid = Number(found[2]);
  if (uid === 0 || uid > 0xfffffffe) return undefined;
  const letters = found[10] ?? '';
  return {
    seconds: Number(found[1]),
    uid,
    emailId: found[3]!,
    modseq: Number(found[4]),
    savedSeconds: found[5] === undefined ? undefined : Number(found[5]),
    deliveryKey: found[6],
    host: found[7]!,
    fileBytes: Number(found[8]),
    size: Number(found[9]),
    flags: flagsOfLetters(letters),
    otherLetters: otherLettersOf(letters),
  };
}

/** What `savedSeconds` of a message is that comes into its folder now. */
export function savedNow(seconds: number): number | undefined {
  const now = Math.floor(Date.now() / 1000);
  return Math.abs(now - seconds) <= 1 ? undefined : now;
}

/** Bytes of the file, as its name says; without parsing the rest. */
export function fileBytesIn(text: string): number | undefined {
  const start = text.indexOf(',S=');
  const end = start < 0 ? -1 : text.indexOf(',', start + 3);
  const bytes = end < 0 ? Number.NaN : Number(text.slice(start + 3, end));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

export function formatMessageName(name: MessageName): string {
  const key = name.deliveryKey === undefined ? '' : `_K${name.deliveryKey}`;
  const saved = name.savedSeconds === undefined ? '' : `_D${name.savedSeconds}`;
  return `${name.seconds}.U${name.uid}_${name.emailId}_M${name.modseq}${saved}${key}.${name.host},S=${name.fileBytes},W=${name.size}:2,${lettersOf(name.flags, name.otherLetters)}`;
}

/** The same file's name with other flags; everything else stays, whatever program gave it. */
export function withFlags(text: string, flags: number): string {
  const colon = text.lastIndexOf(':2,');
  const base = colon < 0 ? text : text.slice(0, colon);
  const letters = colon < 0 ? '' : text.slice(colon + 3);
  return `${base}:2,${lettersOf(flags, otherLettersOf(letters))}`;
}

/** The same file's name with other flags and other keyword letters (a–z); letters of neither kind stay. */
export function withLetters(text: string, flags: number, keywordLetters: string): string {
  const colon = text.lastIndexOf(':2,');
  const base = colon < 0 ? text : text.slice(0, colon);
  const others = otherLettersOf(colon < 0 ? '' : text.slice(colon + 3)).replace(/[a-z]/g, '');
  return `${base}:2,${lettersOf(flags, others + keywordLetters)}`;
}

/** Flags and other letters of any Maildir name. */
export function lettersIn(text: string): { readonly flags: number; readonly otherLetters: string } {
  const colon = text.lastIndexOf(':2,');
  const letters = colon < 0 ? '' : text.slice(colon + 3, colon + 67);
  return { flags: flagsOfLetters(letters), otherLetters: otherLettersOf(letters) };
}

const bitOfLetter: Readonly<Record<string, number>> = {
  D: flagBit.draft,
  F: flagBit.flagged,
  R: flagBit.answered,
  S: flagBit.seen,
  T: flagBit.deleted,
};

function flagsOfLetters(letters: string): number {
  let flags = 0;
  for (const letter of letters) flags |= bitOfLetter[letter] ?? 0;
  return flags;
}

function otherLettersOf(letters: string): string {
  let others = '';
  for (const letter of letters) {
    if (bitOfLetter[letter] === undefined && /[A-Za-z]/.test(letter)) others += letter;
  }
  return others;
}

/** Sorted, as the Maildir rules ask. */
function lettersOf(flags: number, otherLetters: string): string {
  let letters = '';
  for (const letter in bitOfLetter) if (flags & bitOfLetter[letter]!) letters += letter;
  return otherLetters === '' ? letters : [...letters, ...otherLetters].sort().join('');
}
