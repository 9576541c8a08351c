/**
 * `dovecot-uidlist`, where Dovecot keeps the UIDs of a Maildir folder: version 3
 * (since 1.1) and version 1. Read in slices, since a folder of a million
 * messages has a list of a hundred megabytes; written the same way.
 *
 *   3 V<uidvalidity> N<next uid> G<mailbox guid>
 *   <uid> [<letter><value> …] :<file name without ":2,…">
 *
 * (doc.dovecot.org, "Maildir mailbox format", uidlist.)
 */
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import { closeLater, dataSync, openFile, readAt, renameFile, unlinkFile, writeAt } from '../files.ts';

export const uidListName = 'dovecot-uidlist';
/** What becomes of Dovecot's list once every UID of it stands in a file name. */
export const takenUidListName = 'dovecot-uidlist.taken-over';

const sliceBytes = 1024 * 1024;
const lineBytesMax = 4096;
const uidMax = 0xfffffffe;

export interface UidListHeader {
  readonly uidValidity: number;
  /** At least one more than the greatest UID of the list. */
  readonly uidNext: number;
  /** Of the mailbox, 32 hex digits. */
  readonly guid: string | undefined;
}

export interface UidListEntry {
  readonly uid: number;
  /** File name up to `:2,`: what Dovecot knows a message by. */
  readonly base: string;
  /** Fields between UID and name, as `W1394 P00000001`; empty for none. */
  readonly fields: string;
}

export interface UidList extends UidListHeader {
  readonly entries: readonly UidListEntry[];
  /** Lines that say nothing; a crash of Dovecot leaves a torn last one. */
  readonly badLines: number;
}

/** `undefined`: there is none, or its first line is not that of a list. Errors of the file system are thrown. */
export async function readUidList(file: string): Promise<UidList | undefined> {
  let fd: number;
  try {
    fd = await openFile(file, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return await readOpen(fd);
  } finally {
    closeLater(fd);
  }
}

async function readOpen(fd: number): Promise<UidList | undefined> {
  let header: (UidListHeader & { readonly version: number }) | undefined;
  /** By base name: the same file listed again has been given a new UID. */
  const entries = new Map<string, UidListEntry>();
  let badLines = 0;
  let rest = Buffer.alloc(0);
  let skipping = false;
  for (let at = 0; ; ) {
    const raw = await readAt(fd, at, sliceBytes);
    at += raw.length;
    const data = rest.length === 0 ? raw : Buffer.concat([rest, raw]);
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; start = end + 1, end = data.indexOf(10, start)) {
      const line = data.toString('latin1', start, end);
      if (skipping) skipping = false;
      else if (header === undefined) {
        header = parseHeader(line);
        if (header === undefined) return undefined;
      } else if (line !== '') {
        const entry = parseEntry(line, header.version);
        if (entry) entries.set(entry.base, entry);
        else badLines++;
      }
    }
    rest = Buffer.from(data.subarray(start));
    if (rest.length > lineBytesMax) {
      badLines++;
      skipping = true;
      rest = Buffer.alloc(0);
    }
    if (raw.length < sliceBytes) break;
  }
  if (header === undefined) return undefined;
  if (rest.length > 0) badLines++;
  let uidNext = header.uidNext;
  for (const { uid } of entries.values()) uidNext = Math.max(uidNext, uid + 1);
  return {
    uidValidity: header.uidValidity,
    uidNext,
    guid: header.guid,
    entries: [...entries.values()],
    badLines,
  };
}

function parseHeader(line: string): (UidListHeader & { readonly version: number }) | undefined {
  const old = /^1 (\d{1,10}) (\d{1,10})$/.exec(line);
  const values = old
    ? { V: old[1]!, N: old[2]! }
    : line.startsWith('3 ')
      ? fieldsOf(line.slice(2).split(' '))
      : undefined;
  const uidValidity = Number(values?.V);
  const uidNext = Number(values?.N);
  if (!isUid(uidValidity) || !isUid(uidNext)) return undefined;
  const guid = (values as { G?: string }).G;
  return {
    version: old ? 1 : 3,
    uidValidity,
    uidNext,
    guid: guid !== undefined && /^[0-9a-f]{32}$/.test(guid) ? guid : undefined,
  };
}

function fieldsOf(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(words.filter((word) => word !== '').map((word) => [word[0]!, word.slice(1)]));
}

function parseEntry(line: string, version: number): UidListEntry | undefined {
  const space = line.indexOf(' ');
  const uid = Number(line.slice(0, space));
  const colon = version === 1 ? space : line.indexOf(' :', space);
  if (space < 1 || colon < 0 || !/^\d{1,10}$/.test(line.slice(0, space)) || !isUid(uid)) return undefined;
  const base = baseOf(line.slice(version === 1 ? space + 1 : colon + 2));
  if (base === '' || base.includes('/')) return undefined;
  return { uid, base, fields: version === 1 || colon <= space ? '' : line.slice(space + 1, colon) };
}

function isUid(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && value <= uidMax;
}

/** A Maildir file's name without its flags. */
export function baseOf(name: string): string {
  const colon = name.indexOf(':');
  return colon < 0 ? name : name.slice(0, colon);
}

/**
 * Writes a list of version 3, durably but for the directory. As a whole: Dovecot finds the old one or this one.
 * @param entries  Ascending UIDs.
 */
export async function writeUidList(
  directory: string,
  header: UidListHeader,
  entries: Iterable<UidListEntry>,
): Promise<void> {
  const file = path.join(directory, uidListName);
  const temporary = `${file}.postern-tmp`;
  const fd = await openFile(temporary, 'w');
  try {
    const guid = header.guid === undefined ? '' : ` G${header.guid}`;
    let text = `3 V${header.uidValidity} N${header.uidNext}${guid}\n`;
    let at = 0;
    const put = async (): Promise<void> => {
      const data = Buffer.from(text, 'latin1');
      text = '';
      await writeAt(fd, data, at);
      at += data.length;
    };
    for (const { uid, fields, base } of entries) {
      text += fields === '' ? `${uid} :${base}\n` : `${uid} ${fields} :${base}\n`;
      if (text.length > sliceBytes) await put();
    }
    await put();
    await dataSync(fd);
    await renameFile(temporary, file);
  } catch (error) {
    await unlinkFile(temporary).catch(() => {});
    throw error;
  } finally {
    closeLater(fd);
  }
}
