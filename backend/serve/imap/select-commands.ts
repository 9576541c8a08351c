/** Commands that choose the mailbox a session works in, and STATUS (RFC 9051 6.3.2, 6.3.3, 6.3.11, 6.4.1, 6.4.2). */
import { Fault } from '../../../base/fault.ts';
import { parseStatusItems, type StatusItem } from '../../../mailwire/imap-list-request.ts';
import { mailboxSeparator } from '../../../mailwire/imap-mailbox-name.ts';
import { parseSelectParameters } from '../../../mailwire/imap-select-parameters.ts';
import { type Folder, flagBit, type Store } from '../../store/store.ts';
import { freshFolder } from '../fresh-folder.ts';
import type { ImapSession } from './imap-session.ts';
import { lowerBound, type MailboxView } from './mailbox-view.ts';
import { untoldFrom } from './recent.ts';
import { modseqCode, tellChangesSince } from './resync.ts';
import type { CommandCall } from './session-options.ts';

export function select(session: ImapSession, call: CommandCall): Promise<string> {
  return open(session, call, false);
}

export function examine(session: ImapSession, call: CommandCall): Promise<string> {
  return open(session, call, true);
}

async function open(session: ImapSession, { cursor, name }: CommandCall, readOnly: boolean): Promise<string> {
  cursor.space();
  const wanted = cursor.astring();
  const { condstore, resync } = parseSelectParameters(cursor);
  if (resync !== undefined && !session.qresync) return 'BAD QRESYNC is not enabled';
  // RFC 9051 6.3.2: the mailbox that was selected is left even when the new one cannot be opened.
  const before = session.view !== undefined;
  session.unselect();
  if (before) session.untagged('* OK [CLOSED] Previous mailbox is closed');
  const folder = await session.account.store.folder(session.nameFrom(wanted));
  await freshFolder(folder);
  const view = session.select(folder, readOnly);
  session.announceFlags(view);
  if (readOnly) session.untagged('* OK [PERMANENTFLAGS ()] No flags can be changed');
  session.untagged(`* ${view.count} EXISTS`);
  if (session.rev2) session.untagged(`* LIST () "${mailboxSeparator}" ${session.nameFor(folder.name)}`);
  else session.untagged(`* ${view.recentCount} RECENT`);
  const unseen = session.rev2 ? 0 : firstUnseen(view);
  if (unseen > 0) session.untagged(`* OK [UNSEEN ${unseen}] First unseen`);
  session.untagged(`* OK [UIDVALIDITY ${folder.uidValidity}] UIDs are valid`);
  session.untagged(`* OK [UIDNEXT ${folder.uidNext}] Predicted next UID`);
  if (condstore) session.condstore = true;
  session.untagged(`* OK [HIGHESTMODSEQ ${folder.highestModseq}] Highest`);
  session.untagged(`* OK [MAILBOXID (${folder.mailboxId})] Mailbox id`);
  if (resync !== undefined && resync.uidValidity === folder.uidValidity) {
    await tellChangesSince(session, view, resync);
  }
  return `OK [${readOnly ? 'READ-ONLY' : 'READ-WRITE'}] ${name} completed`;
}

/** Messages looked at for the UNSEEN code: a client that needs more searches (RFC 9051 dropped the code). */
const unseenLookMax = 5000;

function firstUnseen(view: MailboxView): number {
  if (view.folder.unseenCount === 0) return 0;
  const stop = Math.min(view.count, unseenLookMax);
  for (let at = 0; at < stop; at++) {
    const flags = view.folder.flagsOf(view.uids[at]!);
    if (flags !== undefined && (flags & flagBit.seen) === 0) return at + 1;
  }
  return 0;
}

/** RFC 3501 6.4.1: a point at which all is on disk; here it always is. */
export function check(session: ImapSession, { cursor }: CommandCall): string | Promise<string> {
  cursor.end();
  const refreshed = session.refresh();
  return refreshed === undefined ? 'OK CHECK completed' : refreshed.then(() => 'OK CHECK completed');
}

/** RFC 9051 6.4.1: removes what is marked deleted without a word, then leaves. */
export async function closeFolder(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.end();
  const view = session.view;
  let code = '';
  if (view !== undefined && !view.gone && !view.readOnly) {
    const uids = session.done() === undefined ? deletedUids(view) : [];
    if (uids.length > 0) {
      await view.folder.expunge(uids, true, session.operation);
      code = modseqCode(session, view);
    }
  }
  session.unselect();
  return `OK ${code}CLOSE completed`;
}

export function unselect(session: ImapSession, { cursor }: CommandCall): string {
  cursor.end();
  session.unselect();
  return 'OK UNSELECT completed';
}

/** UIDs of the view that are marked deleted. */
export function deletedUids(view: MailboxView): number[] {
  const found: number[] = [];
  for (const uid of view.uids) {
    const flags = view.folder.flagsOf(uid);
    if (flags !== undefined && (flags & flagBit.deleted) !== 0) found.push(uid);
  }
  return found;
}

export async function status(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const name = session.nameFrom(cursor.astring());
  cursor.space();
  const items = parseStatusItems(cursor);
  cursor.end();
  if (items.includes('HIGHESTMODSEQ')) session.enableCondstore();
  await tellStatus(session, name, items);
  return 'OK STATUS completed';
}

/** Writes the STATUS answer of a folder. @throws {Fault} `no-such-folder` */
export async function tellStatus(
  session: ImapSession,
  name: string,
  items: readonly StatusItem[],
): Promise<void> {
  const info = session.account.store.listFolders().find((folder) => folder.name === name);
  if (info !== undefined && !info.selectable) throw new Fault('no-such-folder', 'Mailbox cannot be selected');
  const folder = await session.account.store.folder(name);
  await folder.refresh();
  const { limits } = session.account.store;
  const values = items.map((item) => {
    return `${item} ${item === 'RECENT' ? recentIn(session, folder) : statusValue(folder, item, limits)}`;
  });
  session.untagged(`* STATUS ${session.nameFor(name)} (${values.join(' ')})`);
}

/** In the selected mailbox those of the session, elsewhere those nobody was told of (RFC 3501 6.3.10). */
function recentIn(session: ImapSession, folder: Folder): number {
  if (session.view?.folder === folder) return session.view.recentCount;
  const uids = folder.uids();
  return uids.length - lowerBound(uids, untoldFrom(folder));
}

function statusValue(
  folder: Folder,
  item: Exclude<StatusItem, 'RECENT'>,
  limits: Store['limits'],
): number | string {
  switch (item) {
    case 'MESSAGES':
      return folder.count;
    case 'UIDNEXT':
      return folder.uidNext;
    case 'UIDVALIDITY':
      return folder.uidValidity;
    case 'UNSEEN':
      return folder.unseenCount;
    case 'SIZE':
      return folder.sizeBytes;
    case 'HIGHESTMODSEQ':
      return folder.highestModseq;
    case 'MAILBOXID':
      return `(${folder.mailboxId})`;
    case 'APPENDLIMIT':
      return limits.messageBytesMax;
    case 'DELETED':
    case 'DELETED-STORAGE': {
      let count = 0;
      let bytes = 0;
      for (const uid of folder.uids()) {
        if (((folder.flagsOf(uid) ?? 0) & flagBit.deleted) === 0) continue;
        count++;
        if (item === 'DELETED-STORAGE') bytes += folder.facts(uid)?.size ?? 0;
      }
      return item === 'DELETED' ? count : bytes;
    }
  }
}
