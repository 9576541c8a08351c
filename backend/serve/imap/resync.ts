/**
 * What a client missed since a modification sequence it knows (RFC 7162): what
 * changed comes from the index, what was expunged from the store's journal.
 */
import type { ResyncRequest } from '../../../mailwire/imap-select-parameters.ts';
import { type ImapRange, type ImapSequenceSet, star } from '../../../mailwire/imap-tokens.ts';
import type { ImapSession } from './imap-session.ts';
import type { IndexRanges, MailboxView } from './mailbox-view.ts';
import { Slice } from './session-clock.ts';

/** Ranges in one VANISHED line; more of them make more lines. */
const rangesPerLine = 2000;

/** `[HIGHESTMODSEQ n] ` for the completion of what expunges, once the client counts by it; else nothing. */
export function modseqCode(session: ImapSession, view: MailboxView): string {
  return session.condstore ? `[HIGHESTMODSEQ ${view.folder.highestModseq}] ` : '';
}

/** SELECT with QRESYNC: expunged messages, then changed ones (RFC 7162 3.2.5.1). */
export async function tellChangesSince(
  session: ImapSession,
  view: MailboxView,
  { modseq, known, match }: ResyncRequest,
): Promise<void> {
  const ranges = known === undefined ? everyUid : merged(known);
  tellVanished(session, view, modseq, match === undefined ? ranges : above(ranges, matchedUid(view, match)));
  const slice = new Slice();
  for (const { from, to } of await changedRanges(view, view.resolve(ranges, true, []), modseq)) {
    for (let at = from; at < to; at++) {
      const answer = session.flagsAnswer(at + 1, view.uids[at]!);
      if (answer !== undefined) session.untagged(answer);
      if ((at & 63) !== 0) continue;
      if (session.writer.full) await session.flush();
      const rest = slice.used();
      if (rest !== undefined) await rest;
      if (session.stopping) return;
    }
  }
}

/** `VANISHED (EARLIER)` of the UIDs expunged since that the client knows. @param known  Ascending, apart. */
export function tellVanished(
  session: ImapSession,
  view: MailboxView,
  modseq: number,
  known: readonly ImapRange[],
): void {
  let line: string[] = [];
  const flush = () => {
    if (line.length > 0) session.untagged(`* VANISHED (EARLIER) ${line.join(',')}`);
    line = [];
  };
  let next = 0;
  for (const [first, last] of view.folder.expungedSince(modseq) ?? gapsOf(view)) {
    while (next < known.length && known[next]!.to < first) next++;
    for (let at = next; at < known.length && known[at]!.from <= last; at++) {
      const from = Math.max(first, known[at]!.from);
      const to = Math.min(last, known[at]!.to);
      line.push(from === to ? `${from}` : `${from}:${to}`);
      if (line.length >= rangesPerLine) flush();
    }
  }
  flush();
}

/** Every UID given so far that no message has. */
function* gapsOf(view: MailboxView): Generator<readonly [number, number]> {
  let next = 1;
  for (const uid of view.uids) {
    if (uid > next) yield [next, uid - 1];
    next = uid + 1;
  }
  if (view.folder.uidNext > next) yield [next, view.folder.uidNext - 1];
}

/** Stretches of `ranges` whose messages changed after `modseq`. */
export async function changedRanges(
  view: MailboxView,
  ranges: IndexRanges,
  modseq: number,
): Promise<IndexRanges> {
  const found: { from: number; to: number }[] = [];
  const slice = new Slice();
  for (const { from, to } of ranges) {
    for (let at = from; at < to; at++) {
      if ((view.folder.modseqOf(view.uids[at]!) ?? 0) > modseq) {
        const last = found.at(-1);
        if (last?.to === at) last.to++;
        else found.push({ from: at, to: at + 1 });
      }
      if ((at & 1023) !== 0) continue;
      const rest = slice.used();
      if (rest !== undefined) await rest;
    }
  }
  return found;
}

/** The UIDs a command's set names, whether messages have them or not. */
export function namedUids(
  set: ImapSequenceSet,
  saved: readonly number[],
  view: MailboxView,
): readonly ImapRange[] {
  if (set === '$') return merged(saved.map((uid) => ({ from: uid, to: uid })));
  const last = view.uids[view.count - 1] ?? 0;
  const real = (number: number) => (number === star ? last : number);
  return merged(
    set.map(({ from, to }) => ({
      from: Math.min(real(from), real(to)),
      to: Math.max(real(from), real(to)),
    })),
  );
}

/**
 * The greatest UID that has the number the client has it under: nothing below it went (RFC 7162 3.2.5.2), which helps
 * where the journal no longer knows what did. 0: none.
 */
function matchedUid(view: MailboxView, { numbers, uids }: NonNullable<ResyncRequest['match']>): number {
  let found = 0;
  const next = numbersOf(uids);
  for (const number of numbersOf(numbers)) {
    const { value: uid, done } = next.next();
    // Numbers beyond what there is end it too: the sets may be as long as 2^32.
    if (done || number > view.count) break;
    if (view.uids[number - 1] === uid && uid > found) found = uid;
  }
  return found;
}

function* numbersOf(ranges: readonly ImapRange[]): Generator<number, undefined> {
  for (const { from, to } of ranges) for (let number = from; number <= to; number++) yield number;
  return undefined;
}

function above(ranges: readonly ImapRange[], uid: number): ImapRange[] {
  return ranges.filter(({ to }) => to > uid).map(({ from, to }) => ({ from: Math.max(from, uid + 1), to }));
}

const everyUid: readonly ImapRange[] = [{ from: 1, to: 0xffff_ffff }];

/** Ascending and apart. */
function merged(ranges: readonly ImapRange[]): ImapRange[] {
  const out: { from: number; to: number }[] = [];
  for (const { from, to } of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = out.at(-1);
    if (last !== undefined && from <= last.to + 1) last.to = Math.max(last.to, to);
    else out.push({ from, to });
  }
  return out;
}
