/** Commands about mailboxes and their names (RFC 9051 6.3.4-6.3.10; LSUB of RFC 3501 6.3.9). */
import { Fault } from '../../../base/fault.ts';
import { type ListRequest, parseListRequest } from '../../../mailwire/imap-list-request.ts';
import { mailboxSeparator } from '../../../mailwire/imap-mailbox-name.ts';
import { imapAstring } from '../../../mailwire/imap-reply.ts';
import { utf8 as utf8Text } from '../../../mailwire/imap-tokens.ts';
import { decodeModifiedUtf7 } from '../../../mailwire/modified-utf7.ts';
import type { FolderInfo, SpecialUse } from '../../store/store.ts';
import type { ImapSession } from './imap-session.ts';
import { matchesPattern, type Pattern, preparePattern } from './list-pattern.ts';
import { tellStatus } from './select-commands.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';

const specialUses: Readonly<Record<string, SpecialUse>> = {
  '\\ALL': 'all',
  '\\ARCHIVE': 'archive',
  '\\DRAFTS': 'drafts',
  '\\FLAGGED': 'flagged',
  '\\JUNK': 'junk',
  '\\SENT': 'sent',
  '\\TRASH': 'trash',
  '\\IMPORTANT': 'important',
};

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

/** CREATE, with the USE parameter of RFC 6154 3. */
export async function createFolder(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  let written = cursor.astring();
  let use: SpecialUse | undefined;
  if (cursor.takeIf(' ')) {
    cursor.expect('(');
    if (cursor.keyword() !== 'USE') return 'BAD Unknown CREATE parameter';
    cursor.space();
    const uses = cursor.flagList();
    cursor.expect(')');
    if (uses.length > 1) return 'NO [USEATTR] One special use at a time';
    use = uses[0] === undefined ? undefined : specialUses[uses[0].toUpperCase()];
    if (uses.length === 1 && use === undefined) return 'NO [USEATTR] Unknown special use';
  }
  cursor.end();
  // RFC 9051 6.3.4: a separator at the end only says that children will follow.
  if (written.length > 1 && written.endsWith(mailboxSeparator)) written = written.slice(0, -1);
  const name = session.nameFrom(written);
  if (name === 'INBOX') throw new Fault('already-exists', 'INBOX exists always');
  const folder = await session.account.store.createFolder(name, use);
  if (session.rev2 && name !== utf8Text(written)) {
    // RFC 9051 6.3.4: the name is not spelled as it was asked for (INBOX in other letters).
    session.untagged(
      `* LIST () "${mailboxSeparator}" ${session.nameFor(name)} ("OLDNAME" (${imapAstring(written, true)}))`,
    );
  }
  return `OK [MAILBOXID (${folder.mailboxId})] CREATE completed`;
}

export async function deleteFolder(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const name = session.nameFrom(cursor.astring());
  cursor.end();
  if (name === 'INBOX') throw new Fault('not-allowed', 'INBOX cannot be deleted');
  // A session's own mailbox: it is left first, the other sessions in it are told BYE.
  if (session.view?.folder.name === name) session.unselect();
  await session.account.store.deleteFolder(name);
  return 'OK DELETE completed';
}

export async function renameFolder(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const from = session.nameFrom(cursor.astring());
  cursor.space();
  const to = session.nameFrom(cursor.astring());
  cursor.end();
  if (to === from || to.startsWith(`${from}${mailboxSeparator}`)) {
    if (from !== 'INBOX' || to === from) throw new Fault('not-allowed', 'A mailbox cannot move into itself');
  }
  await session.account.store.renameFolder(from, to);
  if (session.rev2) {
    session.untagged(
      `* LIST () "${mailboxSeparator}" ${session.nameFor(to)} ("OLDNAME" (${session.nameFor(from)}))`,
    );
  }
  return 'OK RENAME completed';
}

