/** The program of a SEARCH command (RFC 9051 6.4.4, RFC 3501 6.4.4, RFC 4731, RFC 5032), read from its arguments. */
import { Fault } from '../base/fault.ts';
import type { ImapCursor, ImapSequenceSet } from './imap-tokens.ts';
import { decodeCharset, knowsCharset } from './mime/charset.ts';
import { casemap } from './unicode-casemap.ts';

export type SearchKey =
  | { readonly key: 'all' }
  /** RFC 3501: with or without `\Recent`. */
  | { readonly key: 'recent'; readonly on: boolean }
  /** A system flag as `\Seen`, or a keyword. */
  | { readonly key: 'flag'; readonly flag: string; readonly on: boolean }
  /** Days, as ms of their midnight UTC. `sent`: by the Date field. */
  | {
      readonly key: 'before' | 'on' | 'since';
      readonly sent: boolean;
      readonly saved?: undefined;
      readonly dayMs: number;
    }
  /** RFC 8514: by the day it came into the mailbox. */
  | { readonly key: 'before' | 'on' | 'since'; readonly saved: true; readonly dayMs: number }
  /** RFC 5032 WITHIN. */
  | { readonly key: 'older' | 'younger'; readonly seconds: number }
  | { readonly key: 'larger' | 'smaller'; readonly size: number }
  /** `name` in lower case, `value` as in `foldText`. */
  | { readonly key: 'header'; readonly name: string; readonly value: string }
  | { readonly key: 'body' | 'text'; readonly value: string }
  | { readonly key: 'uid' | 'sequence'; readonly set: ImapSequenceSet }
  | { readonly key: 'emailid'; readonly id: string }
  /** RFC 7162 3.1.5: changed at or after. */
  | { readonly key: 'modseq'; readonly modseq: number }
  | { readonly key: 'not'; readonly of: SearchKey }
  | { readonly key: 'or' | 'and'; readonly of: readonly SearchKey[] };

export type SearchReturn = 'MIN' | 'MAX' | 'ALL' | 'COUNT' | 'SAVE';

export interface SearchProgram {
  readonly key: SearchKey;
  /** `undefined`: no RETURN, answered the RFC 3501 way. */
  readonly returns: ReadonlySet<SearchReturn> | undefined;
  /** As written; `undefined`: none was. */
  readonly charset: string | undefined;
  /** MODSEQ is among the keys: the answer tells one too. */
  readonly modseq: boolean;
}

/** CASES 26. */
export const searchKeysMax = 1000;
export const searchDepthMax = 50;
const needleCharsMax = 4096;

/** Texts are compared by i;unicode-casemap: both sides pass here. */
export function foldText(text: string): string {
  return casemap(text);
}

const flags: Readonly<Record<string, readonly [flag: string, on: boolean]>> = {
  ANSWERED: ['\\Answered', true],
  DELETED: ['\\Deleted', true],
  DRAFT: ['\\Draft', true],
  FLAGGED: ['\\Flagged', true],
  SEEN: ['\\Seen', true],
  UNANSWERED: ['\\Answered', false],
  UNDELETED: ['\\Deleted', false],
  UNDRAFT: ['\\Draft', false],
  UNFLAGGED: ['\\Flagged', false],
  UNSEEN: ['\\Seen', false],
};

/**
 * @throws {Fault} `bad-syntax`
 * @throws {Fault} `limit-reached`: too many or too deep keys
 * @throws {Fault} `not-allowed` with the detail `badCharset`: a charset nobody knows
 */
export function parseSearchProgram(cursor: ImapCursor): SearchProgram {
  const parser = new SearchParser(cursor);
  return parser.program();
}

/** What messages are sorted by (RFC 5256 3, RFC 5957). */
export const sortKeys = [
  'ARRIVAL',
  'CC',
  'DATE',
  'FROM',
  'SIZE',
  'SUBJECT',
  'TO',
  'DISPLAYFROM',
  'DISPLAYTO',
] as const;
export type SortKey = (typeof sortKeys)[number];

export interface SortCriterion {
  readonly by: SortKey;
  readonly reverse: boolean;
}

export interface SortProgram extends SearchProgram {
  readonly criteria: readonly SortCriterion[];
}

export const threadAlgorithms = ['ORDEREDSUBJECT', 'REFERENCES'] as const;

export interface ThreadProgram extends SearchProgram {
  readonly algorithm: (typeof threadAlgorithms)[number];
}

const criteriaMax = 20;

