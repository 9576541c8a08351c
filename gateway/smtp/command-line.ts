/**
 * Command lines out of the client's bytes. Only CR LF ends a line; a bare CR,
 * a bare LF or a NUL is how commands and messages are smuggled past a gateway,
 * so each is a fault of its own and ends the connection (RFC 5321 2.3.8).
 */

export type LineFault = 'too-long' | 'bare-newline' | 'nul-byte';

/** `line` without CR LF, as Latin-1 text; `rest` is what follows. */
export type TakenLine =
  | { readonly line: string; readonly rest: Buffer }
  | { readonly fault: LineFault }
  | 'more';

const cr = 0x0d;
const lf = 0x0a;

/** @param lineBytesMax  Longest line, CR LF included. Longer ones are refused before their end has come. */
export function takeLine(bytes: Buffer, lineBytesMax: number): TakenLine {
  const end = bytes.subarray(0, lineBytesMax).indexOf(lf);
  if (end === -1) return bytes.length >= lineBytesMax ? { fault: 'too-long' } : 'more';
  if (bytes[end - 1] !== cr || bytes.indexOf(cr) !== end - 1) return { fault: 'bare-newline' };
  const line = bytes.toString('latin1', 0, end - 1);
  if (line.includes('\0')) return { fault: 'nul-byte' };
  return { line, rest: bytes.subarray(end + 1) };
}
