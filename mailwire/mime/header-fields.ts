/**
 * Header fields of a message or part (RFC 5322 2.2): one linear pass, a bounded
 * number of fields, and whatever is no field is skipped rather than guessed at.
 */

export interface HeaderField {
  /** Lower case. */
  readonly name: string;
  /** As it stood in the message. */
  readonly writtenName: string;
  /** What follows the colon, still folded, without the last line end; one char per byte. */
  readonly raw: string;
}

/** Bytes of one header that are looked at; what comes after is not parsed. */
export const headerBytesMax = 256 * 1024;
export const headerFieldsMax = 10_000;

/**
 * Splits a header into its fields, in order.
 *
 * @param header  The bytes of a header, with or without the empty line that ends it; lines end in CRLF or LF.
 */
export function parseHeaderFields(header: Buffer): HeaderField[] {
  const text = header.toString('latin1', 0, Math.min(header.length, headerBytesMax));
  const fields: HeaderField[] = [];
  let at = 0;
  while (at < text.length && fields.length < headerFieldsMax) {
    let end = text.indexOf('\n', at);
    if (end < 0) end = text.length;
    if (isEmptyLine(text, at, end)) break;
    // Lines that start with white space continue the field.
    while (end + 1 < text.length && (text[end + 1] === ' ' || text[end + 1] === '\t')) {
      const next = text.indexOf('\n', end + 1);
      end = next < 0 ? text.length : next;
    }
    const colon = text.indexOf(':', at);
    if (colon > at && colon < end) {
      const writtenName = text.slice(at, colon).trimEnd();
      if (writtenName !== '' && writtenName.length <= 998 && !/[\s\u0000-\u001f]/.test(writtenName)) {
        const stop = text[end - 1] === '\r' ? end - 1 : end;
        fields.push({
          name: writtenName.toLowerCase(),
          writtenName,
          raw: text.slice(colon + 1, Math.max(colon + 1, stop)),
        });
      }
    }
    at = end + 1;
  }
  return fields;
}

function isEmptyLine(text: string, at: number, end: number): boolean {
  return end === at || (end === at + 1 && text[at] === '\r');
}

/** The value of the first field with this name (lower case), unfolded and trimmed; one char per byte. */
export function fieldValue(fields: readonly HeaderField[], name: string): string | undefined {
  for (const field of fields) if (field.name === name) return unfold(field.raw);
  return undefined;
}

/** A field's value on one line: line ends go, the white space after them stays (RFC 5322 2.2.3). */
export function unfold(raw: string): string {
  return (raw.includes('\n') || raw.includes('\r') ? raw.replace(/[\r\n]+/g, '') : raw).trim();
}

/**
 * The header of a message's fields `wanted` (or, with `not`, all others), as it stands in `header`, ending in an
 * empty line: BODY[HEADER.FIELDS (…)] (RFC 9051 6.4.5.1).
 *
 * @param wanted  Names in lower case.
 */
export function selectFields(header: Buffer, wanted: ReadonlySet<string>, not: boolean): Buffer {
  const kept: Buffer[] = [];
  let at = 0;
  while (at < header.length) {
    let end = lineEnd(header, at);
    if (end - at <= 2 && (header[at] === 0x0a || (header[at] === 0x0d && header[at + 1] === 0x0a))) break;
    while (end < header.length && (header[end] === 0x20 || header[end] === 0x09)) end = lineEnd(header, end);
    const colon = header.subarray(at, Math.min(end, at + 1000)).indexOf(0x3a);
    if (colon > 0) {
      const name = header
        .toString('latin1', at, at + colon)
        .trimEnd()
        .toLowerCase();
      if (wanted.has(name) !== not) kept.push(header.subarray(at, end));
    } else if (not) {
      kept.push(header.subarray(at, end));
    }
    at = end;
  }
  const last = kept.at(-1);
  if (last !== undefined && last[last.length - 1] !== 0x0a) kept.push(crlf);
  kept.push(crlf);
  return Buffer.concat(kept);
}

const crlf = Buffer.from('\r\n');

function lineEnd(bytes: Buffer, at: number): number {
  const found = bytes.indexOf(0x0a, at);
  return found < 0 ? bytes.length : found + 1;
}
