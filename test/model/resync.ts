/** What a client with a copy of a mailbox asks when it selects it again (RFC 7162 3.2.5), and makes of the answers. */
import { flagsIn } from './mailbox-model.ts';
import { type Entry, flagWords, numbersIn, Violation } from './session.ts';

/** A copy, as its client left it. */
export interface Cached {
  readonly uidValidity: number;
  /** What the mailbox's HIGHESTMODSEQ was when the copy was begun: what changed since is told, and some of it twice. */
  readonly modseq: number;
  readonly entries: readonly Entry[];
}

/** ` (QRESYNC (…))` with two, three or four parameters. @param turn  Which of them. */
export function resyncWords({ uidValidity, modseq, entries }: Cached, turn: number): string {
  const words = [uidValidity, modseq];
  if (turn % 3 === 0 || entries.length === 0) return ` (QRESYNC (${words.join(' ')}))`;
  const uids = entries.map((entry) => entry.uid).join();
  if (turn % 3 === 1) return ` (QRESYNC (${words.join(' ')} ${uids}))`;
  // Message numbers as the client had them, for some of its messages.
  const some = entries.map((_, at) => at).filter((at) => at % 3 === 0);
  const numbers = some.map((at) => at + 1).join();
  return ` (QRESYNC (${words.join(' ')} 1:${entries.at(-1)!.uid} (${numbers} ${some.map((at) => entries[at]!.uid).join()})))`;
}

/** The copy brought up to date by the answers to SELECT. @throws {Violation} */
export function changedOf(cached: Cached, lines: readonly string[]): Entry[] {
  const flags = new Map(cached.entries.map((entry) => [entry.uid, entry.flags]));
  let changes = false;
  for (const line of lines) {
    const vanished = /^\* VANISHED \(EARLIER\) (\S+)$/.exec(line);
    if (vanished !== null) {
      if (changes) throw new Violation('VANISHED (EARLIER) behind FETCH');
      for (const uid of numbersIn(vanished[1]!)) flags.delete(uid);
      continue;
    }
    const changed = /^\* \d+ FETCH \(UID (\d+) MODSEQ \((\d+)\) FLAGS \(([^)]*)\)\)$/.exec(line);
    if (changed === null) continue;
    changes = true;
    if (Number(changed[2]) <= cached.modseq) throw new Violation(`${line} is not of after ${cached.modseq}`);
    flags.set(Number(changed[1]), flagsIn(flagWords(changed[3]!)));
  }
  return [...flags].sort(([a], [b]) => a - b).map(([uid, told]) => ({ uid, flags: told }));
}
