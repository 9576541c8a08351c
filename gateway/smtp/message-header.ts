/**
 * The header of a message as its bytes stand: where it ends, what its fields
 * are called and say, and the same header with some fields taken out.
 */
import type { FieldMatch } from '../plugins/api.ts';

const LF = 0x0a;

/**
 * How many bytes of a message are its header: up to and with the empty line, or up to the first line that
 * is no field and no continuation. A first line `From …` (mbox) counts to the header.
 */
export function headerExtent(bytes: Buffer): number {
  let at = 0;
  while (at < bytes.length) {
    const lf = bytes.indexOf(LF, at);
    const end = lf === -1 ? bytes.length : lf + 1;
    const line = bytes.toString('latin1', at, Math.min(end, at + 1000));
    if (line === '\r\n') return end;
    const field = /^(?:[!-9;-~]{1,997}[ \t]*:|[ \t])/.test(line) || line.length === 1000;
    if (!field && !(at === 0 && /^>?From /.test(line)) && lf !== -1) return at;
    at = end;
  }
  return bytes.length;
}

const fieldsPerNameMax = 100;
const namesMax = 2000;

interface Field {
  readonly name: string;
  /** Its lines as they stand, without the last CR LF. */
  readonly lines: readonly string[];
}

/** Fields in order; lines that belong to none (`From …` of an mbox) have an empty name. */
function* fieldsOf(header: Buffer): Generator<Field> {
  const lines = header.toString('latin1').split('\r\n');
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const colon = line.indexOf(':');
    const name = colon > 0 ? line.slice(0, colon).trimEnd() : '';
    const own = [line];
    while (name !== '' && /^[ \t]/.test(lines[at + 1] ?? '')) own.push(lines[++at]!);
    yield { name, lines: own };
  }
}

function unfoldedValue({ lines }: Field): string {
  const unfolded = lines.join('');
  return unfolded.slice(unfolded.indexOf(':') + 1).trim();
}

/**
 * Unfolded values of a header field, first one first, Latin-1 text, at most 100 (RFC 5322 2.2.3).
 * @param header  Bytes as `DataReceiver.header` has them.
 */
export function headerValues(header: Buffer, name: string): readonly string[] {
  const values: string[] = [];
  const wanted = name.toLowerCase();
  for (const field of fieldsOf(header)) {
    if (field.name.toLowerCase() !== wanted) continue;
    values.push(unfoldedValue(field));
    if (values.length === fieldsPerNameMax) break;
  }
  return values;
}

/** Names of the fields in order, as they are spelled, at most 2,000. */
export function headerNames(header: Buffer): readonly string[] {
  const names: string[] = [];
  for (const { name } of fieldsOf(header)) {
    if (name !== '' && names.push(name) === namesMax) break;
  }
  return names;
}

/** The header without the fields that match; the very same bytes when none does. */
export function withoutFields(header: Buffer, matches: readonly FieldMatch[]): Buffer {
  if (matches.length === 0) return header;
  const wanted = matches.map(({ name, valueStart }) => ({
    name: name.toLowerCase(),
    valueStart: valueStart?.toLowerCase() ?? '',
  }));
  let dropped = 0;
  const kept: string[] = [];
  for (const field of fieldsOf(header)) {
    const name = field.name.toLowerCase();
    const gone =
      name !== '' &&
      wanted.some(
        (match) => match.name === name && unfoldedValue(field).toLowerCase().startsWith(match.valueStart),
      );
    if (gone) dropped += 1;
    else kept.push(...field.lines);
  }
  return dropped === 0 ? header : Buffer.from(kept.join('\r\n'), 'latin1');
}
