/**
 * Keywords of a folder: each has the spelling it first came in, and a message
 * holds the number of its combination of them, so that a column of 16 bits
 * says which keywords each of a million messages has.
 */
import { Fault } from '../../base/fault.ts';
import type { FlagChange } from './store.ts';

export const noKeywords: readonly string[] = Object.freeze([]);
const combinationsMax = 0xfffe;

export class KeywordTable {
  /** As first spelled. */
  readonly keywords: string[] = [];
  /** Keyword combinations that messages have; 0 is none. */
  readonly #combinations: (readonly string[])[] = [noKeywords];
  #index: Map<string, number> | undefined;

  /** The keywords of a combination. */
  at(combination: number): readonly string[] {
    return this.#combinations[combination] ?? noKeywords;
  }

  /** All combinations; the first is none. */
  combinations(): readonly (readonly string[])[] {
    return this.#combinations;
  }

  /** Keywords as this folder spells them. @throws {Fault} `limit-reached` */
  check(wanted: readonly string[], keywordsMax: number): readonly string[] {
    if (wanted.length === 0) return noKeywords;
    const spelled: string[] = [];
    let added = 0;
    for (const keyword of wanted) {
      const known = this.#spelling(keyword);
      if (known === undefined) added++;
      const spelling = known ?? keyword;
      if (!spelled.includes(spelling)) spelled.push(spelling);
    }
    if (this.keywords.length + added > keywordsMax || this.#combinations.length >= combinationsMax) {
      throw new Fault('limit-reached', 'this folder knows too many keywords');
    }
    return spelled;
  }

  learn(keyword: string): void {
    if (this.#spelling(keyword) === undefined) this.keywords.push(keyword);
  }

  /** The number of a combination, new or known. */
  combination(keywords: readonly string[]): number {
    if (keywords.length === 0) return 0;
    for (const keyword of keywords) this.learn(keyword);
    const sorted = keywords.map((keyword) => this.#spelling(keyword)!).sort();
    const key = sorted.join(' ');
    this.#index ??= new Map();
    const known = this.#index.get(key);
    if (known !== undefined) return known;
    this.#combinations.push(Object.freeze(sorted));
    this.#index.set(key, this.#combinations.length - 1);
    return this.#combinations.length - 1;
  }

  #spelling(keyword: string): string | undefined {
    const lower = keyword.toLowerCase();
    return this.keywords.find((known) => known.toLowerCase() === lower);
  }
}

export function combineKeywords(before: readonly string[], change: FlagChange): readonly string[] {
  if (change.how === 'set') return change.keywords;
  if (change.how === 'add') {
    const fresh = change.keywords.filter((keyword) => !holds(before, keyword));
    return fresh.length === 0 ? before : [...before, ...fresh];
  }
  return before.filter((keyword) => !holds(change.keywords, keyword));
}

function holds(list: readonly string[], keyword: string): boolean {
  const lower = keyword.toLowerCase();
  return list.some((entry) => entry.toLowerCase() === lower);
}
