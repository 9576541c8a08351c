/**
 * LIST in its plain and extended forms (RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154) and LSUB (RFC 3501 6.3.9).
 * What is told of a mailbox above subscribed ones is worked out once for the whole listing.
 */
import { Fault } from '../../../base/fault.ts';
import { type ListRequest, parseListRequest } from '../../../mailwire/imap-list-request.ts';
import { mailboxSeparator } from '../../../mailwire/imap-mailbox-name.ts';
import { decodeModifiedUtf7 } from '../../../mailwire/modified-utf7.ts';
import type { FolderInfo, SpecialUse, Store } from '../../store/store.ts';
import type { ImapSession } from './imap-session.ts';
import { matchesPattern, type Pattern, preparePattern } from './list-pattern.ts';
import { tellStatus } from './select-commands.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';

const useAttributes: Readonly<Record<SpecialUse, string>> = {
  all: '\\All',
  archive: '\\Archive',
  drafts: '\\Drafts',
  flagged: '\\Flagged',
  junk: '\\Junk',
  sent: '\\Sent',
  trash: '\\Trash',
  important: '\\Important',
};

/** A name that is listed. */
interface Named extends FolderInfo {
  /** There is no such mailbox and nothing below it: only a subscription names it. */
  readonly missing: boolean;
}

export async function listFolders(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const request = parseListRequest(cursor);
  // RFC 9051 6.3.9: an empty pattern asks for the separator.
  if (!request.extended && request.patterns[0] === '') {
    session.untagged(`* LIST (\\Noselect) "${mailboxSeparator}" ""`);
    return 'OK LIST completed';
  }
  const patterns = patternsOf(session, request.reference, request.patterns);
  if (request.tell.status.includes('HIGHESTMODSEQ')) session.enableCondstore();
  const { store } = session.account;
  const names = namesOf(store, request.select.subscribed);
  const below = request.select.recursive ? subscribedBelow(store.subscribed, patterns) : noneBelow;
  const slice = new Slice();
  for (let at = 0; at < names.length; at++) {
    const named = names[at]!;
    if (!patterns.some((pattern) => matchesPattern(pattern, named.name))) continue;
    const attributes = attributesOf(names, at, request, below);
    if (attributes === undefined) continue;
    const { words, childInfo } = attributes;
    session.untagged(
      `* LIST (${words.join(' ')}) "${mailboxSeparator}" ${session.nameFor(named.name)}${childInfo}`,
    );
    if (request.tell.status.length > 0 && named.selectable) {
      try {
        await tellStatus(session, named.name, request.tell.status);
      } catch (error) {
        // RFC 5819 2: a mailbox that went meanwhile has no STATUS.
        if (!(error instanceof Fault) || error.code !== 'no-such-folder') throw error;
      }
    }
    const rest = slice.used();
    if (rest !== undefined) await rest;
  }
  return 'OK LIST completed';
}

/** Mailboxes and levels above them; with `missing`, subscribed names without a mailbox too (RFC 5258 3), and their levels. */
function namesOf(store: Store, missing: boolean): Named[] {
  const names = store.listFolders().map((folder): Named => ({ ...folder, missing: false }));
  if (!missing) return names;
  const known = new Set(names.map((named) => named.name));
  let added = false;
  for (const subscribed of store.subscribed) {
    const levels = subscribed.split(mailboxSeparator);
    for (let count = levels.length; count > 0; count--) {
      const name = levels.slice(0, count).join(mailboxSeparator);
      if (known.has(name)) break;
      known.add(name);
      added = true;
      names.push({
        name,
        specialUse: undefined,
        subscribed: store.subscribed.has(name),
        selectable: false,
        missing: true,
      });
    }
  }
  return added ? names.sort((a, b) => (orderOf(a.name) < orderOf(b.name) ? -1 : 1)) : names;
}

/** Children stand right after their parent, INBOX first. */
function orderOf(name: string): string {
  return name === 'INBOX' ? '' : name.replaceAll(mailboxSeparator, '\u0000');
}

interface Below {
  /** Names with a subscribed one below them. */
  readonly any: ReadonlySet<string>;
  /** The same, where one of those below is not told itself, because it matches no pattern. */
  readonly untold: ReadonlySet<string>;
}

