/**
 * Other programs in an mbox: messages they appended, messages they removed,
 * messages they moved. Looked for when the file has changed; each message they
 * bring gets the next UID, and appears once (CASES 97).
 */
import { createHash } from 'node:crypto';
import { readAt } from '../files.ts';
import type { JournalRecord } from '../journal-records.ts';
import {
  formatMessageName,
  hostOfNames,
  type MessageName,
  parseMessageName,
  savedNow,
} from '../message-name.ts';
import { formatUidSet } from '../uid-set.ts';
import { parseFromLine } from './from-line.ts';
import type { MboxFile } from './mbox-file.ts';
import { type MboxFolder, nameForeign } from './mbox-folder.ts';
import { type ForeignMessage, lookAtMbox, type MboxLook } from './mbox-look.ts';
import { type Place, Places } from './places.ts';
import { foreignForm } from './scan-mbox.ts';
import { seenOf } from './seen-file.ts';
import { flagsNoted } from './state-lines.ts';
import { baseNoted, uidsFor } from './uids-noted.ts';

/** More at once, or in sum, get their names into the file instead of the journal. */
const unnamedMax = 200;

/** @param always  Looks although nothing tells that the file changed. */
export async function rescanMbox(folder: MboxFolder, always: boolean): Promise<void> {
  folder.check();
  const { host, file } = folder;
  try {
    if (!always && (await file.isSame())) return;
    await host.lane.run(async () => {
      folder.check();
      await file.locked(async (fd) => {
        if (always) file.hasGaps = true;
        if (always) file.seen = undefined;
        if (!(await file.isSame())) await underLock(folder, fd);
      });
    });
  } catch (error) {
    throw host.failed(error, 'refresh');
  }
}

/** In the lane and under the lock. */
async function underLock(folder: MboxFolder, fd: number): Promise<void> {
  const { file, meta, state } = folder;
  const last = await lastPlace(file, fd);
  const seen = await seenOf(fd);
  if (last && !file.hasGaps) {
    // What was there stands where it stood: only what is behind it is new.
    const look = await lookAtMbox(fd, last.offset, seen.size, meta.uidReserved, folder.taken.copy());
    const [first, ...others] = look.known;
    if (first?.place.uid === last.uid && first.place.end === last.end && first.place.named === last.named) {
      file.learn(file.places, seen);
      await takeIn(folder, fd, [...look.foreign, ...others.map((one) => asForeign(one))]);
      return;
    }
  }
  const look = await lookAtMbox(fd, 0, seen.size, meta.uidReserved, folder.taken.copy());
  const { places, strange } = sortKnown(folder, look);
  file.learn(Places.of(places), seen);
  file.hasGaps = false;
  const missing: number[] = [];
  for (const uid of state.columns.uids()) if (!file.places.get(uid)) missing.push(uid);
  await dropMissing(folder, missing);
  await takeIn(folder, fd, [...look.foreign, ...strange]);
}

/** The last message in the file, if it is still where it was. */
async function lastPlace(file: MboxFile, fd: number): Promise<Place | undefined> {
  let last: Place | undefined;
  for (let at = 0; at < file.places.count; at++) {
    if (file.places.offset[at]! >= (last?.offset ?? -1)) last = file.places.at(at);
  }
  if (!last) return undefined;
  const { size } = await seenOf(fd);
  if (size < last.end) return undefined;
  const line = await readAt(fd, last.offset, last.start - last.offset);
  const given = parseFromLine(line.toString('latin1'))?.given;
  return last.named === (given !== undefined) && (!given || given.name.uid === last.uid) ? last : undefined;
}

/** Has another program done more than append? Under the lock. */
async function onlyGrew(file: MboxFile, fd: number): Promise<boolean> {
  if (await file.isSame()) return true;
  const seen = await seenOf(fd);
  if (!file.seen || seen.ino !== file.seen.ino || seen.size < file.seen.size || file.places.count === 0)
    return false;
  return (await lastPlace(file, fd)) !== undefined;
}

rescanMbox.underLock = underLock;
rescanMbox.onlyGrew = onlyGrew;

function sortKnown(folder: MboxFolder, look: MboxLook): { places: Place[]; strange: ForeignMessage[] } {
  const places: Place[] = [];
  const strange: ForeignMessage[] = [];
  for (const one of look.known) {
    const at = folder.state.columns.find(one.name.uid);
    const isOurs = at >= 0 && parseMessageName(folder.state.columns.nameOf(at))!.emailId === one.name.emailId;
    // Expunged and still in the file until it is rewritten.
    const leaves = at < 0 && folder.file.places.get(one.name.uid) !== undefined;
    if (isOurs || leaves) places.push(one.place);
    else strange.push(asForeign(one));
  }
  return { places, strange };
}

/** A message of ours that is not to be there, from a backup perhaps: it is new. */
function asForeign({ name, place }: MboxLook['known'][number]): ForeignMessage {
  const given = { text: '', name, form: place.form };
  const found = { ...place, line: { seconds: name.seconds, given } };
  return { found, measured: { size: name.size, digest: '', state: new Map() }, form: place.form };
}

