/**
 * Finds the messages of an mbox. `Content-Length` is not believed: a wrong one
 * would hide messages or cut them. A message ends where, behind an empty line,
 * the next `From ` line stands, or where the file ends.
 */
import { createHash } from 'node:crypto';
import { readAt } from '../files.ts';
import { type FromLine, fromLineBytesMax, parseFromLine } from './from-line.ts';
import { toView } from './line-rewriter.ts';
import { headerBytesMax, stateLinesOf } from './state-lines.ts';
import { formBit, type StoredForm } from './stored-form.ts';

const sliceBytes = 256 * 1024;
const lf = 10;
const cr = 13;
const from = Buffer.from('From ');

export interface FoundMessage {
  /** Where its `From ` line begins. */
  readonly offset: number;
  /** Where its header begins. */
  readonly start: number;
  /** Behind its last byte; the empty line that parts it from the next is not its own. */
  readonly end: number;
  readonly line: FromLine;
}

/**
 * @param start  Where a message begins, or the file.
 * @returns messages in order. What stands before the first `From ` line belongs to none.
 */
export async function* scanMbox(fd: number, start: number, end: number): AsyncGenerator<FoundMessage> {
  let current: Omit<FoundMessage, 'end'> | undefined;
  /** Position of the first byte of `data` in the file. */
  let base = start;
  let data: Buffer = Buffer.alloc(0);
  let looked = 0;
  for (;;) {
    const at = data.indexOf(from, looked);
    const lineEnd = at < 0 ? -1 : data.indexOf(lf, at);
    const readAll = base + data.length >= end;
    if (at < 0 || (lineEnd < 0 && data.length - at < fromLineBytesMax && !readAll)) {
      if (readAll) break;
      // Of what was looked through, the end may be the beginning of what comes.
      const kept = at < 0 ? Math.max(0, data.length - 8) : Math.max(0, at - 4);
      const more = await readAt(fd, base + data.length, Math.min(sliceBytes, end - base - data.length));
      if (more.length === 0) break;
      looked = Math.max(0, (at < 0 ? Math.max(looked, data.length - 4) : at) - kept);
      data = Buffer.concat([data.subarray(kept), more]);
      base += kept;
      continue;
    }
    looked = at + from.length;
    const gap = gapBefore(data, at, base + at === start);
    if (gap === undefined || lineEnd < 0 || lineEnd - at >= fromLineBytesMax) continue;
    const line = parseFromLine(data.toString('latin1', at, lineEnd));
    if (line === undefined) continue;
    const offset = base + at;
    if (current) yield { ...current, end: Math.max(current.start, offset - gap) };
    current = { offset, start: base + lineEnd + 1, line };
    looked = lineEnd + 1;
  }
  if (current) yield { ...current, end: await withoutGap(fd, current.start, end) };
}

/** Bytes of the empty line before a `From ` line; `undefined`: there is none. */
function gapBefore(data: Buffer, at: number, isFirst: boolean): number | undefined {
  if (isFirst) return 0;
  if (at < 2 || data[at - 1] !== lf) return undefined;
  if (data[at - 2] === lf) return 1;
  return data[at - 2] === cr && at >= 3 && data[at - 3] === lf ? 2 : undefined;
}

/** The empty line at the end of an mbox is not the last message's. */
async function withoutGap(fd: number, start: number, end: number): Promise<number> {
  const tail = await readAt(fd, Math.max(start - 1, end - 3), Math.min(3, end - start + 1));
  const text = tail.toString('latin1');
  if (text.endsWith('\n\r\n')) return end - 2;
  return text.endsWith('\n\n') ? end - 1 : end;
}

export interface Measured {
  /** Bytes as a client sees it. */
  readonly size: number;
  /** 32 hex digits, of the bytes a client sees. */
  readonly digest: string;
  /** What other programs noted in its header. */
  readonly state: ReadonlyMap<string, string>;
}

/** Form of messages that other programs wrote. */
export const foreignForm: StoredForm = formBit.foreign | formBit.hidesState;

/** Reads a message through. @param hidesState  Lines of state in its header are another program's. */
export async function measureMessage(
  fd: number,
  { start, end }: { readonly start: number; readonly end: number },
  form: StoredForm,
  hidesState: boolean,
): Promise<Measured> {
  const hash = createHash('sha256');
  const view = toView(form, hidesState);
  let size = 0;
  let state: ReadonlyMap<string, string> = new Map();
  const take = (bytes: Buffer): void => {
    hash.update(bytes);
    size += bytes.length;
  };
  for (let at = start; at < end; ) {
    const bytes = await readAt(fd, at, Math.min(sliceBytes, end - at));
    if (bytes.length === 0) break;
    if (at === start) state = stateLinesOf(bytes.toString('latin1', 0, headerBytesMax));
    at += bytes.length;
    take(view.push(bytes));
  }
  take(view.end());
  return { size, digest: hash.digest('hex').slice(0, 32), state };
}