const noneBelow: Below = { any: new Set(), untold: new Set() };

function subscribedBelow(subscribed: ReadonlySet<string>, patterns: readonly Pattern[]): Below {
  const any = new Set<string>();
  const untold = new Set<string>();
  for (const name of subscribed) {
    const told = patterns.some((pattern) => matchesPattern(pattern, name));
    for (let end = name.lastIndexOf(mailboxSeparator); end > 0; ) {
      const parent = name.slice(0, end);
      any.add(parent);
      if (!told) untold.add(parent);
      end = name.lastIndexOf(mailboxSeparator, end - 1);
    }
  }
  return { any, untold };
}

/** What is told of a name, `undefined` when the request does not select it. */
function attributesOf(
  names: readonly Named[],
  at: number,
  { select, tell }: ListRequest,
  below: Below,
): { words: string[]; childInfo: string } | undefined {
  const named = names[at]!;
  const chosen =
    (!select.subscribed || named.subscribed) && (!select.specialUse || named.specialUse !== undefined);
  // RFC 5258 3.5: told for those below alone only where one of them is not told itself.
  if (!chosen && !below.untold.has(named.name)) return undefined;
  const words: string[] = [];
  // RFC 9051 7.3.1: \NonExistent where only the selection asks for the name; a level above mailboxes is \Noselect.
  if (!named.selectable) words.push(named.missing || select.subscribed ? '\\NonExistent' : '\\Noselect');
  if (tell.subscribed && named.subscribed) words.push('\\Subscribed');
  words.push(hasChildren(names, at) ? '\\HasChildren' : '\\HasNoChildren');
  if (named.specialUse !== undefined) words.push(useAttributes[named.specialUse]);
  return { words, childInfo: below.any.has(named.name) ? ' ("CHILDINFO" ("SUBSCRIBED"))' : '' };
}

function hasChildren(names: readonly Named[], at: number): boolean {
  const prefix = `${names[at]!.name}${mailboxSeparator}`;
  for (let next = at + 1; names[next]?.name.startsWith(prefix); next++) {
    if (!names[next]!.missing) return true;
  }
  return false;
}

/**
 * LSUB: names subscribed to, whether there is such a mailbox or not; a level above one that matches `%` is told as
 * `\Noselect` (RFC 3501 6.3.9).
 */
export function listSubscribed(session: ImapSession, { cursor }: CommandCall): string {
  cursor.space();
  const reference = cursor.astring();
  cursor.space();
  const written = cursor.listMailbox();
  cursor.end();
  const [pattern] = patternsOf(session, reference, [written]);
  const told = new Set<string>();
  for (const { name: whole, selectable } of namesOf(session.account.store, true).filter(
    (named) => named.subscribed,
  )) {
    const levels = whole.split(mailboxSeparator);
    for (let count = 1; count <= levels.length; count++) {
      const name = levels.slice(0, count).join(mailboxSeparator);
      const isWhole = count === levels.length;
      if (told.has(name)) continue;
      if (!isWhole && (session.account.store.subscribed.has(name) || !pattern!.hasPercent)) continue;
      if (!matchesPattern(pattern!, name)) continue;
      told.add(name);
      const words = isWhole && selectable ? '' : '\\Noselect';
      session.untagged(`* LSUB (${words}) "${mailboxSeparator}" ${session.nameFor(name)}`);
    }
  }
  return 'OK LSUB completed';
}

function patternsOf(session: ImapSession, reference: string, written: readonly string[]): Pattern[] {
  return written.map((pattern) => preparePattern(patternText(session, reference + pattern)));
}

/** A pattern as Unicode; one that no name can be spelled like matches nothing rather than being an error. */
function patternText(session: ImapSession, latin1: string): string {
  if (latin1.length > 1000) throw new Fault('limit-reached', 'Pattern is too long');
  if (session.utf8 || /[\u0080-\u00ff]/.test(latin1)) return Buffer.from(latin1, 'latin1').toString('utf8');
  return decodeModifiedUtf7(latin1) ?? '\u0000';
}