/** Arguments of SORT (RFC 5256 3, RFC 5267 3). Throws as `parseSearchProgram`. */
export function parseSortProgram(cursor: ImapCursor): SortProgram {
  const parser = new SearchParser(cursor);
  let returns: ReadonlySet<SearchReturn> | undefined;
  if (!cursor.isAt('(')) {
    if (cursor.keyword() !== 'RETURN') throw new Fault('bad-syntax', 'Missing sort criteria');
    returns = parser.returns();
    cursor.space();
  }
  const criteria: SortCriterion[] = [];
  cursor.expect('(');
  do {
    let word = cursor.keyword();
    const reverse = word === 'REVERSE';
    if (reverse) {
      cursor.space();
      word = cursor.keyword();
    }
    const by = sortKeys.find((key) => key === word);
    if (by === undefined) throw new Fault('bad-syntax', 'Unknown sort criterion');
    criteria.push({ by, reverse });
    if (criteria.length > criteriaMax) throw new Fault('limit-reached', 'Too many sort criteria');
  } while (cursor.takeIf(' '));
  cursor.expect(')');
  return { ...parser.charsetAndKeys(returns), criteria };
}

/** Arguments of THREAD (RFC 5256 3). Throws as `parseSearchProgram`. */
export function parseThreadProgram(cursor: ImapCursor): ThreadProgram {
  const word = cursor.keyword();
  const algorithm = threadAlgorithms.find((known) => known === word);
  if (algorithm === undefined) throw new Fault('bad-syntax', 'Unknown threading algorithm');
  return { ...new SearchParser(cursor).charsetAndKeys(undefined), algorithm };
}

class SearchParser {
  readonly #cursor: ImapCursor;
  #charset = 'utf-8';
  #count = 0;
  #modseq = false;

  constructor(cursor: ImapCursor) {
    this.#cursor = cursor;
  }

  program(): SearchProgram {
    const cursor = this.#cursor;
    let returns: Set<SearchReturn> | undefined;
    let charset: string | undefined;
    let first = this.#nextWord();
    if (first === 'RETURN') {
      returns = this.returns();
      cursor.space();
      first = this.#nextWord();
    }
    if (first === 'CHARSET') {
      cursor.space();
      charset = this.#takeCharset();
      cursor.space();
      first = this.#nextWord();
    }
    return this.#keys(first, returns, charset);
  }

  /** ` charset keys` of SORT and THREAD. */
  charsetAndKeys(returns: ReadonlySet<SearchReturn> | undefined): SearchProgram {
    this.#cursor.space();
    const charset = this.#takeCharset();
    this.#cursor.space();
    return this.#keys(this.#nextWord(), returns, charset);
  }

