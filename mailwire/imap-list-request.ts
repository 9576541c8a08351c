/** Arguments of LIST in its plain and extended forms (RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154), and of STATUS. */
import { Fault } from '../base/fault.ts';
import type { ImapCursor } from './imap-tokens.ts';

export const statusItems = [
  'MESSAGES',
  'RECENT',
  'UIDNEXT',
  'UIDVALIDITY',
  'UNSEEN',
  'DELETED',
  'SIZE',
  'HIGHESTMODSEQ',
  'MAILBOXID',
  'APPENDLIMIT',
  'DELETED-STORAGE',
] as const;
export type StatusItem = (typeof statusItems)[number];

export interface ListRequest {
  /** Selection options: what is listed. */
  readonly select: {
    readonly subscribed: boolean;
    readonly recursive: boolean;
    readonly specialUse: boolean;
  };
  /** Latin-1, as sent. */
  readonly reference: string;
  readonly patterns: readonly string[];
  /** Return options: what is told of each. */
  readonly tell: {
    readonly subscribed: boolean;
    readonly children: boolean;
    readonly specialUse: boolean;
    readonly status: readonly StatusItem[];
  };
  /** Some extended syntax was used. */
  readonly extended: boolean;
}

const patternsMax = 50;

/** @throws {Fault} `bad-syntax`, `limit-reached` */
export function parseListRequest(cursor: ImapCursor): ListRequest {
  const select = { subscribed: false, recursive: false, specialUse: false };
  const tell = { subscribed: false, children: false, specialUse: false, status: [] as readonly StatusItem[] };
  let extended = false;
  if (cursor.isAt('(')) {
    extended = true;
    for (const option of options(cursor)) {
      if (option === 'SUBSCRIBED') select.subscribed = true;
      else if (option === 'RECURSIVEMATCH') select.recursive = true;
      else if (option === 'SPECIAL-USE') select.specialUse = true;
      else if (option !== 'REMOTE') throw new Fault('bad-syntax', 'Unknown LIST selection option');
    }
    // RFC 5258 3 and 6: RECURSIVEMATCH goes with a base option, and SUBSCRIBED is the only one; REMOTE and SPECIAL-USE are none.
    if (select.recursive && !select.subscribed) {
      throw new Fault('bad-syntax', 'RECURSIVEMATCH needs another selection option');
    }
    cursor.space();
  }
  const reference = cursor.astring();
  cursor.space();
  const patterns: string[] = [];
  if (cursor.takeIf('(')) {
    extended = true;
    do {
      patterns.push(cursor.listMailbox());
      if (patterns.length > patternsMax) throw new Fault('limit-reached', 'Too many patterns');
    } while (cursor.takeIf(' '));
    cursor.expect(')');
  } else patterns.push(cursor.listMailbox());
  if (cursor.takeIf(' ')) {
    extended = true;
    if (cursor.keyword() !== 'RETURN') throw new Fault('bad-syntax', 'Unknown LIST argument');
    cursor.space();
    tell.status = returnOptions(cursor, tell);
  }
  cursor.end();
  if (select.subscribed) tell.subscribed = true;
  if (select.specialUse) tell.specialUse = true;
  return { select, reference, patterns, tell, extended };
}

function returnOptions(
  cursor: ImapCursor,
  tell: { subscribed: boolean; children: boolean; specialUse: boolean },
): readonly StatusItem[] {
  let status: readonly StatusItem[] = [];
  cursor.expect('(');
  if (cursor.takeIf(')')) return status;
  do {
    const option = cursor.keyword();
    if (option === 'SUBSCRIBED') tell.subscribed = true;
    else if (option === 'CHILDREN') tell.children = true;
    else if (option === 'SPECIAL-USE') tell.specialUse = true;
    else if (option === 'STATUS') {
      cursor.space();
      status = parseStatusItems(cursor);
    } else throw new Fault('bad-syntax', 'Unknown LIST return option');
  } while (cursor.takeIf(' '));
  cursor.expect(')');
  return status;
}

function options(cursor: ImapCursor): string[] {
  const found: string[] = [];
  cursor.expect('(');
  if (cursor.takeIf(')')) return found;
  do found.push(cursor.keyword());
  while (cursor.takeIf(' '));
  cursor.expect(')');
  return found;
}

/** `(MESSAGES UNSEEN)`. @throws {Fault} `bad-syntax` */
export function parseStatusItems(cursor: ImapCursor): StatusItem[] {
  const items = new Set<StatusItem>();
  cursor.expect('(');
  do {
    const name = cursor.keyword();
    const item = statusItems.find((known) => known === name);
    if (item === undefined) throw new Fault('bad-syntax', 'Unknown STATUS item');
    items.add(item);
  } while (cursor.takeIf(' '));
  cursor.expect(')');
  return [...items];
}
