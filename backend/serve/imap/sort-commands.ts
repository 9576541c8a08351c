/** SORT and THREAD (RFC 5256; RETURN of RFC 5267, display names of RFC 5957). */
import {
  parseSortProgram,
  parseThreadProgram,
  type SearchProgram,
  type SortCriterion,
  type SortKey,
} from '../../../mailwire/imap-search-keys.ts';
import { type HeaderFacts, headerFacts } from './header-cache.ts';
import type { ImapSession } from './imap-session.ts';
import type { MailboxView } from './mailbox-view.ts';
import { candidatesOf } from './search-candidates.ts';
import {
  greatestModseq,
  matching,
  savedOf,
  savingNothingOnNo,
  tellExtended,
  tellPlain,
  toldOf,
} from './search-command.ts';
import { compileKey } from './search-key.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';
import { inSlices, sorted } from './steps.ts';
import { type ThreadMessage, threadByReferences, threadBySubject, threadText } from './threading.ts';

/** Messages read at once. */
const parallelMax = 8;

/** What a message is sorted by: a column per criterion. */
interface Sorted {
  readonly uid: number;
  readonly values: readonly (number | string)[];
}

export async function sortMessages(session: ImapSession, call: CommandCall): Promise<string> {
  return await savingNothingOnNo(session, call.cursor, () => sortAndTell(session, call));
}

async function sortAndTell(session: ImapSession, call: CommandCall): Promise<string> {
  call.cursor.space();
  const program = parseSortProgram(call.cursor);
  const view = session.selected();
  const found = await foundBy(session, view, program);
  const rows = await columnsOf(session, view, found, program.criteria);
  if (session.stopping) return 'NO [UNAVAILABLE] Stopped';
  const uids = (await inSlices(sorted(rows, comparing(program.criteria)))).map(({ uid }) => uid);
  const numbers = call.byUid ? uids : uids.map((uid) => view.sequenceOf(uid));
  const { returns } = program;
  if (returns === undefined) {
    const modseq = program.modseq ? greatestModseq(view, uids) : undefined;
    await tellPlain(session, 'SORT', numbers, modseq);
  } else {
    const told = toldOf(uids, returns);
    if (returns.has('SAVE')) session.saved = [...savedOf(uids, returns)].sort((a, b) => a - b);
    tellExtended(session, call, numbers, returns, program.modseq ? greatestModseq(view, told) : undefined);
  }
  return 'OK SORT completed';
}

async function foundBy(session: ImapSession, view: MailboxView, program: SearchProgram): Promise<number[]> {
  if (program.modseq) session.enableCondstore();
  const candidates = await candidatesOf(session, view, program.key);
  return await matching(session, view, compileKey(program.key, view, session.saved, Date.now(), candidates));
}

const fromHeader: Readonly<Partial<Record<SortKey, (facts: HeaderFacts) => number | string>>> = {
  CC: (facts) => facts.cc,
  DATE: (facts) => facts.sentMs,
  FROM: (facts) => facts.from,
  SUBJECT: (facts) => facts.subject,
  TO: (facts) => facts.to,
  DISPLAYFROM: (facts) => facts.displayFrom,
  DISPLAYTO: (facts) => facts.displayTo,
};

async function columnsOf(
  session: ImapSession,
  view: MailboxView,
  uids: readonly number[],
  criteria: readonly SortCriterion[],
): Promise<Sorted[]> {
  const needHeader = criteria.some(({ by }) => fromHeader[by] !== undefined);
  const rows: Sorted[] = [];
  await eachMessage(session, uids, async (uid) => {
    const facts = view.folder.facts(uid);
    const header = needHeader ? await headerFacts(view.folder, uid) : undefined;
    if (facts === undefined || (needHeader && header === undefined)) return;
    const values = criteria.map(({ by }) => {
      if (by === 'ARRIVAL') return facts.internalDateMs;
      return by === 'SIZE' ? facts.size : fromHeader[by]!(header!);
    });
    rows.push({ uid, values });
  });
  return rows;
}

/** A few at a time, in slices, until the session stops. */
async function eachMessage(
  session: ImapSession,
  uids: readonly number[],
  work: (uid: number) => Promise<void>,
): Promise<void> {
  const slice = new Slice();
  let next = 0;
  const worker = async () => {
    while (next < uids.length && !session.stopping) {
      await work(uids[next++]!);
      const rest = slice.used();
      if (rest !== undefined) await rest;
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallelMax, uids.length) }, worker));
}

/** RFC 5256 3: equal ones stand by sequence number, whatever is reversed. */
function comparing(criteria: readonly SortCriterion[]): (a: Sorted, b: Sorted) => number {
  return (a, b) => {
    for (let at = 0; at < criteria.length; at++) {
      const left = a.values[at]!;
      const right = b.values[at]!;
      if (left === right) continue;
      return left < right === criteria[at]!.reverse ? 1 : -1;
    }
    return a.uid - b.uid;
  };
}

export async function threadMessages(session: ImapSession, call: CommandCall): Promise<string> {
  call.cursor.space();
  const program = parseThreadProgram(call.cursor);
  const view = session.selected();
  const found = await foundBy(session, view, program);
  const messages: ThreadMessage[] = [];
  await eachMessage(session, found, async (uid) => {
    const facts = await headerFacts(view.folder, uid);
    if (facts !== undefined) messages.push({ number: call.byUid ? uid : view.sequenceOf(uid), ...facts });
  });
  if (session.stopping) return 'NO [UNAVAILABLE] Stopped';
  const byNumber = await inSlices(sorted(messages, (a, b) => a.number - b.number));
  const threads = await inSlices(
    program.algorithm === 'REFERENCES' ? threadByReferences(byNumber) : threadBySubject(byNumber),
  );
  const slice = new Slice();
  session.writer.text('* THREAD');
  for (const [index, root] of threads.entries()) {
    session.writer.text(`${index === 0 ? ' ' : ''}${threadText(root)}`);
    if (session.writer.full) await session.flush();
    const rest = slice.used();
    if (rest !== undefined) await rest;
  }
  session.writer.text('\r\n');
  return 'OK THREAD completed';
}