  #takeCharset(): string {
    this.#charset = this.#cursor.astring();
    if (knowsCharset(this.#charset)) return this.#charset;
    throw new Fault('not-allowed', 'Unknown charset', { detail: { badCharset: true } });
  }

  #keys(
    first: string | undefined,
    returns: ReadonlySet<SearchReturn> | undefined,
    charset: string | undefined,
  ): SearchProgram {
    const cursor = this.#cursor;
    const keys = [this.#key(first, 0)];
    while (cursor.takeIf(' ')) keys.push(this.#key(this.#nextWord(), 0));
    cursor.end();
    const key: SearchKey = keys.length === 1 ? keys[0]! : { key: 'and', of: keys };
    return { key, returns, charset, modseq: this.#modseq };
  }

  /** A word in capitals, or `undefined` before a parenthesis or a sequence set. */
  #nextWord(): string | undefined {
    const cursor = this.#cursor;
    if (cursor.isAt('(') || cursor.isAt('*') || cursor.isAt('$')) return undefined;
    for (const char of '0123456789') if (cursor.isAt(char)) return undefined;
    return cursor.keyword();
  }

  /** ` (MIN ALL)` behind RETURN. */
  returns(): Set<SearchReturn> {
    const cursor = this.#cursor;
    const found = new Set<SearchReturn>();
    cursor.space();
    cursor.expect('(');
    if (!cursor.takeIf(')')) {
      do {
        const name = cursor.keyword();
        if (name !== 'MIN' && name !== 'MAX' && name !== 'ALL' && name !== 'COUNT' && name !== 'SAVE') {
          throw new Fault('bad-syntax', 'Unknown search return option');
        }
        found.add(name);
      } while (cursor.takeIf(' '));
      cursor.expect(')');
    }
    // RFC 4731 3.1: an empty list means ALL.
    if (found.size === 0) found.add('ALL');
    return found;
  }

  /** Recursion is bounded by `searchDepthMax`, width by `searchKeysMax`. */
  #key(word: string | undefined, depth: number): SearchKey {
    const cursor = this.#cursor;
    if (depth > searchDepthMax) throw new Fault('limit-reached', 'Search is nested too deeply');
    if (++this.#count > searchKeysMax) throw new Fault('limit-reached', 'Too many search keys');
    if (word === undefined) {
      if (!cursor.takeIf('(')) return { key: 'sequence', set: cursor.sequenceSet() };
      const keys: SearchKey[] = [];
      do keys.push(this.#key(this.#nextWord(), depth + 1));
      while (cursor.takeIf(' '));
      cursor.expect(')');
      return keys.length === 1 ? keys[0]! : { key: 'and', of: keys };
    }
    if (Object.hasOwn(flags, word)) {
      const [flag, on] = flags[word]!;
      return { key: 'flag', flag, on };
    }
    switch (word) {
      case 'ALL':
      case 'SAVEDATESUPPORTED': // every mailbox does (RFC 8514 4.3)
        return { key: 'all' };
      case 'OLD':
      case 'RECENT':
        return { key: 'recent', on: word === 'RECENT' };
      case 'NEW':
        return {
          key: 'and',
          of: [
            { key: 'recent', on: true },
            { key: 'flag', flag: '\\Seen', on: false },
          ],
        };
      case 'NOT':
        cursor.space();
        return { key: 'not', of: this.#key(this.#nextWord(), depth + 1) };
      case 'OR': {
        cursor.space();
        const left = this.#key(this.#nextWord(), depth + 1);
        cursor.space();
        return { key: 'or', of: [left, this.#key(this.#nextWord(), depth + 1)] };
      }
    }
    cursor.space();
    return this.#keyWithArgument(word);
  }

  #keyWithArgument(word: string): SearchKey {
    const cursor = this.#cursor;
    switch (word) {
      case 'BCC':
      case 'CC':
      case 'FROM':
      case 'SUBJECT':
      case 'TO':
        return { key: 'header', name: word.toLowerCase(), value: this.#needle() };
      case 'HEADER': {
        const name = cursor.astring().toLowerCase();
        cursor.space();
        return { key: 'header', name, value: this.#needle() };
      }
      case 'BODY':
      case 'TEXT':
        return { key: word === 'BODY' ? 'body' : 'text', value: this.#needle() };
      case 'BEFORE':
      case 'ON':
      case 'SINCE':
        return { key: dayKeys[word], sent: false, dayMs: cursor.date() };
      case 'SENTBEFORE':
      case 'SENTON':
      case 'SENTSINCE':
        return { key: dayKeys[word], sent: true, dayMs: cursor.date() };
      case 'SAVEDBEFORE':
      case 'SAVEDON':
      case 'SAVEDSINCE':
        return { key: dayKeys[word], saved: true, dayMs: cursor.date() };
      case 'OLDER':
      case 'YOUNGER':
        return { key: word === 'OLDER' ? 'older' : 'younger', seconds: cursor.nzNumber() };
      case 'LARGER':
      case 'SMALLER':
        return { key: word === 'LARGER' ? 'larger' : 'smaller', size: cursor.number64() };
      case 'KEYWORD':
      case 'UNKEYWORD':
        return { key: 'flag', flag: cursor.atom(), on: word === 'KEYWORD' };
      case 'UID':
        return { key: 'uid', set: cursor.sequenceSet() };
      case 'MODSEQ':
        if (cursor.isAt('"')) {
          // Which flag's change is meant: every flag's counts here (RFC 7162 3.1.5 allows it).
          cursor.string();
          cursor.space();
          if (!['PRIV', 'SHARED', 'ALL'].includes(cursor.keyword())) {
            throw new Fault('bad-syntax', 'Unknown entry type');
          }
          cursor.space();
        }
        this.#modseq = true;
        return { key: 'modseq', modseq: cursor.number64() };
      case 'EMAILID':
        return { key: 'emailid', id: cursor.astring() };
      case 'THREADID':
        // RFC 8474 5.2: every THREADID is NIL here, which no id is.
        cursor.astring();
        return { key: 'not', of: { key: 'all' } };
      default:
        throw new Fault('bad-syntax', 'Unknown search key');
    }
  }

  #needle(): string {
    const latin1 = this.#cursor.astring();
    if (latin1.length > needleCharsMax) throw new Fault('limit-reached', 'Search text is too long');
    return foldText(decodeCharset(Buffer.from(latin1, 'latin1'), this.#charset));
  }
}

const dayKeys = {
  BEFORE: 'before',
  ON: 'on',
  SINCE: 'since',
  SENTBEFORE: 'before',
  SENTON: 'on',
  SENTSINCE: 'since',
  SAVEDBEFORE: 'before',
  SAVEDON: 'on',
  SAVEDSINCE: 'since',
} as const;
