/**
 * `mbox-index`: where the messages of an mbox stand and what is known of them,
 * so that opening it does not read it from end to end. A cache and nothing else:
 * believed only when its checksums are right, the journal ends in the state it
 * shows, and the mbox has not been touched since.
 *
 * Layout: 512 bytes with facts as JSON behind the CRC-32 of the places, the
 * places as columns, then what a Maildir folder has for an index.
 */
import { endianness } from 'node:os';
import { crc32 } from 'node:zlib';
import { closeFile, openFile, readSmall, renameFile, statFile, unlinkFile, writeAt } from '../files.ts';
import { formatIndex, readIndex } from '../folder-index.ts';
import type { FolderMeta } from '../folder-meta.ts';
import { type FolderState, keyKeptSeconds, type ReplayFindings } from '../folder-state.ts';
import type { JournalRecord } from '../journal-records.ts';
import { addRange, inRanges, rangesOf } from '../uid-set.ts';
import { mboxName } from './mbox-file.ts';
import type { MboxFolder } from './mbox-folder.ts';
import { Places } from './places.ts';
import { type SeenFile, sameFile, seenOf } from './seen-file.ts';

export const mboxIndexName = 'mbox-index';
const headBytes = 512;
/** offset, start, end, uid, form */
const rowBytes = 3 * 8 + 4 + 1;
/** Smaller ones are read through as fast. */
const indexedBytesMin = 256 * 1024;
const indexBytesMax = 1024 * 1024 * 1024;

interface Facts {
  readonly seen: SeenFile;
  readonly count: number;
}

export async function readMboxIndex(
  directory: string,
  meta: FolderMeta,
  records: readonly JournalRecord[],
): Promise<{ state: FolderState; findings: ReplayFindings; places: Places; seen: SeenFile } | undefined> {
  const cleanAt = records.findLastIndex((record) => record.t === 'clean');
  const clean = records[cleanAt];
  const after = records.slice(cleanAt + 1);
  if (clean?.t !== 'clean' || endianness() !== 'LE') return undefined;
  if (after.some((record) => record.t !== 'settled' && record.t !== 'purged')) return undefined;
  const file = await readFile(`${directory}/${mboxIndexName}`);
  const head = file && parseHead(file);
  if (!file || !head || !sameFile(head.facts.seen, await seenOf(`${directory}/${mboxName}`)))
    return undefined;
  const { count, seen } = head.facts;
  const end = headBytes + padded(count * rowBytes);
  if (file.length < end || crc32(file.subarray(headBytes, end)) !== head.sum) return undefined;
  const index = await readIndex(file.subarray(end), {
    mailboxId: meta.mailboxId,
    uidValidity: meta.uidValidity,
    uidNext: clean.n,
    modseq: clean.m,
    bytes: clean.b,
    count: clean.c,
  });
  if (!index || index.state.columns.count !== count) return undefined;
  const { state } = index;
  for (const record of after) {
    if (record.t !== 'settled') continue;
    for (const range of rangesOf(record.u)) addRange(state.settled, ...range);
    state.uidNext = Math.max(state.uidNext, record.n);
  }
  const since = Math.floor(Date.now() / 1000) - keyKeptSeconds;
  const keys = index.keys.filter(([, uid, seconds]) => seconds > since && !inRanges(state.settled, uid));
  const findings = { unlink: [], foreign: [], purge: undefined, unclean: false, keys, unshown: [] };
  return { state, findings, places: placesIn(file, count), seen };
}

function placesIn(file: Buffer, count: number): Places {
  const memory = file.buffer as ArrayBuffer;
  let at = file.byteOffset + headBytes;
  const take = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  return Object.assign(new Places(), {
    count,
    offset: new Float64Array(memory, take(count * 8), count),
    start: new Float64Array(memory, take(count * 8), count),
    end: new Float64Array(memory, take(count * 8), count),
    uid: new Uint32Array(memory, take(count * 4), count),
    form: new Uint8Array(memory, take(count), count),
  });
}

/** Writes the index of a folder whose journal says that it is clean. Without a sync: its checksums tell. */
export async function saveMboxIndex(folder: MboxFolder): Promise<void> {
  const { state, host, file } = folder;
  if (folder.unclean || folder.late.behind || folder.removed || !file.seen) return;
  if (file.seen.size < indexedBytesMin || !(await file.isSame())) return;
  if (folder.indexed === state.highestModseq || file.places.count !== state.columns.count) return;
  const { count, offset, start, end, uid, form } = file.places;
  const bytes = (array: Float64Array | Uint32Array | Uint8Array): Buffer =>
    Buffer.from(array.buffer.slice(array.byteOffset, array.byteOffset + count * array.BYTES_PER_ELEMENT));
  const places = Buffer.concat([offset, start, end, uid, form].map(bytes), padded(count * rowBytes));
  const facts: Facts = { seen: file.seen, count };
  const parts = await formatIndex(
    { state, keys: host.keys.of(folder.mailboxId), curMs: 0, exact: true },
    { mailboxId: folder.mailboxId, uidValidity: folder.uidValidity },
  );
  const name = `${folder.directory}/${mboxIndexName}`;
  try {
    const fd = await openFile(`${name}.tmp`, 'w');
    try {
      let at = 0;
      for (const part of [formatHead(facts, crc32(places)), places, ...parts]) {
        await writeAt(fd, part, at);
        at += part.length;
      }
    } finally {
      await closeFile(fd);
    }
    host.mayFinish();
    await renameFile(`${name}.tmp`, name);
  } catch (error) {
    await unlinkFile(`${name}.tmp`).catch(() => {});
    host.log.info({ event: 'index-not-written', folder: folder.name, err: error }, 'index not written');
  }
}

async function readFile(name: string): Promise<Buffer | undefined> {
  try {
    const { size } = await statFile(name);
    return size > indexBytesMax ? undefined : await readSmall(name, size);
  } catch {
    // Missing or not readable: the mbox says it all.
    return undefined;
  }
}

const padded = (bytes: number): number => Math.ceil(bytes / 8) * 8;

function formatHead(facts: Facts, sum: number): Buffer {
  const head = Buffer.alloc(headBytes, 0x20);
  head.write(`${sum.toString(16).padStart(8, '0')} ${JSON.stringify(facts)}\n`, 0, 'latin1');
  return head;
}

function parseHead(file: Buffer): { readonly facts: Facts; readonly sum: number } | undefined {
  const line = file.toString('latin1', 0, Math.min(headBytes, Math.max(0, file.indexOf(10))));
  try {
    return { sum: Number.parseInt(line.slice(0, 8), 16), facts: JSON.parse(line.slice(9)) as Facts };
  } catch {
    return undefined;
  }
}
