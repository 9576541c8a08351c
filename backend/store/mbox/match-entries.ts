/**
 * Gives the messages found in an mbox the UIDs they had: the same digest is the
 * same message, at its old place if there are several alike. Pure.
 */
import type { FoundMessage } from './scan-mbox.ts';
import type { MboxEntry } from './side-file.ts';

export interface Matched {
  /** Ascending UIDs. */
  readonly entries: readonly MboxEntry[];
  readonly uidNext: number;
  readonly added: readonly number[];
  readonly gone: readonly number[];
}

export function matchEntries(
  found: readonly FoundMessage[],
  known: readonly MboxEntry[],
  uidNext: number,
): Matched {
  const byDigest = new Map<string, MboxEntry[]>();
  for (const entry of known) {
    const alike = byDigest.get(entry.digest);
    if (alike) alike.push(entry);
    else byDigest.set(entry.digest, [entry]);
  }
  const chosen = new Map<FoundMessage, MboxEntry>();
  const take = (message: FoundMessage, atItsPlace: boolean): void => {
    const alike = byDigest.get(message.digest);
    const index = atItsPlace ? (alike?.findIndex((entry) => entry.offset === message.offset) ?? -1) : 0;
    const entry = alike?.[index];
    if (!entry || chosen.has(message)) return;
    alike!.splice(index, 1);
    chosen.set(message, entry);
  };
  for (const message of found) take(message, true);
  for (const message of found) take(message, false);
  const entries: MboxEntry[] = [];
  const added: number[] = [];
  for (const message of found) {
    const { offset, start, end, digest, seconds } = message;
    const before = chosen.get(message);
    const place = { offset, start, end, digest, seconds };
    if (!before) {
      added.push(uidNext);
      entries.push({ uid: uidNext++, ...place, ...asForeign(message) });
    } else if (!before.hidesState && end - start !== before.end - before.start) {
      // Lines of state were added to a message that had some of its own: which are whose cannot be told.
      entries.push({ ...before, ...place, ...asForeign(message) });
    } else entries.push({ ...before, ...place });
  }
  const kept = new Set(entries.map((entry) => entry.uid));
  return {
    entries: entries.sort((a, b) => a.uid - b.uid),
    uidNext,
    added,
    gone: known.map((entry) => entry.uid).filter((uid) => !kept.has(uid)),
  };
}

function asForeign({ size }: FoundMessage): Pick<MboxEntry, 'size' | 'form' | 'openEnd' | 'hidesState'> {
  return { size, form: 'foreign', openEnd: false, hidesState: true };
}

/** UIDs other programs noted in the messages themselves (X-IMAPbase, X-UID), if they make sense. */
export function uidsNoted(
  found: readonly FoundMessage[],
): { uidValidity: number; uidNext: number; known: readonly MboxEntry[] } | undefined {
  const base = /^(\d{1,10})\s+(\d{1,10})(?:\s|$)/.exec(
    found[0]?.state.get('x-imapbase') ?? found[0]?.state.get('x-imap') ?? '',
  );
  const uidValidity = Number(base?.[1]);
  const last = Number(base?.[2]);
  if (!base || uidValidity < 1 || uidValidity > 0xffffffff || last > 0xfffffffd) return undefined;
  const known: MboxEntry[] = [];
  let before = 0;
  for (const message of found) {
    const { state, offset, start, end, digest, seconds } = message;
    const uid = Number(/^\d{1,10}$/.exec(state.get('x-uid') ?? '')?.[0] ?? 0);
    if (uid <= before || uid > last) continue;
    before = uid;
    known.push({ uid, offset, start, end, digest, seconds, ...asForeign(message) });
  }
  return { uidValidity, uidNext: last + 1, known };
}