export async function subscribe(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const name = session.nameFrom(cursor.astring());
  cursor.end();
  await session.account.store.setSubscribed(name, true);
  return 'OK SUBSCRIBE completed';
}

export async function unsubscribe(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const name = session.nameFrom(cursor.astring());
  cursor.end();
  await session.account.store.setSubscribed(name, false);
  return 'OK UNSUBSCRIBE completed';
}

/** RFC 2342: one personal namespace. */
export function namespaces(session: ImapSession, { cursor }: CommandCall): string {
  cursor.end();
  session.untagged(`* NAMESPACE (("" "${mailboxSeparator}")) NIL NIL`);
  return 'OK NAMESPACE completed';
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
  const folders = session.account.store.listFolders();
  const slice = new Slice();
  for (let at = 0; at < folders.length; at++) {
    const folder = folders[at]!;
    if (!patterns.some((pattern) => matchesPattern(pattern, folder.name))) continue;
    const attributes = attributesOf(folders, at, request);
    if (attributes === undefined) continue;
    const { words, childInfo } = attributes;
    session.untagged(
      `* LIST (${words.join(' ')}) "${mailboxSeparator}" ${session.nameFor(folder.name)}${childInfo}`,
    );
    if (request.tell.status.length > 0 && folder.selectable) {
      try {
        await tellStatus(session, folder.name, request.tell.status);
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

/** Attributes of a folder that is selected by the request; `undefined`: not selected. Children stand right after it. */
function attributesOf(
  folders: readonly FolderInfo[],
  at: number,
  { select, tell, extended }: ListRequest,
): { words: string[]; childInfo: string } | undefined {
  const folder = folders[at]!;
  const prefix = `${folder.name}${mailboxSeparator}`;
  let hasChildren = false;
  let subscribedBelow = false;
  const wantBelow = select.recursive && select.subscribed;
  for (let next = at + 1; next < folders.length && folders[next]!.name.startsWith(prefix); next++) {
    hasChildren = true;
    subscribedBelow ||= folders[next]!.subscribed;
    if (!wantBelow || subscribedBelow) break;
  }
  const chosen =
    (!select.subscribed || folder.subscribed) && (!select.specialUse || folder.specialUse !== undefined);
  const forBelow = !chosen && wantBelow && subscribedBelow;
  if (!chosen && !forBelow) return undefined;
  const words: string[] = [];
  if (!folder.selectable) words.push(extended ? '\\NonExistent' : '\\Noselect');
  if (tell.subscribed && folder.subscribed) words.push('\\Subscribed');
  words.push(hasChildren ? '\\HasChildren' : '\\HasNoChildren');
  if (folder.specialUse !== undefined) words.push(useAttributes[folder.specialUse]);
  return { words, childInfo: wantBelow && subscribedBelow ? ' ("CHILDINFO" ("SUBSCRIBED"))' : '' };
}

/** LSUB: as LIST of subscribed names; a level above one that matches `%` is told as `\Noselect` (RFC 3501 6.3.9). */
export function listSubscribed(session: ImapSession, { cursor }: CommandCall): string {
  cursor.space();
  const reference = cursor.astring();
  cursor.space();
  const patterns = patternsOf(session, reference, [cursor.listMailbox()]);
  cursor.end();
  const told = new Set<string>();
  const folders = session.account.store.listFolders();
  const subscribed = folders.filter((folder) => folder.subscribed);
  const names = new Set(subscribed.map((folder) => folder.name));
  for (const folder of subscribed) {
    const levels = folder.name.split(mailboxSeparator);
    for (let count = 1; count <= levels.length; count++) {
      const name = levels.slice(0, count).join(mailboxSeparator);
      const whole = count === levels.length;
      if (told.has(name) || (!whole && (names.has(name) || !patterns[0]!.hasPercent))) continue;
      if (!patterns.some((pattern) => matchesPattern(pattern, name))) continue;
      told.add(name);
      const words = whole && folder.selectable ? '' : '\\Noselect';
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
