/** Looks at an mbox: which of its messages are known, and which another program brought. */
import { crc32 } from 'node:zlib';
import { dataSync, readAt, truncateFile } from '../files.ts';
import type { JournalRecord } from '../journal-records.ts';
import { type MessageName, parseMessageName } from '../message-name.ts';
import type { Place } from './places.ts';
import { type FoundMessage, foreignForm, type Measured, measureMessage, scanMbox } from './scan-mbox.ts';
import { sizeOf } from './seen-file.ts';
import { formBit, type StoredForm } from './stored-form.ts';
import type { TakenNames } from './taken-names.ts';

export interface KnownMessage {
  readonly text: string;
  readonly name: MessageName;
  readonly place: Place;
}

/** A message of another program, or one whose name cannot be right: it gets a UID. */
export interface ForeignMessage {
  readonly found: FoundMessage;
  readonly measured: Measured;
  /** Absent: another program's. */
  readonly form?: StoredForm;
}

export interface MboxLook {
  readonly known: readonly KnownMessage[];
  readonly foreign: readonly ForeignMessage[];
}

/**
 * @param fd  Nobody writes meanwhile. @param start  Where a message begins, or the file.
 * @param uidReserved  No UID from here on was ever given: a name that says so is not ours.
 * @param taken  Is used up.
 */
export async function lookAtMbox(
  fd: number,
  start: number,
  end: number,
  uidReserved: number,
  taken: TakenNames,
): Promise<MboxLook> {
  const known: KnownMessage[] = [];
  const foreign: ForeignMessage[] = [];
  const uids = new Set<number>();
  for await (const found of scanMbox(fd, start, end)) {
    const { given } = found.line;
    const { offset, start, end } = found;
    if (
      given &&
      given.name.uid < uidReserved &&
      !uids.has(given.name.uid) &&
      (await isWhole(fd, found, given))
    ) {
      const { text, name, form } = given;
      uids.add(name.uid);
      known.push({ text, name, place: { uid: name.uid, offset, start, end, form, named: true } });
      continue;
    }
    const measured = await measureMessage(fd, found, foreignForm, true);
    const text = taken.take(measured.digest);
    const name = text === undefined ? undefined : parseMessageName(text);
    if (text === undefined || !name || uids.has(name.uid)) foreign.push({ found, measured });
    else {
      uids.add(name.uid);
      const place = { uid: name.uid, offset, start, end, form: foreignForm, named: false };
      known.push({ text, name, place });
    }
  }
  return { known, foreign };
}

/** Bytes an open last line got, as they are shown. */
export function shownOpenEnd(form: StoredForm): number {
  if (!(form & formBit.openEnd)) return 0;
  return form & (formBit.crlf | formBit.foreign) ? 2 : 1;
}

/** Is what stands there the message of that name? Another program may have added lines of state to it. */
async function isWhole(
  fd: number,
  found: FoundMessage,
  { name, form }: { readonly name: MessageName; readonly form: StoredForm },
): Promise<boolean> {
  const stored = found.end - found.start;
  if (stored === name.fileBytes) return true;
  if (stored < name.fileBytes || !(form & formBit.hidesState)) return false;
  const { size } = await measureMessage(fd, found, form, true);
  return size - shownOpenEnd(form) === name.size;
}

export type ComingRecord = Extract<JournalRecord, { t: 'coming' }>;

/** The last word of a folder's journal on what was being appended. */
export function lastComing(records: readonly JournalRecord[]): ComingRecord | undefined {
  const record = records.findLast((one) => one.t === 'coming' || one.t === 'clean');
  return record?.t === 'coming' && record.at >= 0 ? record : undefined;
}

/**
 * Cuts off what a crash left of messages nobody was told of. Only what is ours is cut.
 * @param fd  Locked. @returns bytes that went.
 */
export async function cutTorn(fd: number, coming: ComingRecord, mayAct: () => void): Promise<number> {
  const size = await sizeOf(fd);
  if (size <= coming.at) return 0;
  let cut: number | undefined;
  let any = false;
  for await (const found of scanMbox(fd, coming.at, size)) {
    any = true;
    const name = found.line.given?.name;
    const sum = name && coming.c[name.uid - coming.n];
    const whole = sum !== undefined && found.end - found.start === name!.fileBytes;
    if (sum === undefined || (whole && (await sumOf(fd, found)) === sum)) cut = undefined;
    else cut ??= found.offset;
  }
  if (!any) {
    const begin = await readAt(fd, coming.at, Math.min(256, size - coming.at));
    if (looksBegun(begin.toString('latin1'))) cut = coming.at;
  }
  if (cut === undefined) return 0;
  mayAct();
  await truncateFile(fd, cut);
  await dataSync(fd);
  return size - cut;
}

/** The beginning of an append of ours: line ends, then of its `From ` line as much as was written. */
function looksBegun(text: string): boolean {
  const written = text.replace(/\0+$/, '').replace(/^\n{1,2}/, '');
  return (
    /^(?:|F|Fr|Fro|From|From \d{0,12}|From \d{1,12}\.(?:U\d{0,10})?)$/.test(written) ||
    /^From \d{1,12}\.U\d{1,10}_/.test(written)
  );
}

async function sumOf(fd: number, { start, end }: FoundMessage): Promise<number> {
  let sum = 0;
  for (let at = start; at < end; ) {
    const bytes = await readAt(fd, at, Math.min(256 * 1024, end - at));
    if (bytes.length === 0) break;
    sum = crc32(bytes, sum);
    at += bytes.length;
  }
  return sum;
}