async function dropMissing(folder: MboxFolder, missing: readonly number[]): Promise<void> {
  if (missing.length === 0) return;
  await folder.reserve(0, 1);
  const modseq = folder.state.highestModseq + 1;
  const set = formatUidSet(missing);
  const kept = folder.keysOf(missing);
  await folder.commit({
    t: 'gone',
    f: folder.mailboxId,
    u: set,
    m: modseq,
    ...(kept.length > 0 ? { k: kept } : {}),
  });
  folder.dropMessages(missing, set, modseq, kept);
  folder.taken.keepOnly((uid) => folder.state.columns.find(uid) >= 0);
  if (!folder.late.behind) folder.host.journal.note({ t: 'purged', f: folder.mailboxId, m: modseq });
  folder.emit({ kind: 'expunged', uids: missing, modseq });
}

/** Gives messages of other programs UIDs. In the lane, and under the lock. */
export async function takeIn(
  folder: MboxFolder,
  fd: number,
  messages: readonly ForeignMessage[],
): Promise<void> {
  if (messages.length === 0) return;
  folder.check();
  const { state, host, file } = folder;
  const states = messages.map(({ measured }) => measured.state);
  const uids = uidsFor(states, state.uidNext);
  const greatest = Math.max(uids.at(-1)!, state.uidNext === 1 ? (baseNoted(states[0])?.last ?? 0) : 0);
  await folder.reserve(greatest - state.uidNext + 1, messages.length);
  const inFile = messages.some(({ measured }) => measured.digest === '');
  const rows = messages.map(({ found, measured, form = foreignForm }, index) => {
    const { offset, start, end, line } = found;
    const noted = flagsNoted(measured.state);
    const uid = uids[index]!;
    const modseq = state.highestModseq + 1 + index;
    const seconds = line.seconds;
    const name: MessageName = {
      seconds,
      uid,
      emailId: emailIdFor(folder.mailboxId, uid, measured.digest || line.given?.name.emailId || ''),
      modseq,
      savedSeconds: savedNow(seconds),
      deliveryKey: undefined,
      host: hostOfNames,
      fileBytes: end - start,
      size: measured.size,
      flags: noted.flags,
      otherLetters: '',
    };
    const place = { uid, offset, start, end, form, named: false };
    const keywords = spelled(folder, noted.keywords);
    return {
      place,
      keywords,
      digest: measured.digest,
      name: formatMessageName(name),
      flags: noted.flags,
      seconds,
      modseq,
      uid,
      size: measured.size,
    };
  });
  const records: JournalRecord[] = rows.flatMap(({ uid, keywords, modseq }) =>
    keywords.length === 0
      ? []
      : [{ t: 'flags', f: folder.mailboxId, u: String(uid), how: 'add', fl: 0, kw: keywords, m: modseq }],
  );
  const many = inFile || rows.length + folder.taken.count > unnamedMax;
  if (many) {
    records.push({ t: 'coming', f: folder.mailboxId, at: -1, n: 0, c: [] });
  } else {
    const taken = rows.map(({ digest, name }) => [digest, name] as const);
    records.push({ t: 'taken', f: folder.mailboxId, k: taken });
  }
  await folder.commit(...records);
  const places = [...file.places, ...rows.map(({ place }) => place)];
  file.learn(Places.of(places), file.seen!);
  if (many) {
    const lines = new Map<number, { line: Buffer; form: number; text: string }>();
    for (const { place, name } of rows) lines.set(place.uid, await nameForeign(fd, place, name));
    await file.rewrite(
      fd,
      (place) => lines.get(place.uid) ?? {},
      () => folder.check(),
    );
    for (const row of rows) row.name = lines.get(row.uid)!.text;
  } else for (const { digest, name } of rows) folder.taken.add(digest, name);
  host.guard.assert();
  for (const { uid, size, seconds, flags, modseq, name, keywords } of rows) {
    state.add({ uid, size, seconds, flags, modseq, name }, keywords);
    host.usage.bytes += size;
    host.usage.messages++;
  }
  state.uidNext = Math.max(state.uidNext, greatest + 1);
  host.log.info({ event: 'foreign-taken-in', folder: folder.name, count: rows.length }, 'messages taken in');
  folder.emit({ kind: 'added', uids: rows.map(({ uid }) => uid) });
}

/** The same when the message has to be found again after a crash. */
function emailIdFor(mailboxId: string, uid: number, digest: string): string {
  return createHash('sha256').update(`${mailboxId} ${uid} ${digest}`).digest('hex').slice(0, 16);
}

/** As many keywords as the folder may still learn. */
function spelled(folder: MboxFolder, keywords: readonly string[]): readonly string[] {
  try {
    return folder.state.checkKeywords(keywords, folder.host.limits.keywordsPerFolderMax);
  } catch {
    return [];
  }
}
