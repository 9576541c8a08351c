/**
 * Mailbox patterns of LIST (RFC 9051 6.3.9): `*` is any text, `%` any text
 * within a level. Matched without a regular expression, so that no pattern
 * costs more than its length times the name's.
 */
import { Fault } from '../../../base/fault.ts';
import { mailboxSeparator } from '../../../mailwire/imap-mailbox-name.ts';

export interface Pattern {
  readonly text: string;
  /** Characters a matching name has at least. */
  readonly lengthMin: number;
  readonly hasPercent: boolean;
}

const wildcardsMax = 20;

/** @throws {Fault} `limit-reached` */
export function preparePattern(written: string): Pattern {
  // INBOX is the same in any case; its levels are not.
  let text = /^inbox(?=$|\/)/i.test(written) ? `INBOX${written.slice(5)}` : written;
  text = text.replace(/[*%]*\*[*%]*/g, '*').replace(/%+/g, '%');
  const wildcards = text.match(/[*%]/g)?.length ?? 0;
  if (wildcards > wildcardsMax) throw new Fault('limit-reached', 'Too many wildcards');
  return { text, lengthMin: text.length - wildcards, hasPercent: text.includes('%') };
}

export function matchesPattern(pattern: Pattern, name: string): boolean {
  if (name.length < pattern.lengthMin) return false;
  if (pattern.text === '*') return true;
  if (match(pattern.text, name)) return true;
  return name === 'INBOX' && match(pattern.text.toUpperCase(), name);
}

/** The set of pattern positions that can be reached, moved over the name char by char. */
function match(pattern: string, name: string): boolean {
  let reached = closure(pattern, new Set([0]));
  for (const char of name) {
    const next = new Set<number>();
    for (const at of reached) {
      const want = pattern[at];
      if (want === '*' || (want === '%' && char !== mailboxSeparator)) next.add(at);
      else if (want !== undefined && pattern.startsWith(char, at)) next.add(at + char.length);
    }
    if (next.size === 0) return false;
    reached = closure(pattern, next);
  }
  return reached.has(pattern.length);
}

/** A wildcard may stand for nothing. */
function closure(pattern: string, positions: Set<number>): Set<number> {
  for (const at of positions) {
    if (pattern[at] === '*' || pattern[at] === '%') positions.add(at + 1);
  }
  return positions;
}
