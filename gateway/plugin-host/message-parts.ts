/**
 * The parts of a message as plugins see them: read from where the message lies,
 * a bounded piece at a time, and decoded only as far as somebody asks.
 */
import { decodeCharset } from '../../mailwire/mime/charset.ts';
import { decodedParameter, parameter } from '../../mailwire/mime/parameters.ts';
import { type MessageSource, type Part, parseStructure } from '../../mailwire/mime/structure.ts';
import { transferDecoder } from '../../mailwire/mime/transfer-encoding.ts';
import type { MessagePart } from '../plugins/api.ts';

export const messagePartsMax = 1000;
const fileNameCharsMax = 255;
const sliceBytes = 64 * 1024;

/** Leaves in order, those of messages inside too, at most `messagePartsMax`. Never throws for what is in the message. */
export async function messageParts(source: MessageSource): Promise<readonly MessagePart[]> {
  const found: MessagePart[] = [];
  const waiting: { part: Part; path: string }[] = [{ part: await parseStructure(source), path: '' }];
  for (let next = waiting.pop(); next !== undefined && found.length < messagePartsMax; next = waiting.pop()) {
    const { part, path } = next;
    const inner = part.message === undefined ? part.parts : insideOf(part.message);
    if (inner.length === 0) {
      found.push(new SourcePart(source, part, path === '' ? '1' : path));
      continue;
    }
    for (let at = inner.length - 1; at >= 0; at--) {
      waiting.push({ part: inner[at]!, path: path === '' ? String(at + 1) : `${path}.${at + 1}` });
    }
  }
  return found;
}

/** A message inside is numbered by its parts, or as one part 1. */
function insideOf(message: Part): readonly Part[] {
  return message.parts.length > 0 ? message.parts : [message];
}

class SourcePart implements MessagePart {
  readonly path: string;
  readonly type: string;
  readonly fileName: string;
  readonly disposition: 'inline' | 'attachment' | '';
  readonly encodedBytes: number;
  readonly #source: MessageSource;
  readonly #part: Part;

  constructor(source: MessageSource, part: Part, path: string) {
    this.#source = source;
    this.#part = part;
    this.path = path;
    this.type = `${part.type}/${part.subtype}`;
    const { disposition } = part;
    this.disposition =
      disposition === undefined ? '' : disposition.type === 'inline' ? 'inline' : 'attachment';
    const name =
      (disposition && decodedParameter(disposition.params, 'filename')) ??
      decodedParameter(part.params, 'name');
    this.fileName = (name ?? '').replace(/[\x00-\x1f\x7f]/g, '').slice(0, fileNameCharsMax);
    this.encodedBytes = part.bodyEnd - part.bodyStart;
  }

  async bytes(bytesMax: number): Promise<Buffer> {
    const decoder = transferDecoder(this.#part.encoding);
    const pieces: Buffer[] = [];
    let bytes = 0;
    const { bodyStart, bodyEnd } = this.#part;
    for (let at = bodyStart; at < bodyEnd && bytes < bytesMax; ) {
      const slice = await this.#source.read(at, Math.min(bodyEnd, at + sliceBytes));
      if (slice.length === 0) break;
      at += slice.length;
      const decoded = decoder.push(slice);
      pieces.push(decoded);
      bytes += decoded.length;
    }
    if (bytes < bytesMax) pieces.push(decoder.end());
    return Buffer.concat(pieces).subarray(0, bytesMax);
  }

  async text(bytesMax: number): Promise<string> {
    return decodeCharset(await this.bytes(bytesMax), parameter(this.#part.params, 'charset') ?? 'us-ascii');
  }
}
