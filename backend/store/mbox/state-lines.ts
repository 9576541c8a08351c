/** Header lines in which other mbox programs keep their state. They are not shown of messages that did not come with them. */
import { flagBit } from '../store.ts';

const stateHeader = /^(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines)[ \t]*:/i;
/** Bytes of a line that tell whether it is one. */
export const stateNameBytesMax = 64;
/** Of a header, looked through for what other programs noted. */
export const headerBytesMax = 64 * 1024;

/** @param start  The line's first bytes, Latin-1. */
export function isStateLine(start: string): boolean {
  return stateHeader.test(start);
}

/** State lines of a header by lower-case name, the first of each. @param text  Latin-1, from the message's first byte on. */
export function stateLinesOf(text: string): ReadonlyMap<string, string> {
  const state = new Map<string, string>();
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, end < 0 ? text.length : end).replace(/\r$/, '');
    if (line === '') break;
    const name = stateHeader.exec(line.slice(0, stateNameBytesMax))?.[1]?.toLowerCase();
    if (name !== undefined && !state.has(name)) state.set(name, line.slice(line.indexOf(':') + 1).trim());
    if (end < 0) break;
    at = end + 1;
  }
  return state;
}

/** Flags and keywords another program noted. */
export function flagsNoted(state: ReadonlyMap<string, string>): { flags: number; keywords: string[] } {
  let flags = 0;
  if (/R/.test(state.get('status') ?? '')) flags |= flagBit.seen;
  const letters = state.get('x-status') ?? '';
  if (/A/.test(letters)) flags |= flagBit.answered;
  if (/F/.test(letters)) flags |= flagBit.flagged;
  if (/D/.test(letters)) flags |= flagBit.deleted;
  if (/T/.test(letters)) flags |= flagBit.draft;
  const words = (state.get('x-keywords') ?? '').split(/\s+/);
  return { flags, keywords: words.filter((word) => /^[!#$&'+\-./0-9:;<=>?@A-Z^_`a-z|~]{1,100}$/.test(word)) };
}
