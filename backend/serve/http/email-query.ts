/** Email/query (RFC 8621 4.4): by mailbox, date, size and keyword; sorted by arrival or size. */
import { emailFilter } from './email-filter.ts';
import { type Location, Slices } from './email-index.ts';
import { type Arguments, flagIn, integerIn, onlyKnown, textIn } from './jmap-arguments.ts';
import { invalid, MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import type { JmapContext } from './jmap-methods.ts';

export const emailSortOptions = ['receivedAt', 'size'] as const;

interface Found {
  readonly id: string;
  readonly receivedAt: number;
  readonly size: number;
}

export async function emailQuery(args: Arguments, context: JmapContext): Promise<Arguments> {
  onlyKnown(args, [
    'accountId',
    'filter',
    'sort',
    'position',
    'anchor',
    'anchorOffset',
    'limit',
    'calculateTotal',
    'collapseThreads',
  ]);
  // Every email is a thread of its own: there is nothing to collapse.
  flagIn(args, 'collapseThreads');
  const order = comparator(args);
  const filter = emailFilter(args);
  const { index, accountId } = context;
  await index.update();
  const state = index.state;
  const found = await matching(context, filter.within, filter.matches);
  found.sort(order);
  const start = startOf(args, found);
  const asked = integerIn(args, 'limit', 0);
  const limit = Math.min(asked ?? jmapLimits.queryIdsMax, jmapLimits.queryIdsMax);
  const answer: Arguments = {
    accountId,
    queryState: state,
    canCalculateChanges: false,
    position: start,
    ids: found.slice(start, start + limit).map(({ id }) => id),
  };
  if (flagIn(args, 'calculateTotal')) answer.total = found.length;
  if (asked === undefined || asked > limit) answer.limit = limit;
  return answer;
}

async function matching(
  { index }: JmapContext,
  within: string | undefined,
  matches: (locations: readonly Location[]) => boolean,
): Promise<Found[]> {
  const slices = new Slices();
  const found: Found[] = [];
  const seen = new Set<string>();
  for (const { folder } of await index.mailboxes()) {
    if (folder === undefined || (within !== undefined && folder.mailboxId !== within)) continue;
    for (const uid of folder.uids()) {
      await slices.step();
      const facts = folder.facts(uid);
      if (facts === undefined || seen.has(facts.emailId)) continue;
      const everywhere = index.locate(facts.emailId);
      const locations = everywhere.length === 0 ? [{ folder, facts }] : everywhere;
      if (!matches(locations)) continue;
      seen.add(facts.emailId);
      found.push({ id: facts.emailId, receivedAt: facts.internalDateMs, size: facts.size });
    }
  }
  return found;
}

/** RFC 8620 5.5: an anchor wins over a position; a negative position counts from the end. */
function startOf(args: Arguments, found: readonly Found[]): number {
  const position = integerIn(args, 'position', Number.MIN_SAFE_INTEGER) ?? 0;
  const offset = integerIn(args, 'anchorOffset', Number.MIN_SAFE_INTEGER) ?? 0;
  const anchor = textIn(args, 'anchor');
  if (anchor === undefined) return position < 0 ? Math.max(0, found.length + position) : position;
  const at = found.findIndex(({ id }) => id === anchor);
  if (at < 0) throw new MethodError('anchorNotFound', 'the anchor is not among the results');
  return Math.max(0, at + offset);
}

function comparator(args: Arguments): (a: Found, b: Found) => number {
  const { sort } = args;
  if (sort === undefined || sort === null || (Array.isArray(sort) && sort.length === 0)) {
    return (a, b) => b.receivedAt - a.receivedAt || compareIds(a, b);
  }
  if (!Array.isArray(sort) || sort.length > 5) throw invalid('sort is not an array of comparators');
  const steps = (sort as unknown[]).map((step) => {
    if (typeof step !== 'object' || step === null) throw invalid('a comparator is not an object');
    const { property, isAscending = true } = step as Arguments;
    if (typeof isAscending !== 'boolean') throw invalid('isAscending is not true or false');
    if (property !== 'receivedAt' && property !== 'size') {
      throw new MethodError('unsupportedSort', 'emails are sorted by receivedAt or size');
    }
    return { property, sign: isAscending ? 1 : -1 } as const;
  });
  return (a, b) => {
    for (const { property, sign } of steps) {
      const order = sign * (a[property] - b[property]);
      if (order !== 0) return order;
    }
    return compareIds(a, b);
  };
}

function compareIds(a: Found, b: Found): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}
