/**
 * Finds the messages of an mbox. `Content-Length` is not believed: a wrong one
 * would hide messages or cut them. A message ends where, behind an empty line,
 * the next `From ` line stands, or where the file ends.
 */
import { fromLineBytesMax, parseFromLine } from './from-line.ts';
import { linesOf } from './lines.ts';
import { MessageScan, type ScannedMessage } from './message-scan.ts';

export interface FoundMessage extends ScannedMessage {
  /** Where its `From ` line begins. */
  readonly offset: number;
  /** Where its header begins. */
  readonly start: number;
  /** Behind its last byte; the empty line that parts it from the next is not its own. */
  readonly end: number;
  /** Arrival, seconds since 1970. */
  readonly seconds: number;
}

/**
 * @param from  Where a message begins, or the file.
 * @returns messages in order. What stands before the first `From ` line belongs to none.
 */
export async function* scanMbox(fd: number, from: number, end: number): AsyncGenerator<FoundMessage> {
  let current: { offset: number; start: number; seconds: number; scan: MessageScan } | undefined;
  /** An empty line that may be the one before a `From ` line. */
  let held: Buffer | undefined;
  let textEnd = from;
  let afterEmpty = true;
  for await (const { at, bytes, first, whole } of linesOf(fd, from, end)) {
    const seconds =
      first && afterEmpty && whole && bytes.length <= fromLineBytesMax
        ? parseFromLine(bytes.toString('latin1'))
        : undefined;
    if (seconds !== undefined) {
      if (current) yield found(current, textEnd);
      current = { offset: at, start: at + bytes.length, seconds, scan: new MessageScan() };
      textEnd = at + bytes.length;
      held = undefined;
      afterEmpty = false;
      continue;
    }
    if (held) {
      current?.scan.push(held, true, true);
      textEnd = at;
      held = undefined;
    }
    afterEmpty = first && whole && (bytes.length === 1 || (bytes.length === 2 && bytes[0] === 13));
    if (afterEmpty) held = Buffer.from(bytes);
    else {
      current?.scan.push(bytes, first, whole);
      textEnd = at + bytes.length;
    }
  }
  if (current) yield found(current, textEnd);
}

function found(
  { offset, start, seconds, scan }: { offset: number; start: number; seconds: number; scan: MessageScan },
  end: number,
): FoundMessage {
  return { offset, start, end, seconds, ...scan.finish() };
}
