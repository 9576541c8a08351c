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
import { greatestModseq, matching, savedOf, tellExtended, tellPlain, toldOf } from './search-command.ts';
import { compileKey } from './search-key.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';
import { type ThreadMessage, threadByReferences, threadBySubject, threadText } from './threading.ts';

/** Messages read at once. */
const parallelMax = 8;
/** Rows sorted in one go: less than two milliseconds. */
const stretchRows = 1000;

/** What a message is sorted by: a column per criterion. */
interface Sorted {
  readonly uid: number;
  readonly values: readonly (number | string)[];
}

export async function sortMessages(session: ImapSession, call: CommandCall): Promise<string> {
  call.cursor.space();
  const program = parseSortProgram(call.cursor);
  const view = session.selected();
  const found = await foundBy(session, view, program);
  const rows = await columnsOf(session, view, found, program.criteria);
  if (session.stopping) return 'NO [UNAVAILABLE] Stopped';
  const uids = (await sortInSlices(rows, comparing(program.criteria))).map(({ uid }) => uid);
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
  return await matching(session, view, compileKey(program.key, view, session.saved, Date.now()));
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

/** Sorts stretches, then merges them pairwise; others run between. */
async function sortInSlices<T>(rows: readonly T[], compare: (a: T, b: T) => number): Promise<T[]> {
  const slice = new Slice();
  let stretches: T[][] = [];
  for (let at = 0; at < rows.length; at += stretchRows) {
    stretches.push(rows.slice(at, at + stretchRows).sort(compare));
    await slice.used();
  }
  while (stretches.length > 1) {
    const merged: T[][] = [];
    for (let at = 0; at < stretches.length; at += 2) {
      const [left, right] = [stretches[at]!, stretches[at + 1] ?? []];
      const out: T[] = [];
      for (let l = 0, r = 0; l < left.length || r < right.length; ) {
        const takeLeft = r >= right.length || (l < left.length && compare(left[l]!, right[r]!) <= 0);
        out.push(takeLeft ? left[l++]! : right[r++]!);
        if ((out.length & 1023) === 0) await slice.used();
      }
      merged.push(out);
    }
    stretches = merged;
  }
  return stretches[0] ?? [];
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
  messages.sort((a, b) => a.number - b.number);
  const threads =
    program.algorithm === 'REFERENCES' ? threadByReferences(messages) : threadBySubject(messages);
  session.writer.text('* THREAD');
  for (const [index, root] of threads.entries()) {
    session.writer.text(`${index === 0 ? ' ' : ''}${threadText(root)}`);
    if (session.writer.full) await session.flush();
  }
  session.writer.text('\r\n');
  return 'OK THREAD completed';
}
