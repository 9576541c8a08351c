/**
 * Does one domain look like another? First by how it is seen: letters of other
 * scripts and digits become the Latin letters they resemble (the kind of table
 * UTS 39 calls confusables; here the part that matters for names). Then by one
 * slip of a finger, and by a known name as part of a longer one.
 */
import { domainToUnicode } from 'node:url';
import { getDomainWithoutSuffix } from 'tldts';

const seenAs: Readonly<Record<string, string>> = {
  // Cyrillic
  а: 'a',
  в: 'b',
  с: 'c',
  ԁ: 'd',
  е: 'e',
  һ: 'h',
  і: 'i',
  ј: 'j',
  к: 'k',
  ӏ: 'l',
  м: 'm',
  н: 'h',
  о: 'o',
  р: 'p',
  ԛ: 'q',
  ѕ: 's',
  т: 't',
  у: 'y',
  х: 'x',
  ѵ: 'v',
  ԝ: 'w',
  ь: 'b',
  г: 'r',
  // Greek
  α: 'a',
  β: 'b',
  ε: 'e',
  η: 'n',
  ι: 'i',
  κ: 'k',
  ν: 'v',
  ο: 'o',
  ρ: 'p',
  τ: 't',
  υ: 'u',
  χ: 'x',
  ω: 'w',
  γ: 'y',
  // Latin of other alphabets
  ı: 'i',
  ł: 'l',
  ø: 'o',
  đ: 'd',
  ħ: 'h',
  ŧ: 't',
  ɑ: 'a',
  ɡ: 'g',
  ɩ: 'i',
  ʏ: 'y',
  ʀ: 'r',
  ɴ: 'n',
  ᴏ: 'o',
  ꜱ: 's',
  ḷ: 'l',
  // Digits and signs
  '0': 'o',
  '1': 'l',
  '3': 'e',
  '5': 's',
  '|': 'l',
};

/** The shape of a name as a reader sees it: `рaypa1` → `paypal`. */
export function shapeOf(label: string): string {
  const plain = label
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toLowerCase();
  return [...plain]
    .map((letter) => seenAs[letter] ?? letter)
    .join('')
    .replaceAll('rn', 'm')
    .replaceAll('vv', 'w')
    .replaceAll('cl', 'd');
}

/** Scripts of which a name has letters; two in one word is what no language does but imitators do. */
export function mixesScripts(label: string): boolean {
  const scripts = [
    /\p{Script=Latin}/u,
    /\p{Script=Cyrillic}/u,
    /\p{Script=Greek}/u,
    /\p{Script=Armenian}/u,
    /\p{Script=Cherokee}/u,
  ];
  return scripts.filter((script) => script.test(label)).length > 1;
}

export type Likeness = 'shape' | 'slip' | 'part';

/** A domain that may be imitated, read once. */
export interface Known {
  readonly domain: string;
  /** `example` of `example.co.uk`. */
  readonly word: string;
  readonly shape: string;
}

/** Shorter names are imitated by chance too often. */
const wordCharsMin = 4;
const slipCharsMin = 6;

export function knownDomains(domains: readonly string[]): readonly Known[] {
  return domains
    .map((domain) => ({ domain, word: wordOf(domain), shape: shapeOf(wordOf(domain)) }))
    .filter(({ word }) => word.length >= wordCharsMin);
}

/** Which known domain `domain` imitates, and how; `undefined` for none, and for the known ones themselves. */
export function imitated(
  domain: string,
  all: readonly Known[],
): { readonly how: Likeness; readonly known: string } | undefined {
  const word = wordOf(domain);
  const shape = shapeOf(word);
  const pieces = word.includes('-') ? word.split('-').map(shapeOf) : [];
  for (const known of all) {
    if (domain === known.domain || domain.endsWith(`.${known.domain}`)) return undefined;
    const how = likeness(word, shape, pieces, known);
    if (how !== undefined) return { how, known: known.domain };
  }
  return undefined;
}

function likeness(
  word: string,
  shape: string,
  pieces: readonly string[],
  known: Known,
): Likeness | undefined {
  if (word === known.word) return 'part'; // the same name under another ending
  if (shape === known.shape) return 'shape';
  if (known.word.length >= slipCharsMin && isOneSlip(word, known.word)) return 'slip';
  return pieces.includes(known.shape) ? 'part' : undefined;
}

/** `example` of `www.example.co.uk`, as people read it. */
function wordOf(domain: string): string {
  const word = getDomainWithoutSuffix(domain) ?? domain.split('.')[0] ?? '';
  return domainToUnicode(word) || word;
}

/** One letter more, less, other, or two that changed places. */
export function isOneSlip(a: string, b: string): boolean {
  const long = a.length >= b.length ? a : b;
  const short = long === a ? b : a;
  if (long.length - short.length > 1) return false;
  let at = 0;
  while (at < short.length && long[at] === short[at]) at++;
  if (long.length > short.length) return long.slice(at + 1) === short.slice(at);
  if (at === short.length) return false;
  if (long.slice(at + 1) === short.slice(at + 1)) return true;
  return (
    long[at] === short[at + 1] && long[at + 1] === short[at] && long.slice(at + 2) === short.slice(at + 2)
  );
}
