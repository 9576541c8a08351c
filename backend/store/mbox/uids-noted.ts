/** UIDs that another mail server noted in an mbox (X-IMAPbase, X-UID), for an mbox that comes to us. */
import { closeLater, openFile, readAt } from '../files.ts';
import { parseFromLine } from './from-line.ts';
import { mboxName } from './mbox-file.ts';
import { headerBytesMax, stateLinesOf } from './state-lines.ts';

/** UIDVALIDITY in the first message of an mbox. */
export async function uidValidityNoted(directory: string): Promise<number | undefined> {
  const fd = await openFile(`${directory}/${mboxName}`, 'r').catch(() => undefined);
  if (fd === undefined) return undefined;
  try {
    const text = (await readAt(fd, 0, headerBytesMax)).toString('latin1');
    const end = text.indexOf('\n');
    if (end < 0 || !parseFromLine(text.slice(0, end))) return undefined;
    return baseNoted(stateLinesOf(text.slice(end + 1)))?.uidValidity;
  } finally {
    closeLater(fd);
  }
}

/** UIDVALIDITY and the greatest UID that was given. */
export function baseNoted(
  state: ReadonlyMap<string, string> | undefined,
): { readonly uidValidity: number; readonly last: number } | undefined {
  const found = /^(\d{1,10})\s+(\d{1,10})(?:\s|$)/.exec(
    state?.get('x-imapbase') ?? state?.get('x-imap') ?? '',
  );
  const uidValidity = Number(found?.[1]);
  const last = Number(found?.[2]);
  return found && uidValidity >= 1 && uidValidity <= 0xffffffff && last <= 0xfffffffd
    ? { uidValidity, last }
    : undefined;
}

/**
 * The UIDs messages are to get, ascending: those noted, where they make sense.
 * @param states  State lines of each, in order. @param next  The least UID that is free.
 */
export function uidsFor(states: readonly ReadonlyMap<string, string>[], next: number): number[] {
  const base = next === 1 ? baseNoted(states[0]) : undefined;
  let last = next - 1;
  return states.map((state) => {
    const noted = base ? Number(/^\d{1,10}$/.exec(state.get('x-uid') ?? '')?.[0] ?? 0) : 0;
    last = base && noted > last && noted <= base.last ? noted : last + 1;
    return last;
  });
}
