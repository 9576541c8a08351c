/**
 * SEARCH (RFC 9051 6.4.4, RFC 3501 6.4.4; RETURN of RFC 4731, `$` of RFC 5182).
 * What the index can decide is decided first; messages are opened only where
 * their text has to be seen. Work is done in slices of a few milliseconds, so
 * that a search of one session does not stop the others (CASES 26).
 */

import { isFault } from '../../../base/fault.ts';
import { imapNumberSet, imapString } from '../../../mailwire/imap-reply.ts';
import { parseSearchProgram, type SearchReturn } from '../../../mailwire/imap-search-keys.ts';
import type { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { ImapSession } from './imap-session.ts';
import type { MailboxView } from './mailbox-view.ts';
import { candidatesOf } from './search-candidates.ts';
import { decideByContent } from './search-content.ts';
import { compileKey, type Known } from './search-key.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';

/** Messages read at once. */
const parallelMax = 8;

export async function search(session: ImapSession, call: CommandCall): Promise<string> {
  return await savingNothingOnNo(session, call.cursor, () => searchAndTell(session, call));
}

/** RFC 5182 2.1: a search that was to be saved and is answered NO leaves an empty result; one answered BAD the old one. */
export async function savingNothingOnNo(
  session: ImapSession,
  cursor: ImapCursor,
  run: () => Promise<string>,
): Promise<string> {
  const saves = cursor.aheadMatches(/^ RETURN \([^)]*\bSAVE\b/i);
  try {
    const completion = await run();
    if (saves && completion.startsWith('NO')) session.saved = [];
    return completion;
  } catch (error) {
    if (saves && !isFault(error, 'bad-syntax')) session.saved = [];
    throw error;
  }
}

async function searchAndTell(session: ImapSession, call: CommandCall): Promise<string> {
  const { cursor, byUid } = call;
  cursor.space();
  const program = parseSearchProgram(cursor);
  // RFC 9755 3: with UTF8=ACCEPT every text is UTF-8.
  if (session.utf8 && !session.rev2 && program.charset !== undefined) return 'BAD CHARSET is not allowed';
  // RFC 9051 6.4.4: the answer is ESEARCH, as if RETURN (ALL) had been said.
  const returns = program.returns ?? (session.rev2 ? new Set<SearchReturn>(['ALL']) : undefined);
  const view = session.selected();
  if (program.modseq) session.enableCondstore();
  const known = compileKey(
    program.key,
    view,
    session.saved,
    Date.now(),
    await candidatesOf(session, view, program.key),
  );
  const uids = await matching(session, view, known);
  if (session.stopping) return 'NO [UNAVAILABLE] Stopped';
  const numbers = byUid ? uids : uids.map((uid) => view.sequenceOf(uid));
  const modseqOf = program.modseq ? (uids: readonly number[]) => greatestModseq(view, uids) : () => undefined;
  if (returns === undefined) await tellPlain(session, 'SEARCH', numbers, modseqOf(uids));
  else {
    if (returns.has('SAVE')) session.saved = savedOf(uids, returns);
    tellExtended(session, call, numbers, returns, modseqOf(toldOf(uids, returns)));
  }
  return 'OK SEARCH completed';
}

/** UIDs that match, ascending. */
export async function matching(session: ImapSession, view: MailboxView, known: Known): Promise<number[]> {
  const slice = new Slice();
  const found: number[] = [];
  const open: number[] = [];
  for (let at = 0; at < view.count; at++) {
    const uid = view.uids[at]!;
    const answer = known.byFacts(at + 1, uid);
    if (answer === true) found.push(uid);
    else if (answer === undefined) open.push(uid);
    if ((at & 63) !== 0) continue;
    const rest = slice.used();
    if (rest !== undefined) await rest;
    if (session.stopping) return found;
  }
  let next = 0;
  const work = async () => {
    while (next < open.length && !session.stopping) {
      const uid = open[next++]!;
      if (await decideByContent(view, uid, known, slice)) found.push(uid);
      const rest = slice.used();
      if (rest !== undefined) await rest;
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallelMax, open.length) }, work));
  return open.length === 0 ? found : found.sort((a, b) => a - b);
}

/** RFC 7162 3.1.5; `undefined` for no message. */
export function greatestModseq(view: MailboxView, uids: readonly number[]): number | undefined {
  let greatest: number | undefined;
  for (const uid of uids) greatest = Math.max(greatest ?? 0, view.folder.modseqOf(uid) ?? 0);
  return greatest;
}

/** `* SEARCH 2 5` or `* SORT 5 2`. */
export async function tellPlain(
  session: ImapSession,
  name: 'SEARCH' | 'SORT',
  numbers: readonly number[],
  modseq: number | undefined,
): Promise<void> {
  session.writer.text(`* ${name}`);
  for (let at = 0; at < numbers.length; at += 1000) {
    session.writer.text(` ${numbers.slice(at, at + 1000).join(' ')}`);
    if (session.writer.full) await session.writer.flush();
  }
  session.writer.text(modseq === undefined ? '\r\n' : ` (MODSEQ ${modseq})\r\n`);
}

export function tellExtended(
  session: ImapSession,
  { tag, byUid }: CommandCall,
  numbers: readonly number[],
  returns: ReadonlySet<SearchReturn>,
  modseq: number | undefined,
): void {
  // RFC 5182 2.2: SAVE alone asks for no answer.
  if (returns.size === 1 && returns.has('SAVE')) return;
  let answer = `* ESEARCH (TAG ${imapString(tag)})${byUid ? ' UID' : ''}`;
  if (numbers.length > 0) {
    if (returns.has('MIN')) answer += ` MIN ${numbers[0]}`;
    if (returns.has('MAX')) answer += ` MAX ${numbers.at(-1)}`;
    if (returns.has('ALL')) answer += ` ALL ${imapNumberSet(numbers)}`;
  }
  if (returns.has('COUNT')) answer += ` COUNT ${numbers.length}`;
  if (modseq !== undefined) answer += ` MODSEQ ${modseq}`;
  session.untagged(answer);
}

/** RFC 5182 2.1: with MIN or MAX alone only those are saved. */
export function savedOf(uids: readonly number[], returns: ReadonlySet<SearchReturn>): readonly number[] {
  return toldOf(uids, returns);
}

/** Messages that MIN and MAX mean, or all (RFC 7162 3.1.10 has the same rule). */
export function toldOf(uids: readonly number[], returns: ReadonlySet<SearchReturn>): readonly number[] {
  if (returns.has('ALL') || returns.has('COUNT') || (!returns.has('MIN') && !returns.has('MAX'))) return uids;
  const ends = new Set<number>();
  if (returns.has('MIN') && uids.length > 0) ends.add(uids[0]!);
  if (returns.has('MAX') && uids.length > 0) ends.add(uids.at(-1)!);
  return [...ends];
}
