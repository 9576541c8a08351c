/**
 * `dovecot-keywords`: which keyword each of the letters a–z in a folder's file
 * names stands for. One line per letter: `0 $Forwarded` is the letter `a`.
 * Dovecot shows no more than 26 keywords in names; further ones stand in its
 * index only.
 */
import path from 'node:path';
import { readWhole, replaceDurably } from '../files.ts';

const fileName = 'dovecot-keywords';
export const lettersMax = 26;
const fileBytesMax = 1024 * 1024;

/** Keywords by letter; a letter without a keyword has none. Errors of the file system are thrown. */
export async function readKeywordLetters(directory: string): Promise<ReadonlyMap<string, string>> {
  const data = await readWhole(path.join(directory, fileName));
  return parseKeywordLetters(data === undefined || data.length > fileBytesMax ? '' : data.toString('utf8'));
}

export function parseKeywordLetters(text: string): ReadonlyMap<string, string> {
  const letters = new Map<string, string>();
  for (const line of text.split('\n')) {
    // RFC 9051 9: a keyword is an atom.
    const found = /^(\d{1,3}) ([^\x00-\x20\x7f-\uffff(){%*"\\\]]{1,255})$/.exec(line);
    const index = Number(found?.[1]);
    if (found && index < lettersMax) letters.set(letterOf(index), found[2]!);
  }
  return letters;
}

export function letterOf(index: number): string {
  return String.fromCharCode(97 + index);
}

export function writeKeywordLetters(directory: string, keywords: readonly string[]): Promise<void> {
  const lines = keywords.slice(0, lettersMax).map((keyword, index) => `${index} ${keyword}\n`);
  return replaceDurably(path.join(directory, fileName), lines.join(''));
}
