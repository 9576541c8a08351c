/** Flags as IMAP writes them, to and from the store's bits. */
import { Fault } from '../../../base/fault.ts';
import { flagBit } from '../../store/store.ts';

const systemFlags = [
  ['\\Answered', flagBit.answered],
  ['\\Flagged', flagBit.flagged],
  ['\\Deleted', flagBit.deleted],
  ['\\Seen', flagBit.seen],
  ['\\Draft', flagBit.draft],
] as const;

const bitByName = new Map<string, number>(systemFlags.map(([name, bit]) => [name.toLowerCase(), bit]));

/** `\Answered \Flagged ...`: all system flags. */
export const allSystemFlags = systemFlags.map(([name]) => name).join(' ');

/** Each combination of the five bits as text, made once. */
const textByBits = Array.from({ length: 32 }, (_, bits) =>
  systemFlags
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name)
    .join(' '),
);

/** `\Seen $Work`, without parentheses. */
export function flagsText(bits: number, keywords: readonly string[]): string {
  const system = textByBits[bits & 31]!;
  if (keywords.length === 0) return system;
  return system === '' ? keywords.join(' ') : `${system} ${keywords.join(' ')}`;
}

/** Keywords one message may be given in one command. */
const keywordsMax = 100;
const keywordCharsMax = 100;

/**
 * Flags of a client as bits and keywords.
 * @throws {Fault} `bad-syntax`: an unknown system flag, or `\Recent`, which no client may set (RFC 3501 2.3.2)
 */
export function parseFlags(flags: readonly string[]): { bits: number; keywords: string[] } {
  let bits = 0;
  const keywords = new Map<string, string>();
  for (const flag of flags) {
    if (!flag.startsWith('\\')) {
      if (flag.length > keywordCharsMax) throw new Fault('limit-reached', 'Keyword is too long');
      // Keywords are the same whatever their case (RFC 9051 2.3.2): one of each is enough.
      if (!keywords.has(flag.toLowerCase())) keywords.set(flag.toLowerCase(), flag);
      continue;
    }
    const bit = bitByName.get(flag.toLowerCase());
    if (bit === undefined) throw new Fault('bad-syntax', 'This flag cannot be set');
    bits |= bit;
  }
  if (keywords.size > keywordsMax) throw new Fault('limit-reached', 'Too many keywords');
  return { bits, keywords: [...keywords.values()] };
}

/** Bit of a system flag by its name, `undefined` for keywords. */
export function flagBitOf(flag: string): number | undefined {
  return bitByName.get(flag.toLowerCase());
}
