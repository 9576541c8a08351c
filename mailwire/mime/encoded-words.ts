/** Encoded words of header fields (RFC 2047): linear, because each word is bounded. */
import { decodeCharset } from './charset.ts';

const charsetCharsMax = 60;
/** RFC 2047 2 says 75; what is found in the wild is longer. */
const wordCharsMax = 1000;

interface Word {
  readonly charset: string;
  readonly bytes: Buffer;
  readonly end: number;
}

/**
 * A header value as Unicode.
 *
 * White space between two encoded words goes, and words of one charset are joined before they are decoded,
 * because senders split characters over two words.
 *
 * @param latin1  Unfolded value, one char per byte; 8-bit bytes outside of words are read as UTF-8 (RFC 6532).
 */
export function decodeEncodedWords(latin1: string): string {
  let out = '';
  let plainFrom = 0;
  let at = 0;
  let held: { charset: string; parts: Buffer[] } | undefined;
  const flush = () => {
    if (held !== undefined) out += decodeCharset(Buffer.concat(held.parts), held.charset);
    held = undefined;
  };
  for (;;) {
    const start = latin1.indexOf('=?', at);
    if (start < 0) break;
    const word = wordAt(latin1, start);
    if (word === undefined) {
      at = start + 2;
      continue;
    }
    const between = latin1.slice(plainFrom, start);
    if (held === undefined || between.trim() !== '') {
      flush();
      out += plainText(between);
    }
    if (held !== undefined && held.charset !== word.charset) flush();
    held ??= { charset: word.charset, parts: [] };
    held.parts.push(word.bytes);
    at = word.end;
    plainFrom = at;
  }
  flush();
  return out + plainText(latin1.slice(plainFrom));
}

function plainText(latin1: string): string {
  return /[\u0080-\u00ff]/.test(latin1) ? decodeCharset(Buffer.from(latin1, 'latin1'), 'us-ascii') : latin1;
}

function wordAt(text: string, start: number): Word | undefined {
  const head = text.slice(start + 2, start + 2 + charsetCharsMax + 3);
  const charsetEnd = head.indexOf('?');
  if (charsetEnd < 1 || head[charsetEnd + 2] !== '?') return undefined;
  const encoding = head[charsetEnd + 1]!.toUpperCase();
  if (encoding !== 'B' && encoding !== 'Q') return undefined;
  const from = start + 2 + charsetEnd + 3;
  let end = from;
  const stop = Math.min(text.length, from + wordCharsMax);
  while (end < stop && text[end] !== '?') end++;
  if (text[end] !== '?' || text[end + 1] !== '=') return undefined;
  // RFC 2231 5: a language may follow the charset.
  const charset = head.slice(0, charsetEnd).replace(/\*.*$/, '').toLowerCase();
  const content = text.slice(from, end);
  const bytes = encoding === 'B' ? Buffer.from(content, 'base64') : fromQ(content);
  return { charset, bytes, end: end + 2 };
}

function fromQ(text: string): Buffer {
  const plain = text
    .replaceAll('_', ' ')
    .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(plain, 'latin1');
}
