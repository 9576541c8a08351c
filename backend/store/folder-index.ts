/**
 * `postern-index`: a folder's columns as a file, so that opening a folder of a
 * hundred thousand messages reads one file and not as many names. A cache and
 * nothing else (DESIGN section 2, invariant 8): it is believed only when its
 * checksum is right, the journal ends in the very state it shows, and `cur/`
 * has not been touched since. Otherwise the names are read, as if it were not.
 *
 * Layout, little-endian: 16 bytes (magic, CRC-32 of the rest, bytes of facts),
 * the facts as JSON padded to 8 bytes, then one column after the other, widest
 * first, and the file names without anything between them.
 */
import { endianness } from 'node:os';
import { crc32 } from 'node:zlib';
import { FolderState } from './folder-state.ts';
import type { KeptKey } from './journal-records.ts';
import { KeywordTable } from './keyword-table.ts';
import { MessageColumns } from './message-columns.ts';

export const indexName = 'postern-index';
const magic = 'PostIdx1';
const headBytes = 16;
/** uid, size, seconds, flags, modseq, keyword set, length of the name. */
const rowBytes = 4 + 8 + 4 + 1 + 8 + 2 + 2;
/** The checksum of a large index is computed in slices: the event loop must not wait for a hundred megabytes. */
const sliceBytes = 8 * 1024 * 1024;

export interface FolderIndex {
  readonly state: FolderState;
  /** Deliveries whose senders may come again. */
  readonly keys: readonly KeptKey[];
  /** Time of `cur/` when this was what it held. */
  readonly curMs: number;
  /** Somebody had looked at `cur/` after its last change; else a change of another program may hide behind ours. */
  readonly exact: boolean;
}

interface Facts {
  readonly mailboxId: string;
  readonly uidValidity: number;
  readonly count: number;
  readonly nameBytes: number;
  readonly uidNext: number;
  readonly modseq: number;
  readonly unseen: number;
  readonly bytes: number;
  readonly goneKnownFrom: number;
  readonly keywords: readonly string[];
  readonly combinations: readonly (readonly string[])[];
  readonly settled: readonly (readonly [number, number])[];
  readonly gone: readonly (readonly [string, number])[];
  readonly keys: readonly KeptKey[];
  readonly curMs: number;
  readonly exact: boolean;
}

/** What the journal says a folder is in: an index that shows anything else is not of now. */
export interface IndexedState {
  readonly mailboxId: string;
  readonly uidValidity: number;
  readonly uidNext: number;
  readonly modseq: number;
  readonly bytes: number;
  readonly count: number;
}

/** The parts of the file, in order. They are copies: the folder may change while they are written. */
export async function formatIndex(
  index: FolderIndex,
  where: { readonly mailboxId: string; readonly uidValidity: number },
): Promise<readonly Buffer[]> {
  const { state } = index;
  const { columns } = state;
  const { count } = columns;
  const names = columns.packedNames();
  const facts: Facts = {
    ...where,
    count,
    nameBytes: names.bytes.length,
    uidNext: state.uidNext,
    modseq: state.highestModseq,
    unseen: state.unseenCount,
    bytes: state.sizeBytes,
    goneKnownFrom: state.goneKnownFrom,
    keywords: state.keywords,
    combinations: state.words.combinations(),
    settled: state.settled,
    gone: state.gone,
    keys: index.keys,
    curMs: index.curMs,
    exact: index.exact,
  };
  const text = JSON.stringify(facts);
  const padded = Buffer.from(text + ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8));
  const column = (array: Uint8Array | Uint16Array | Uint32Array | Float64Array): Buffer =>
    Buffer.from(array.buffer.slice(array.byteOffset, array.byteOffset + count * array.BYTES_PER_ELEMENT));
  const parts = [
    padded,
    column(columns.size),
    column(columns.modseq),
    column(columns.uid),
    column(columns.seconds),
    column(columns.keywordSet),
    column(names.lengths),
    column(columns.flags),
    names.bytes,
  ];
  const head = Buffer.alloc(headBytes);
  head.write(magic, 0, 'latin1');
  let sum = 0;
  for (const part of parts) sum = await sumOf(part, sum);
  head.writeUInt32LE(sum, 8);
  head.writeUInt32LE(padded.length, 12);
  return [head, ...parts];
}

/**
 * Makes a folder's state of an index file. The state goes on using the file's memory.
 *
 * @param file  Begins at a multiple of 8 in its memory.
 * @returns `undefined`: damaged, or not of the state the journal ends in.
 */
export async function readIndex(file: Buffer, expected: IndexedState): Promise<FolderIndex | undefined> {
  if (endianness() !== 'LE' || file.length < headBytes || file.byteOffset % 8 !== 0) return undefined;
  if (file.toString('latin1', 0, 8) !== magic) return undefined;
  const factsBytes = file.readUInt32LE(12);
  if (factsBytes % 8 !== 0 || headBytes + factsBytes > file.length) return undefined;
  // The journal's words first: an index of another state costs no checksum.
  const facts = parseFacts(file.toString('utf8', headBytes, headBytes + factsBytes));
  if (facts === undefined || !isOf(facts, expected)) return undefined;
  const { count } = facts;
  if (file.length !== headBytes + factsBytes + count * rowBytes + facts.nameBytes) return undefined;
  if ((await sumOf(file.subarray(headBytes), 0)) !== file.readUInt32LE(8)) return undefined;
  let at = file.byteOffset + headBytes + factsBytes;
  const take = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  const memory = file.buffer as ArrayBuffer;
  const size = new Float64Array(memory, take(count * 8), count);
  const modseq = new Float64Array(memory, take(count * 8), count);
  const uid = new Uint32Array(memory, take(count * 4), count);
  const seconds = new Uint32Array(memory, take(count * 4), count);
  const keywordSet = new Uint16Array(memory, take(count * 2), count);
  const lengths = new Uint16Array(memory, take(count * 2), count);
  const flags = new Uint8Array(memory, take(count), count);
  const bytes = Buffer.from(memory, take(facts.nameBytes), facts.nameBytes);
  const columns = MessageColumns.of(
    { count, uid, size, seconds, flags, modseq, keywordSet },
    { lengths, bytes },
  );
  const words = new KeywordTable();
  for (const keyword of facts.keywords) words.learn(keyword);
  for (const combination of facts.combinations) words.combination(combination);
  const state = new FolderState(columns, words);
  state.uidNext = facts.uidNext;
  state.highestModseq = facts.modseq;
  state.unseenCount = facts.unseen;
  state.sizeBytes = facts.bytes;
  state.goneKnownFrom = facts.goneKnownFrom;
  state.settled.push(...facts.settled);
  state.gone = [...facts.gone];
  return { state, keys: facts.keys, curMs: facts.curMs, exact: facts.exact };
}

function isOf(facts: Facts, expected: IndexedState): boolean {
  return (
    facts.mailboxId === expected.mailboxId &&
    facts.uidValidity === expected.uidValidity &&
    facts.uidNext === expected.uidNext &&
    facts.modseq === expected.modseq &&
    facts.bytes === expected.bytes &&
    facts.count === expected.count
  );
}

function parseFacts(text: string): Facts | undefined {
  try {
    return JSON.parse(text) as Facts;
  } catch {
    return undefined;
  }
}

async function sumOf(data: Buffer, before: number): Promise<number> {
  let sum = before;
  for (let at = 0; at < data.length; at += sliceBytes) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve));
    sum = crc32(data.subarray(at, at + sliceBytes), sum);
  }
  return sum;
}
