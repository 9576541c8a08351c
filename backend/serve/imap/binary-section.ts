/**
 * BINARY and BINARY.SIZE of FETCH (RFC 3516, RFC 9051 6.4.5): parts decoded from
 * their transfer encoding. What is large is decoded twice, once to count and once
 * to send: a literal's size comes first, and memory may not grow with the message.
 */
import type { BinaryItem } from '../../../mailwire/imap-fetch-items.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';
import { transferDecoder } from '../../../mailwire/mime/transfer-encoding.ts';
import type { MessageContent } from './message-content.ts';
import type { ReplyWriter } from './reply-writer.ts';
import { sectionPart } from './section.ts';

const windowBytes = 256 * 1024;
/** Decoded whole up to this size. */
const wholeBytesMax = 256 * 1024;
const knownEncodings = new Set(['7bit', '8bit', 'binary', 'base64', 'quoted-printable', '']);

/**
 * Writes the item.
 * @returns false: the part's encoding is not known, and the command has to fail with UNKNOWN-CTE.
 * @throws {Fault} when the message cannot be read; the literal may have begun
 */
export async function writeBinary(
  writer: ReplyWriter,
  item: BinaryItem,
  content: MessageContent,
): Promise<boolean> {
  const section = sectionOf(item, content);
  const known = section === undefined || knownEncodings.has(section.encoding.trim());
  if (section === undefined || !known) {
    writer.text(`${item.label} ${item.kind === 'binary-size' ? '0' : 'NIL'}`);
    return known;
  }
  const size = await decodedSize(content, section);
  if (item.kind === 'binary-size') {
    writer.text(`${item.label} ${size}`);
    return true;
  }
  const start = Math.min(item.partial?.start ?? 0, size);
  const end = Math.min(size, start + (item.partial?.count ?? size));
  if (end - start <= wholeBytesMax) {
    const chunks: Buffer[] = [];
    for await (const chunk of decoded(content, section, start, end)) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    // NUL may stand in a literal8 alone.
    writer.text(`${item.label} ${bytes.includes(0) ? '~' : ''}{${bytes.length}}\r\n`);
    writer.bytes(bytes);
    return true;
  }
  writer.text(`${item.label} ~{${end - start}}\r\n`);
  for await (const chunk of decoded(content, section, start, end)) {
    writer.bytes(chunk);
    await writer.flush();
  }
  return true;
}

interface Section {
  readonly start: number;
  readonly end: number;
  /** Lower case. */
  readonly encoding: string;
}

/** `undefined`: the message has no such part. */
function sectionOf(item: BinaryItem, content: MessageContent): Section | undefined {
  // The whole message is what it is: its encodings belong to its parts.
  if (item.path.length === 0) return { start: 0, end: content.size, encoding: '7bit' };
  const part = sectionPart(content.structure(), item.path);
  if (part === undefined) return undefined;
  return { start: part.bodyStart, end: part.bodyEnd, encoding: encodingOf(part) };
}

/** Of what has parts only 7bit, 8bit and binary are allowed (RFC 2045 6.4); others are not taken at their word. */
function encodingOf(part: Part): string {
  return part.type === 'multipart' || part.message !== undefined ? '7bit' : part.encoding;
}

async function decodedSize(content: MessageContent, section: Section): Promise<number> {
  const { start, end, encoding } = section;
  if (encoding !== 'base64' && encoding !== 'quoted-printable') return end - start;
  let size = 0;
  for await (const chunk of decoded(content, section, 0, Number.POSITIVE_INFINITY)) size += chunk.length;
  return size;
}

/** Bytes `from` to `to` of the decoded section, in windows. */
async function* decoded(
  content: MessageContent,
  section: Section,
  from: number,
  to: number,
): AsyncGenerator<Buffer> {
  const decoder = transferDecoder(section.encoding);
  let place = 0;
  const wanted = (chunk: Buffer): Buffer => {
    const cut = chunk.subarray(Math.max(0, from - place), Math.max(0, to - place));
    place += chunk.length;
    return cut;
  };
  for (let at = section.start; at < section.end && place < to; at += windowBytes) {
    const bytes = await content.read(at, Math.min(section.end, at + windowBytes));
    const chunk = wanted(decoder.push(bytes));
    if (chunk.length > 0) yield chunk;
  }
  const last = wanted(decoder.end());
  if (last.length > 0) yield last;
}
