/** Filters of Email/query that need no more than what the index knows (RFC 8621 4.4.1). */
import { keywordsOf, type Location } from './email-index.ts';
import { type Arguments, dateIn, idForm, integerIn, objectIn, textIn, textsIn } from './jmap-arguments.ts';
import { invalid, MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';

/** One email, as a filter sees it: every place it is in. */
export type Predicate = (locations: readonly Location[]) => boolean;

export interface EmailFilter {
  readonly matches: Predicate;
  /** Every match is in this mailbox: only it needs to be looked through. */
  readonly within: string | undefined;
}

/** @throws {MethodError} `unsupportedFilter`, `invalidArguments` */
export function emailFilter(args: Arguments): EmailFilter {
  const filter = objectIn(args, 'filter');
  if (filter === undefined) return { matches: () => true, within: undefined };
  return { matches: predicateOf(filter, { nodes: 0 }, 1), within: withinOf(filter) };
}

function withinOf(filter: Arguments): string | undefined {
  if (typeof filter.inMailbox === 'string') return filter.inMailbox;
  if (filter.operator !== 'AND' || !Array.isArray(filter.conditions)) return undefined;
  for (const condition of filter.conditions as unknown[]) {
    const { inMailbox } = (condition ?? {}) as Arguments;
    if (typeof inMailbox === 'string') return inMailbox;
  }
  return undefined;
}

function predicateOf(filter: Arguments, budget: { nodes: number }, depth: number): Predicate {
  budget.nodes += 1;
  if (budget.nodes > jmapLimits.filterNodesMax || depth > jmapLimits.filterDepthMax) {
    throw new MethodError('unsupportedFilter', 'the filter is too large');
  }
  return 'operator' in filter ? operatorOf(filter, budget, depth) : conditionOf(filter);
}

function operatorOf(filter: Arguments, budget: { nodes: number }, depth: number): Predicate {
  const { operator, conditions } = filter;
  if (!Array.isArray(conditions)) throw invalid('an operator needs conditions');
  const parts = (conditions as unknown[]).map((condition) => {
    if (typeof condition !== 'object' || condition === null || Array.isArray(condition)) {
      throw invalid('a condition is not an object');
    }
    return predicateOf(condition as Arguments, budget, depth + 1);
  });
  switch (operator) {
    case 'AND':
      return (email) => parts.every((part) => part(email));
    case 'OR':
      return (email) => parts.some((part) => part(email));
    case 'NOT':
      return (email) => !parts.some((part) => part(email));
    default:
      throw invalid('there is no such operator');
  }
}

function conditionOf(filter: Arguments): Predicate {
  const parts = Object.keys(filter).map((name): Predicate => {
    switch (name) {
      case 'inMailbox': {
        const id = textIn(filter, name);
        if (id === undefined || !idForm.test(id)) throw invalid('inMailbox is not an id');
        return (email) => email.some(({ folder }) => folder.mailboxId === id);
      }
      case 'inMailboxOtherThan': {
        const ids = new Set(textsIn(filter, name));
        return (email) => email.some(({ folder }) => !ids.has(folder.mailboxId));
      }
      case 'before': {
        const ms = dateIn(filter, name) ?? Number.POSITIVE_INFINITY;
        return ([email]) => (email as Location).facts.internalDateMs < ms;
      }
      case 'after': {
        const ms = dateIn(filter, name) ?? Number.NEGATIVE_INFINITY;
        return ([email]) => (email as Location).facts.internalDateMs >= ms;
      }
      case 'minSize': {
        const bytes = integerIn(filter, name, 0) ?? 0;
        return ([email]) => (email as Location).facts.size >= bytes;
      }
      case 'maxSize': {
        const bytes = integerIn(filter, name, 0) ?? Number.POSITIVE_INFINITY;
        return ([email]) => (email as Location).facts.size < bytes;
      }
      case 'hasKeyword':
      case 'notKeyword': {
        const keyword = (textIn(filter, name) ?? '').toLowerCase();
        const wanted = name === 'hasKeyword';
        return ([email]) => keywordsOf((email as Location).facts).has(keyword) === wanted;
      }
      default:
        throw new MethodError('unsupportedFilter', `the filter ${name.slice(0, 50)} is not known here`);
    }
  });
  return (email) => parts.every((part) => part(email));
}
