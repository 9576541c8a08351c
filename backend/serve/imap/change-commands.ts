/** Commands that change messages: STORE, COPY, MOVE, EXPUNGE (RFC 9051 6.4.3, 6.4.6-6.4.9). */
import { Fault } from '../../../base/fault.ts';
import { imapNumberSet } from '../../../mailwire/imap-reply.ts';
import type { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { OperationResult } from '../../store/operations.ts';
import type { Folder } from '../../store/store.ts';
import { uidsIn } from '../../store/uid-set.ts';
import { answerTryCreate } from './answers.ts';
import { parseFlags } from './flags.ts';
import type { ImapSession } from './imap-session.ts';
import type { MailboxView } from './mailbox-view.ts';
import { modseqCode } from './resync.ts';
import { deletedUids } from './select-commands.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';

/** Some of the messages named went meanwhile: RFC 5530 EXPUNGEISSUED. */
export const someGone = 'NO [EXPUNGEISSUED] Some of the messages no longer exist';

export async function storeFlags(session: ImapSession, { cursor, byUid }: CommandCall): Promise<string> {
  cursor.space();
  const set = cursor.sequenceSet();
  cursor.space();
  const unchangedSince = storeModifier(cursor);
  const sign = cursor.takeIf('+') ? '+' : cursor.takeIf('-') ? '-' : '';
  const item = cursor.itemName();
  const silent = item === 'FLAGS.SILENT';
  if (!silent && item !== 'FLAGS') return 'BAD Unknown STORE item';
  cursor.space();
  const written = storedFlags(cursor);
  const { bits, keywords } = parseFlags(written);
  const view = session.selectedForChange();
  const ranges = view.resolve(set, byUid, session.saved);
  const uids = view.uidsOf(ranges);
  if (uids.length === 0) return 'OK STORE completed';
  const how = sign === '+' ? 'add' : sign === '-' ? 'remove' : 'set';
  if (unchangedSince !== undefined) session.enableCondstore();
  const condition = unchangedSince === undefined ? {} : { unchangedSince };
  const before = session.done();
  const changed =
    before === undefined
      ? await view.folder.changeFlags(uids, { how, flags: bits, keywords, ...condition }, session.operation)
      : uidsIn(before.uids);
  view.told(changed, !silent);
  const done = new Set(changed);
  const modified: number[] = [];
  if (view.folder.keywords.length !== view.keywordCount) session.announceFlags(view);
  let missing = false;
  const slice = new Slice();
  for (const { from, to } of ranges) {
    for (let at = from; at < to; at++) {
      const uid = view.uids[at]!;
      const facts = view.folder.facts(uid);
      if (facts === undefined) {
        missing = true;
        continue;
      }
      if (unchangedSince !== undefined && facts.modseq > unchangedSince && !done.has(uid)) {
        // Changed by somebody before, or after ours changed nothing: either way the client knows too little.
        modified.push(byUid ? uid : at + 1);
        continue;
      }
      const told: string[] = byUid || session.qresync ? [`UID ${uid}`] : [];
      // RFC 7162 3.1.3: told even when silent.
      if (session.condstore && (!silent || done.has(uid))) told.push(`MODSEQ (${facts.modseq})`);
      if (!silent) told.push(`FLAGS (${view.flagsWords(facts, session.rev2)})`);
      else if (!session.condstore || !done.has(uid)) continue;
      session.untagged(`* ${at + 1} FETCH (${told.join(' ')})`);
      if ((at & 63) !== 0) continue;
      await pause(session, slice);
    }
  }
  const code = modified.length === 0 ? '' : `[MODIFIED ${imapNumberSet(modified)}] `;
  if (!missing || byUid) return `OK ${code}STORE completed`;
  return code === '' ? someGone : `NO ${code}Some of the messages no longer exist`;
}

/** `(\\Seen $Work)`, or flags one after another without parentheses (RFC 9051 9, store-att-flags); to the end. */
function storedFlags(cursor: ImapCursor): string[] {
  const written: string[] = [];
  if (cursor.isAt('(')) written.push(...cursor.flagList());
  else {
    do written.push(cursor.flag());
    while (cursor.takeIf(' '));
  }
  cursor.end();
  return written;
}

/** `(UNCHANGEDSINCE n)` (RFC 7162 3.1.3). */
function storeModifier(cursor: ImapCursor): number | undefined {
  if (!cursor.takeIf('(')) return undefined;
  if (cursor.keyword() !== 'UNCHANGEDSINCE') throw new Fault('bad-syntax', 'Unknown STORE modifier');
  cursor.space();
  const modseq = cursor.number64();
  cursor.expect(')');
  cursor.space();
  return modseq;
}

async function pause(session: ImapSession, slice: Slice): Promise<void> {
  if (session.writer.full) await session.writer.flush();
  const rest = slice.used();
  if (rest !== undefined) await rest;
}

export function copyMessages(session: ImapSession, call: CommandCall): Promise<string> {
  return transfer(session, call, false);
}

export function moveMessages(session: ImapSession, call: CommandCall): Promise<string> {
  return transfer(session, call, true);
}

async function transfer(
  session: ImapSession,
  { cursor, byUid, name }: CommandCall,
  move: boolean,
): Promise<string> {
  cursor.space();
  const set = cursor.sequenceSet();
  cursor.space();
  const written = cursor.astring();
  cursor.end();
  const view = move ? session.selectedForChange() : session.selected();
  const before = session.done();
  const named = view.uidsOf(view.resolve(set, byUid, session.saved));
  const target = await targetOf(session, written);
  if (typeof target === 'string') return before === undefined ? target : `OK ${name} completed`;
  const uids = named.filter((uid) => view.folder.flagsOf(uid) !== undefined);
  // RFC 9051 6.4.7: all or none; a sequence number the client sees but that is gone is told.
  if (before === undefined && uids.length < named.length && !byUid) return someGone;
  if (before === undefined && uids.length === 0) return `OK ${name} completed`;
  const pairs = before === undefined ? await copy(session, view, target, uids, move) : pairsOf(before);
  const code = `[COPYUID ${target.uidValidity} ${imapNumberSet(pairs.map(([from]) => from))} ${imapNumberSet(pairs.map(([, to]) => to))}]`;
  // All of them went while others were served.
  if (pairs.length === 0) return byUid ? `OK ${name} completed` : someGone;
  if (!move) return `OK ${code} COPY completed`;
  // RFC 6851 4.3: told before the EXPUNGE answers, which come with the completion.
  session.untagged(`* OK ${code} Moved UIDs`);
  return `OK ${modseqCode(session, view)}MOVE completed`;
}

function copy(
  { operation }: ImapSession,
  { folder }: MailboxView,
  target: Folder,
  uids: readonly number[],
  move: boolean,
): Promise<readonly (readonly [number, number])[]> {
  return move ? folder.moveTo(target, uids, operation) : folder.copyTo(target, uids, operation);
}

/** What a COPY or MOVE did whose answer was lost. */
function pairsOf({ uids, firstUid }: OperationResult): readonly (readonly [number, number])[] {
  return uidsIn(uids).map((uid, index) => [uid, firstUid + index] as const);
}

async function targetOf(session: ImapSession, written: string): Promise<Folder | string> {
  try {
    return await session.account.store.folder(session.nameFrom(written));
  } catch (error) {
    const fault = Fault.from(error);
    if (fault.code !== 'no-such-folder') throw fault;
    return answerTryCreate(fault);
  }
}

/** EXPUNGE and UID EXPUNGE (RFC 4315 2.1). The EXPUNGE answers come with the completion. */
export async function expunge(session: ImapSession, { cursor, byUid }: CommandCall): Promise<string> {
  if (byUid) cursor.space();
  const set = byUid ? cursor.sequenceSet() : undefined;
  cursor.end();
  const view = session.selectedForChange();
  // Done before its answer was lost: what went is told with the completion as always.
  if (session.done() !== undefined) return `OK ${modseqCode(session, view)}EXPUNGE completed`;
  let uids = deletedUids(view);
  if (set !== undefined) {
    const named = new Set(view.uidsOf(view.resolve(set, true, session.saved)));
    uids = uids.filter((uid) => named.has(uid));
  }
  if (uids.length === 0) return 'OK EXPUNGE completed';
  await view.folder.expunge(uids, true, session.operation);
  return `OK ${modseqCode(session, view)}EXPUNGE completed`;
}
