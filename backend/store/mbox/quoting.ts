/**
 * mboxrd: a body line that is `From ` behind any number of `>` gets one `>`
 * more on its way in and loses one on its way out, so that every text comes
 * back as it was. (The other mbox dialects lose bytes; RFC 4155 appendix A.)
 */
import { type LinePiece, linesOf } from './lines.ts';

const quote = 0x3e;
const quoteByte = Buffer.from('>');
const lf = Buffer.from('\n');
const from = Buffer.from('From ');

/** Does a line begin with `From ` behind so many `>`s or more? */
function quotedFrom(line: Buffer, atLeast: number): boolean {
  let at = 0;
  while (line[at] === quote) at++;
  return at >= atLeast && line.subarray(at, at + from.length).equals(from);
}

/** The line must be quoted before it goes into an mbox. */
export function needsQuote(line: Buffer): boolean {
  return quotedFrom(line, 0);
}

/** The line in an mbox has a quote that is not its own. */
export function hasQuote(line: Buffer): boolean {
  return line[0] === quote && quotedFrom(line, 1);
}

/** How a message of ours stands in the file. */
export interface StoredForm {
  /** `crlf`: all lines ended with CRLF, and end with LF in the file. `raw`: line ends are as they came. */
  readonly ends: 'crlf' | 'raw';
  /** The last line had no end, and got an LF in the file. */
  readonly openEnd: boolean;
}

/** Looks through a message in a file. */
export async function formOf(fd: number, size: number): Promise<StoredForm> {
  let ends: 'crlf' | 'raw' = 'crlf';
  let last = 0;
  for await (const { bytes, whole } of linesOf(fd, 0, size)) {
    if (whole && !endsWithCrlf(bytes)) ends = 'raw';
    last = bytes[bytes.length - 1]!;
  }
  // A CR at the very end would be taken for half of a line's end.
  if (last === 13) ends = 'raw';
  return { ends, openEnd: last !== 10 };
}

function endsWithCrlf(line: Buffer): boolean {
  return line.length > 1 && line[line.length - 2] === 13;
}

/** A message in a file as it is to stand in an mbox, between its `From ` line and the empty line behind it. */
export async function* storedPieces(fd: number, size: number, form: StoredForm): AsyncGenerator<LinePiece> {
  for await (const piece of linesOf(fd, 0, size)) {
    let { bytes } = piece;
    if (form.ends === 'crlf' && piece.whole) bytes = Buffer.concat([bytes.subarray(0, -2), lf]);
    if (piece.first && needsQuote(bytes)) bytes = Buffer.concat([quoteByte, bytes]);
    yield { ...piece, bytes };
  }
  if (form.openEnd) yield { at: size, bytes: lf, first: false, whole: true };
}
