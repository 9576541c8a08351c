/**
 * Rewrites an mbox in place, all or nothing. The new bytes are written into a
 * file beside it first; when that is durable the rewriting has happened, and a
 * crash only means that it is done once more. In place, because a program that
 * waits for the lock of the old file would append to what nobody reads if a
 * new file took its name.
 *
 * Layout of `mbox-rewrite`: a block with the facts as JSON behind their CRC-32,
 * then what stands in the mbox from `from` on.
 */
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { Fault } from '../../../base/fault.ts';
import {
  closeFile,
  closeLater,
  dataSync,
  openFile,
  readAt,
  renameFile,
  syncDirectory,
  truncateFile,
  unlinkFile,
  writeAt,
} from '../files.ts';
import { sizeOf } from './seen-file.ts';

export const rewriteName = 'mbox-rewrite';
const headBytes = 4096;
const sliceBytes = 256 * 1024;

interface Facts {
  /** What is before this stays. */
  readonly from: number;
  /** Bytes of the mbox before: what is beyond came later, from another program. */
  readonly oldSize: number;
  readonly newSize: number;
}

/**
 * @param fd  The mbox, locked. @param from  What is before this stays.
 * @param pieces  What is to stand from there on.
 * @param mayAct  @throws when nothing may be written any more.
 * @returns its size then. @throws `no-space` when the log has no room: nothing has happened then.
 */
export async function rewriteMbox(
  directory: string,
  fd: number,
  from: number,
  pieces: AsyncIterable<Buffer>,
  mayAct: () => void,
): Promise<number> {
  const log = path.join(directory, rewriteName);
  const oldSize = await sizeOf(fd);
  const out = await openFile(`${log}.tmp`, 'w+');
  try {
    let at = headBytes;
    for await (const bytes of gathered(pieces)) {
      await writeAt(out, bytes, at);
      at += bytes.length;
    }
    const facts: Facts = { from, oldSize, newSize: from + at - headBytes };
    await writeAt(out, formatHead(facts), 0);
    await dataSync(out);
    mayAct();
    await renameFile(`${log}.tmp`, log);
    await syncDirectory(directory);
    mayAct();
    await apply(fd, out, facts);
    await unlinkFile(log);
    await syncDirectory(directory);
    return facts.newSize;
  } catch (error) {
    await unlinkFile(`${log}.tmp`).catch(() => {});
    throw error;
  } finally {
    await closeFile(out);
  }
}

/** Does what a crash kept from being done. @param fd  The mbox, locked. @returns false: there was nothing. */
export async function finishRewrite(directory: string, fd: number, mayAct: () => void): Promise<boolean> {
  const log = path.join(directory, rewriteName);
  const from = await openFile(log, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (from === undefined) return false;
  try {
    let facts = parseHead(await readAt(from, 0, headBytes));
    if (facts === undefined || (await sizeOf(from)) < headBytes + facts.newSize - facts.from) {
      throw new Fault('storage-damaged', 'the record of the rewriting of an mbox is damaged', {
        detail: { log },
      });
    }
    mayAct();
    const tail = await foreignTail(fd, from, facts);
    if (tail !== undefined) {
      const end = headBytes + facts.newSize - facts.from;
      await writeAt(from, tail, end);
      facts = { ...facts, oldSize: await sizeOf(fd), newSize: facts.newSize + tail.length };
      await dataSync(from);
      await writeAt(from, formatHead(facts), 0);
      await dataSync(from);
    }
    await apply(fd, from, facts);
    await unlinkFile(log);
    await syncDirectory(directory);
    return true;
  } finally {
    closeLater(from);
  }
}

async function apply(mbox: number, log: number, { from, newSize }: Facts): Promise<void> {
  for (let at = from; at < newSize; ) {
    const bytes = await readAt(log, headBytes + at - from, Math.min(sliceBytes, newSize - at));
    if (bytes.length === 0) throw new Fault('storage-damaged', 'the record of a rewriting is cut short');
    await writeAt(mbox, bytes, at);
    at += bytes.length;
  }
  await truncateFile(mbox, newSize);
  await dataSync(mbox);
}

/** What another program appended between the crash and now: at most as much as mail programs deliver meanwhile. */
const tailBytesMax = 1024 * 1024 * 1024;

async function foreignTail(mbox: number, log: number, facts: Facts): Promise<Buffer | undefined> {
  const size = await sizeOf(mbox);
  if (size <= facts.oldSize) return undefined;
  if (size - facts.oldSize > tailBytesMax) {
    throw new Fault(
      'storage-damaged',
      'too much was appended to an mbox after a crash; it must be looked at',
    );
  }
  const there = await readAt(mbox, facts.oldSize, size - facts.oldSize);
  const ours = await readAt(
    log,
    headBytes + facts.oldSize - facts.from,
    Math.max(0, Math.min(there.length, facts.newSize - facts.oldSize)),
  );
  // A file that was to become longer may be so in part, with our bytes or with none yet.
  let at = 0;
  while (at < there.length && (there[at] === 0 || there[at] === ours[at])) at++;
  if (at === there.length) return undefined;
  return there.subarray(at < ours.length ? there.lastIndexOf(10, at) + 1 : ours.length);
}

async function* gathered(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < sliceBytes) continue;
    yield Buffer.concat(waiting);
    waiting = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(waiting);
}

function formatHead(facts: Facts): Buffer {
  const text = JSON.stringify(facts);
  const head = Buffer.alloc(headBytes, 0x20);
  head.write(`${crc32(text).toString(16).padStart(8, '0')} ${text}\n`, 0, 'latin1');
  return head;
}

function parseHead(head: Buffer): Facts | undefined {
  const line = head.toString('latin1', 0, Math.max(0, head.indexOf(10)));
  const text = line.slice(9);
  if (Number.parseInt(line.slice(0, 8), 16) !== crc32(text)) return undefined;
  try {
    return JSON.parse(text) as Facts;
  } catch {
    return undefined;
  }
}
