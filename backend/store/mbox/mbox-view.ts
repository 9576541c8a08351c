/**
 * A message of an mbox as a client sees it: quotes taken off, line ends as they
 * came or CRLF, without the lines in which other programs keep their state.
 */
import { linesOf } from './lines.ts';
import { HeaderLines } from './message-scan.ts';
import { hasQuote } from './quoting.ts';
import type { MboxEntry } from './side-file.ts';

const crlf = Buffer.from('\r\n');

export async function* viewPieces(fd: number, entry: MboxEntry): AsyncGenerator<Buffer> {
  const header = entry.hidesState ? new HeaderLines() : undefined;
  let left = entry.size;
  for await (const { bytes, first, whole } of linesOf(fd, entry.start, entry.end)) {
    if (header?.isState(bytes, first)) continue;
    let piece = first && hasQuote(bytes) ? bytes.subarray(1) : bytes;
    if (whole && endsWithLf(entry, piece)) piece = Buffer.concat([piece.subarray(0, -1), crlf]);
    // An end that was not the message's own is beyond its size.
    const shown = piece.length > left ? piece.subarray(0, left) : piece;
    left -= shown.length;
    if (shown.length > 0) yield shown;
  }
}

/** Was this line's end made an LF, or is it shown as CRLF anyway? */
function endsWithLf({ form }: MboxEntry, line: Buffer): boolean {
  return form === 'crlf' || (form === 'foreign' && line[line.length - 2] !== 13);
}
