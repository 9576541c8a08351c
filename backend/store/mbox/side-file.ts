/**
 * Beside an mbox: which UID each of its messages has, known again by place and
 * digest. Lines of JSON behind their CRC-32, replaced as a whole when messages
 * go and extended when one comes. An entry is written before the message is, so
 * that what a crash tore is known for what it is.
 */
import fs from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import {
  closeFile,
  dataSync,
  openFile,
  readWhole,
  renameFile,
  statFile,
  syncDirectory,
  writeAt,
} from '../files.ts';

export interface MboxEntry {
  readonly uid: number;
  /** Of its `From ` line, its header, and behind its last byte. */
  readonly offset: number;
  readonly start: number;
  readonly end: number;
  readonly digest: string;
  /** Bytes as a client sees it. */
  readonly size: number;
  readonly seconds: number;
  /** Who wrote it, and how its lines ended: what is needed to give back the very bytes. */
  readonly form: 'foreign' | 'crlf' | 'raw';
  readonly openEnd: boolean;
  /** Lines of state in the header are another program's. false: the message came with such lines itself. */
  readonly hidesState: boolean;
}

/** What the file system says of the mbox this is about. Text: nanoseconds and inodes exceed what numbers hold. */
export interface SeenMbox {
  readonly size: number;
  readonly mtimeNs: string;
  readonly ino: string;
}

export interface SideState {
  readonly uidValidity: number;
  readonly uidNext: number;
  readonly entries: readonly MboxEntry[];
  /** Absent: the mbox has changed since. */
  readonly seen: SeenMbox | undefined;
  /** The last entry was announced and may not be there whole; the mbox had so many bytes before. */
  readonly announced: { readonly entry: MboxEntry; readonly before: number } | undefined;
}

type Line =
  | { readonly t: 'mbox'; readonly v: 1; readonly uv: number; readonly n: number }
  | { readonly t: 'entry'; readonly e: MboxEntry }
  | { readonly t: 'coming'; readonly e: MboxEntry; readonly before: number }
  | { readonly t: 'seen'; readonly s: SeenMbox };

export async function seenOf(mbox: string): Promise<SeenMbox> {
  const stats = await new Promise<fs.BigIntStats>((resolve, reject) =>
    fs.stat(mbox, { bigint: true }, (error, found) => (error ? reject(error) : resolve(found))),
  );
  return { size: Number(stats.size), mtimeNs: String(stats.mtimeNs), ino: String(stats.ino) };
}

export function sameMbox(a: SeenMbox | undefined, b: SeenMbox | undefined): boolean {
  return (
    a !== undefined && b !== undefined && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ino === b.ino
  );
}

/** `undefined`: there is none, or its first line is not good. Damaged lines further on cost their entries. */
export async function readSide(file: string): Promise<SideState | undefined> {
  const text = (await readWhole(file))?.toString();
  if (text === undefined) return undefined;
  let uidValidity = 0;
  let uidNext = 1;
  const entries: MboxEntry[] = [];
  let seen: SeenMbox | undefined;
  let announced: SideState['announced'];
  for (const [index, raw] of text.split('\n').entries()) {
    const line = parseLine(raw);
    if (!line) {
      if (index === 0) return undefined;
      continue;
    }
    if (line.t === 'mbox') ({ uv: uidValidity, n: uidNext } = line);
    if (line.t === 'entry' || line.t === 'coming') {
      entries.push(line.e);
      uidNext = Math.max(uidNext, line.e.uid + 1);
      seen = undefined;
    }
    if (line.t === 'coming') announced = { entry: line.e, before: line.before };
    if (line.t === 'seen') {
      seen = line.s;
      announced = undefined;
    }
  }
  return uidValidity > 0 ? { uidValidity, uidNext, entries, seen, announced } : undefined;
}

/** Replaces the file, durably. */
export async function writeSide(file: string, state: Omit<SideState, 'announced'>): Promise<void> {
  const temporary = `${file}.tmp`;
  const fd = await openFile(temporary, 'w');
  try {
    let text = lineOf({ t: 'mbox', v: 1, uv: state.uidValidity, n: state.uidNext });
    let at = 0;
    const put = async (): Promise<void> => {
      const data = Buffer.from(text);
      text = '';
      await writeAt(fd, data, at);
      at += data.length;
    };
    for (const entry of state.entries) {
      text += lineOf({ t: 'entry', e: entry });
      if (text.length > 1 << 20) await put();
    }
    if (state.seen) text += lineOf({ t: 'seen', s: state.seen });
    await put();
    await dataSync(fd);
  } finally {
    await closeFile(fd);
  }
  await renameFile(temporary, file);
  await syncDirectory(path.dirname(file));
}

/** Announces a message before it is written, durably. */
export function announce(file: string, entry: MboxEntry, before: number): Promise<void> {
  return extend(file, { t: 'coming', e: entry, before }, true);
}

/** The announced message is there. Losing this costs a look at the mbox. */
export function confirm(file: string, seen: SeenMbox): Promise<void> {
  return extend(file, { t: 'seen', s: seen }, false);
}

async function extend(file: string, line: Line, durable: boolean): Promise<void> {
  const { size } = await statFile(file);
  const fd = await openFile(file, 'r+');
  try {
    await writeAt(fd, Buffer.from(lineOf(line)), size);
    if (durable) await dataSync(fd);
  } finally {
    await closeFile(fd);
  }
}

function lineOf(line: Line): string {
  const text = JSON.stringify(line);
  return `${crc32(text).toString(16).padStart(8, '0')} ${text}\n`;
}

function parseLine(raw: string): Line | undefined {
  const text = raw.slice(9);
  if (raw[8] !== ' ' || crc32(text) !== Number.parseInt(raw.slice(0, 8), 16)) return undefined;
  try {
    return JSON.parse(text) as Line;
  } catch {
    return undefined;
  }
}
