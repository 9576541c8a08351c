/** Mailbox/get and Mailbox/query (RFC 8621 2). */
import type { Mailbox } from './email-index.ts';
import { type Arguments, flagIn, idsIn, integerIn, objectIn, onlyKnown, textsIn } from './jmap-arguments.ts';
import { invalid, MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import type { JmapContext } from './jmap-methods.ts';

const properties = [
  'id',
  'name',
  'parentId',
  'role',
  'sortOrder',
  'totalEmails',
  'unreadEmails',
  'totalThreads',
  'unreadThreads',
  'myRights',
  'isSubscribed',
] as const;

type Property = (typeof properties)[number];

/** Everything is read-only until Email/set and Mailbox/set are there. */
const rights = {
  mayReadItems: true,
  mayAddItems: false,
  mayRemoveItems: false,
  maySetSeen: false,
  maySetKeywords: false,
  mayCreateChild: false,
  mayRename: false,
  mayDelete: false,
  maySubmit: false,
};

export async function mailboxGet(args: Arguments, context: JmapContext): Promise<Arguments> {
  onlyKnown(args, ['accountId', 'ids', 'properties']);
  const ids = idsIn(args, 'ids');
  if (ids !== undefined && ids.length > jmapLimits.maxObjectsInGet) {
    throw new MethodError('requestTooLarge', 'too many ids');
  }
  const wanted = wantedProperties(args);
  const mailboxes = await context.index.mailboxes();
  const idOf = idsByName(mailboxes);
  const byId = new Map(mailboxes.map((mailbox) => [mailbox.id, mailbox]));
  const list: Arguments[] = [];
  const notFound: string[] = [];
  for (const id of ids ?? byId.keys()) {
    const mailbox = byId.get(id);
    if (mailbox === undefined) notFound.push(id);
    else list.push(shown(mailbox, idOf, wanted));
  }
  return { accountId: context.accountId, state: context.index.state, list, notFound };
}

function wantedProperties(args: Arguments): readonly Property[] {
  const names = textsIn(args, 'properties');
  if (names === undefined) return properties;
  for (const name of names) {
    if (!(properties as readonly string[]).includes(name)) throw invalid('a mailbox has no such property');
  }
  return properties.filter((name) => name === 'id' || names.includes(name));
}

function shown(mailbox: Mailbox, idOf: ReadonlyMap<string, string>, wanted: readonly Property[]): Arguments {
  const { info, folder } = mailbox;
  const slash = info.name.lastIndexOf('/');
  const total = folder?.count ?? 0;
  const unread = folder?.unseenCount ?? 0;
  const all: Record<Property, unknown> = {
    id: mailbox.id,
    name: slash < 0 ? info.name : info.name.slice(slash + 1),
    parentId: slash < 0 ? null : (idOf.get(info.name.slice(0, slash)) ?? null),
    role: roleOf(mailbox),
    sortOrder: info.name === 'INBOX' ? 0 : 10,
    totalEmails: total,
    unreadEmails: unread,
    totalThreads: total,
    unreadThreads: unread,
    myRights: rights,
    isSubscribed: info.subscribed,
  };
  return Object.fromEntries(wanted.map((name) => [name, all[name]]));
}

function roleOf({ info }: Mailbox): string | null {
  return info.name === 'INBOX' ? 'inbox' : (info.specialUse ?? null);
}

function idsByName(mailboxes: readonly Mailbox[]): Map<string, string> {
  return new Map(mailboxes.map(({ info, id }) => [info.name, id]));
}

/** Filter conditions `parentId`, `name`, `role`, `hasAnyRole`, `isSubscribed`; sorted by `name` or `sortOrder`. */
export async function mailboxQuery(args: Arguments, context: JmapContext): Promise<Arguments> {
  onlyKnown(args, [
    'accountId',
    'filter',
    'sort',
    'position',
    'limit',
    'calculateTotal',
    'sortAsTree',
    'filterAsTree',
  ]);
  const filter = objectIn(args, 'filter') ?? {};
  const mailboxes = await context.index.mailboxes();
  const idOf = idsByName(mailboxes);
  const parentOf = ({ info }: Mailbox): string | null => {
    const slash = info.name.lastIndexOf('/');
    return slash < 0 ? null : (idOf.get(info.name.slice(0, slash)) ?? null);
  };
  const conditions = Object.entries(filter).map(([name, value]): ((mailbox: Mailbox) => boolean) => {
    switch (name) {
      case 'parentId':
        return (mailbox) => parentOf(mailbox) === value;
      case 'name':
        if (typeof value !== 'string') throw invalid('name is not a text');
        return ({ info }) => info.name.toLowerCase().includes(value.toLowerCase());
      case 'role':
        return (mailbox) => roleOf(mailbox) === value;
      case 'hasAnyRole':
        return (mailbox) => (roleOf(mailbox) !== null) === value;
      case 'isSubscribed':
        return ({ info }) => info.subscribed === value;
      default:
        throw new MethodError('unsupportedFilter', 'this filter is not known here');
    }
  });
  const found = mailboxes.filter((mailbox) => conditions.every((holds) => holds(mailbox)));
  found.sort(comparator(args));
  const position = integerIn(args, 'position', Number.MIN_SAFE_INTEGER) ?? 0;
  const start = position < 0 ? Math.max(0, found.length + position) : position;
  const limit = integerIn(args, 'limit', 0) ?? found.length;
  const answer: Arguments = {
    accountId: context.accountId,
    queryState: context.index.state,
    canCalculateChanges: false,
    position: start,
    ids: found.slice(start, start + limit).map(({ id }) => id),
  };
  return flagIn(args, 'calculateTotal') ? { ...answer, total: found.length } : answer;
}

function comparator(args: Arguments): (a: Mailbox, b: Mailbox) => number {
  const { sort = null } = args;
  if (sort === null) return () => 0;
  if (!Array.isArray(sort) || sort.length > 5) throw invalid('sort is not an array of comparators');
  const steps = (sort as unknown[]).map((step) => {
    const { property, isAscending = true } = (step ?? {}) as Arguments;
    if (property !== 'name' && property !== 'sortOrder') {
      throw new MethodError('unsupportedSort', 'mailboxes are sorted by name or sortOrder');
    }
    const sign = isAscending === false ? -1 : 1;
    return (a: Mailbox, b: Mailbox): number =>
      property === 'name'
        ? sign * a.info.name.localeCompare(b.info.name)
        : sign * (Number(a.info.name !== 'INBOX') - Number(b.info.name !== 'INBOX'));
  });
  return (a, b) => {
    for (const step of steps) {
      const order = step(a, b);
      if (order !== 0) return order;
    }
    return 0;
  };
}
