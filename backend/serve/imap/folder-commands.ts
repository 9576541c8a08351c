/** Commands that make, name and subscribe to mailboxes (RFC 9051 6.3.4-6.3.8, 6.3.10); LIST is in `list-commands.ts`. */
import { Fault } from '../../../base/fault.ts';
import { mailboxSeparator } from '../../../mailwire/imap-mailbox-name.ts';
import { imapAstring } from '../../../mailwire/imap-reply.ts';
import { utf8 as utf8Text } from '../../../mailwire/imap-tokens.ts';
import type { SpecialUse } from '../../store/store.ts';
import type { ImapSession } from './imap-session.ts';
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
  const { store } = session.account;
  const folder =
    session.done() === undefined
      ? await store.createFolder(name, use, session.operation)
      : await store.folder(name);
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
  if (session.done() === undefined) await session.account.store.deleteFolder(name, session.operation);
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
  if (session.done() === undefined) await session.account.store.renameFolder(from, to, session.operation);
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
