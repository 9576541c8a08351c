/**
 * Which UID each file of a Maildir folder gets when Dovecot's list of UIDs is
 * taken over. Pure: names in, renames out. The same answer comes again after a
 * crash at any point, since a file that was renamed already says its UID itself.
 */
import { type MessageName, parseMessageName } from '../message-name.ts';
import { baseOf, type UidList } from './uid-list.ts';

export interface PlannedRename {
  readonly from: 'cur' | 'new';
  readonly text: string;
  readonly uid: number;
  /** Dovecot's fields of the message. */
  readonly fields: string;
  /** The name is one of ours already, with another UID. */
  readonly ours: MessageName | undefined;
}

export interface TakeOverPlan {
  readonly renames: readonly PlannedRename[];
  /** First UID that is neither in the list nor given by a rename. */
  readonly uidNext: number;
  /** Files Dovecot had not seen yet: they get UIDs when the folder is opened. */
  readonly unseen: number;
}

/** @param cur  Names in `cur/`. @param fresh  Names in `new/`. */
export function planTakeOver(list: UidList, cur: readonly string[], fresh: readonly string[]): TakeOverPlan {
  const byBase = new Map<string, { readonly uid: number; readonly fields: string }>();
  const listed = new Set<number>();
  for (const { uid, base, fields } of list.entries) {
    // A UID listed for two files is damage: the first keeps it.
    if (listed.has(uid)) continue;
    listed.add(uid);
    byBase.set(base, { uid, fields });
  }
  const given = new Set<number>();
  const renames: PlannedRename[] = [];
  const left: string[] = [];
  let unseen = 0;
  for (const text of cur.toSorted()) {
    if (text[0] === '.') continue;
    const entry = byBase.get(baseOf(text));
    if (!entry || given.has(entry.uid)) {
      left.push(text);
      continue;
    }
    given.add(entry.uid);
    const ours = parseMessageName(text);
    if (ours?.uid !== entry.uid) renames.push({ from: 'cur', text, ...entry, ours });
  }
  for (const text of fresh.toSorted()) {
    if (text[0] === '.') continue;
    const entry = byBase.get(baseOf(text));
    if (!entry || given.has(entry.uid)) {
      unseen++;
      continue;
    }
    given.add(entry.uid);
    renames.push({ from: 'new', text, ...entry, ours: parseMessageName(text) });
  }
  let { uidNext } = list;
  for (const text of left) {
    const ours = parseMessageName(text);
    if (!ours) {
      unseen++;
      continue;
    }
    if (listed.has(ours.uid) && !given.has(ours.uid)) {
      given.add(ours.uid);
      continue;
    }
    // A name of ours whose UID Dovecot does not know or gave to another message.
    renames.push({ from: 'cur', text, uid: uidNext++, fields: '', ours });
  }
  return { renames, uidNext, unseen };
}
