/**
 * A message as FETCH and SEARCH look into it. Small messages are read whole in
 * one go; of large ones only the ranges that are asked for, so that memory does
 * not grow with the message (CASES 98).
 */
import { type HeaderField, headerBytesMax, parseHeaderFields } from '../../../mailwire/mime/header-fields.ts';
import { type Part, parseStructure, structureOf } from '../../../mailwire/mime/structure.ts';
import type { Folder, OpenMessage } from '../../store/store.ts';

/** Messages up to this size are read whole. */
export const smallBytesMax = 256 * 1024;

/** Bytes at hand, or where they stand in a large message. */
export type Range = Buffer | { readonly start: number; readonly end: number };

/** What has to be known of a message before its items can be written. */
export type ContentNeed = 'header' | 'structure' | 'part-headers';

export interface MessageContent {
  readonly size: number;
  structure(): Part;
  /** The message's own header, its empty line included. */
  header(): Buffer;
  /** The header of a part or of a message inside; needs `part-headers`. */
  headerOf(part: Part): Buffer;
  range(start: number, end: number): Range;
  /** Bytes of a range. */
  read(start: number, end: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** Opens a message and reads what `needs` names. @throws {Fault} `gone` */
export async function openContent(
  folder: Folder,
  uid: number,
  needs: ReadonlySet<ContentNeed>,
): Promise<MessageContent> {
  const message = await folder.open(uid);
  if (message.whole !== undefined) return new SmallContent(message.whole);
  try {
    if (message.size <= smallBytesMax) return new SmallContent(await message.read(0, message.size));
    return await LargeContent.prepare(message, needs);
  } finally {
    if (message.size <= smallBytesMax) await message.close();
  }
}

class SmallContent implements MessageContent {
  readonly size: number;
  readonly #bytes: Buffer;
  #structure: Part | undefined;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  structure(): Part {
    this.#structure ??= structureOf(this.#bytes);
    return this.#structure;
  }

  header(): Buffer {
    const end = headerEnd(this.#bytes);
    return end < 0 ? this.#bytes : this.#bytes.subarray(0, end);
  }

  headerOf(part: Part): Buffer {
    return this.#bytes.subarray(part.headerStart, part.bodyStart);
  }

  range(start: number, end: number): Buffer {
    return this.#bytes.subarray(start, end);
  }

  async read(start: number, end: number): Promise<Buffer> {
    return this.#bytes.subarray(start, end);
  }

  async close(): Promise<void> {}
}

class LargeContent implements MessageContent {
  readonly size: number;
  readonly #message: OpenMessage;
  #structure: Part | undefined;
  #header: Buffer = Buffer.alloc(0);
  readonly #partHeaders = new Map<Part, Buffer>();

  private constructor(message: OpenMessage) {
    this.#message = message;
    this.size = message.size;
  }

  static async prepare(message: OpenMessage, needs: ReadonlySet<ContentNeed>): Promise<LargeContent> {
    const content = new LargeContent(message);
    try {
      if (needs.has('header')) await content.#readHeader();
      if (needs.has('structure') || needs.has('part-headers')) {
        content.#structure ??= await parseStructure(message);
      }
      if (needs.has('part-headers')) await content.#readPartHeaders();
      return content;
    } catch (error) {
      await message.close();
      throw error;
    }
  }

  async #readHeader(): Promise<void> {
    for (let bytes = 16 * 1024; bytes <= 1024 * 1024; bytes *= 4) {
      const head = await this.#message.read(0, bytes);
      const end = headerEnd(head);
      if (end >= 0 || head.length >= this.size) {
        this.#header = end < 0 ? head : head.subarray(0, end);
        return;
      }
    }
    // A header of a megabyte or more: found by reading all, given out up to a bound.
    this.#structure = await parseStructure(this.#message);
    this.#header = await this.#message.read(0, Math.min(this.#structure.bodyStart, 1024 * 1024));
  }

  async #readPartHeaders(): Promise<void> {
    let left = 8 * 1024 * 1024;
    for (const part of innerParts(this.structure())) {
      const bytes = Math.min(part.bodyStart - part.headerStart, headerBytesMax);
      left -= bytes;
      if (left < 0) return;
      this.#partHeaders.set(part, await this.#message.read(part.headerStart, part.headerStart + bytes));
    }
  }

  structure(): Part {
    return this.#structure!;
  }

  header(): Buffer {
    return this.#header;
  }

  headerOf(part: Part): Buffer {
    return this.#partHeaders.get(part) ?? Buffer.alloc(0);
  }

  range(start: number, end: number): Range {
    return { start, end };
  }

  read(start: number, end: number): Promise<Buffer> {
    return this.#message.read(start, end);
  }

  close(): Promise<void> {
    return this.#message.close();
  }
}

/** Header fields of a message inside. */
export function fieldsOf(content: MessageContent, part: Part): HeaderField[] {
  return parseHeaderFields(content.headerOf(part));
}

/** Parts and messages inside a message: whatever has a header of its own. A walk without recursion. */
function innerParts(root: Part): Part[] {
  const found: Part[] = [];
  const waiting: Part[] = [root];
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    const inner = part.message === undefined ? part.parts : [part.message];
    for (const one of inner) found.push(one);
    for (const one of inner) waiting.push(one);
  }
  return found;
}

/** Offset behind the empty line that ends the header, or -1. */
function headerEnd(bytes: Buffer): number {
  if (bytes[0] === 0x0d && bytes[1] === 0x0a) return 2;
  const at = bytes.indexOf('\r\n\r\n', 0, 'latin1');
  return at < 0 ? -1 : at + 4;
}
