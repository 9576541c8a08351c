/**
 * The MIME structure of a message: where every part's header and body lie, and
 * what its header says of it. The message is read once, in windows, line by
 * line; depth, parts and header bytes are bounded, and nothing recurses (CASES 50).
 */
import { fieldValue, headerBytesMax, parseHeaderFields } from './header-fields.ts';
import { type Parameters, parameter, parseParameterized } from './parameters.ts';

/** Bytes of a message, as the store opens it. */
export interface MessageSource {
  readonly size: number;
  /** Bytes `start` (inclusive) to `end` (exclusive, clamped to size). */
  read(start: number, end: number): Promise<Buffer>;
}

export interface Part {
  /** Lower case: `text`, `multipart` ... */
  readonly type: string;
  readonly subtype: string;
  /** Of Content-Type, as written (see `decodedParameter`). */
  readonly params: Parameters;
  readonly id: string | undefined;
  readonly description: string | undefined;
  /** Lower case; `7bit` when there is none. */
  readonly encoding: string;
  readonly md5: string | undefined;
  readonly disposition: { readonly type: string; readonly params: Parameters } | undefined;
  readonly language: readonly string[];
  readonly location: string | undefined;
  /** Offsets in the message, bytes. The header is [headerStart, bodyStart), its empty line included. */
  readonly headerStart: number;
  readonly bodyStart: number;
  readonly bodyEnd: number;
  /** Line ends in the body. */
  readonly lines: number;
  /** Of a multipart. */
  readonly parts: readonly Part[];
  /** Of `message/rfc822` and `message/global`: the message inside. */
  readonly message: Part | undefined;
}

export const partDepthMax = 100;
export const partsMax = 10_000;
/** RFC 2046 5.1.1 says 70. */
const boundaryCharsMax = 200;
/** Header bytes parsed in one message, all parts together. */
const allHeaderBytesMax = 8 * 1024 * 1024;
const windowBytes = 256 * 1024;

/** Reads a message once and tells its structure. Never throws for what is in it. */
export async function parseStructure(source: MessageSource): Promise<Part> {
  const scanner = new StructureScanner();
  let at = 0;
  while (at < source.size) {
    const window = await source.read(at, Math.min(source.size, at + windowBytes));
    if (window.length === 0) break;
    at += scanner.feed(window, at, at + window.length >= source.size);
  }
  return scanner.finish(at);
}

/** The structure of a message that is in memory. */
export function structureOf(message: Buffer): Part {
  const scanner = new StructureScanner();
  scanner.feed(message, 0, true);
  return scanner.finish(message.length);
}

type Building = {
  -readonly [Key in keyof Part]: Key extends 'parts'
    ? Building[]
    : Key extends 'message'
      ? Building | undefined
      : Part[Key];
};

interface Level {
  readonly part: Building;
  /** Of a multipart that is open; `undefined` for a message inside, or a multipart after its last boundary. */
  boundary: string | undefined;
  /** What the boundary meant further out. */
  hidden: number | undefined;
  /** LFs before the body. */
  linesBefore: number;
}

class StructureScanner {
  readonly #levels: Level[] = [];
  /** Boundary → index of its level. */
  readonly #boundaries = new Map<string, number>();
  #root: Building | undefined;
  #partCount = 0;
  #allHeaderBytes = 0;

  /** The header being read, in fragments; `undefined` in bodies. */
  #header: Buffer[] | undefined = [];
  #headerBytes = 0;
  #headerStart = 0;
  #headerDefault = 'text/plain';

  #lineCount = 0;
  #inLongLine = false;
  #previousEnd = 0;

  /**
   * Takes the bytes at `offset`. @returns how many were consumed: all but an unfinished line, which has to
   * come again with the bytes after it.
   */
  feed(window: Buffer, offset: number, last: boolean): number {
    let at = 0;
    while (at < window.length) {
      const found = window.indexOf(0x0a, at);
      if (found < 0) {
        const left = window.length - at;
        if (!last && left < boundaryCharsMax + 100 && !this.#inLongLine && at > 0) return at;
        this.#line(window, at, window.length, offset, this.#inLongLine);
        this.#inLongLine = true;
        return window.length;
      }
      this.#line(window, at, found + 1, offset, this.#inLongLine);
      this.#inLongLine = false;
      this.#lineCount++;
      at = found + 1;
    }
    return window.length;
  }

  finish(size: number): Part {
    if (this.#header !== undefined) this.#endHeader(size);
    this.#closeLevels(0, size, this.#lineCount);
    return this.#root as Part;
  }

  /** A line or a fragment of one: window[at, end). `continued`: not the line's start. */
  #line(window: Buffer, at: number, end: number, offset: number, continued: boolean): void {
    const complete = window[end - 1] === 0x0a;
    const length = end - at - (complete ? (end - 2 >= at && window[end - 2] === 0x0d ? 2 : 1) : 0);
    const isBoundary =
      !continued &&
      length > 2 &&
      window[at] === 0x2d &&
      window[at + 1] === 0x2d &&
      this.#boundaries.size > 0 &&
      this.#boundaryLine(
        window.toString('latin1', at + 2, at + Math.min(length, boundaryCharsMax + 4)),
        offset + at,
        offset + end,
      );
    if (!isBoundary && this.#header !== undefined) {
      if (length === 0 && complete && !continued) {
        this.#endHeader(offset + end, 1);
      } else if (this.#headerBytes < headerBytesMax && this.#allHeaderBytes < allHeaderBytesMax) {
        this.#header.push(window.subarray(at, end));
        this.#headerBytes += end - at;
        this.#allHeaderBytes += end - at;
      }
    }
    this.#previousEnd = complete ? end - at - length : 0;
  }

  /** Is it a boundary of an open multipart? Then parts end and begin here. @param text  What follows `--`. */
  #boundaryLine(text: string, start: number, end: number): boolean {
    const boundary = this.#boundaryOf(text);
    if (boundary === undefined) return false;
    const index = this.#boundaries.get(boundary)!;
    const closes = text.startsWith('--', boundary.length);
    if (this.#header !== undefined) this.#endHeader(start);
    // The line end before the boundary belongs to the boundary (RFC 2046 5.1.1).
    this.#closeLevels(
      index + 1,
      start - this.#previousEnd,
      this.#lineCount - (this.#previousEnd > 0 ? 1 : 0),
    );
    const level = this.#levels[index]!;
    if (closes) {
      this.#dropBoundary(level);
    } else if (this.#partCount < partsMax) {
      this.#startHeader(end, level.part.subtype === 'digest' ? 'message/rfc822' : 'text/plain');
    }
    return true;
  }

  /** RFC 2046 5.1.1: it is enough that a line begins with the boundary; of several the longest is meant. */
  #boundaryOf(text: string): string | undefined {
    const line = text.trimEnd();
    if (this.#boundaries.has(line)) return line;
    let found: string | undefined;
    for (const boundary of this.#boundaries.keys()) {
      if (text.startsWith(boundary) && boundary.length > (found?.length ?? 0)) found = boundary;
    }
    return found;
  }

  #startHeader(at: number, defaultType: string): void {
    this.#header = [];
    this.#headerBytes = 0;
    this.#headerStart = at;
    this.#headerDefault = defaultType;
  }

  /** The header is over: the part begins. `ownLine`: 1 when an empty line ended it. */
  #endHeader(bodyStart: number, ownLine = 0): void {
    const header = Buffer.concat(this.#header ?? []);
    this.#header = undefined;
    const part = partOf(header, this.#headerDefault);
    part.headerStart = this.#headerStart;
    part.bodyStart = bodyStart;
    part.bodyEnd = bodyStart;
    this.#partCount++;
    const outer = this.#levels.at(-1);
    if (outer === undefined) this.#root = part;
    else if (outer.part.type === 'multipart') outer.part.parts.push(part);
    else outer.part.message = part;
    const level: Level = {
      part,
      boundary: undefined,
      hidden: undefined,
      linesBefore: this.#lineCount + ownLine,
    };
    const deep = this.#levels.length >= partDepthMax;
    if (part.type === 'multipart') {
      const boundary = parameter(part.params, 'boundary')?.trimEnd();
      if (deep || boundary === undefined || boundary === '' || boundary.length > boundaryCharsMax) {
        // Its parts cannot be told apart: one opaque body.
        part.type = 'application';
        part.subtype = 'octet-stream';
      } else {
        level.boundary = boundary;
        level.hidden = this.#boundaries.get(boundary);
        this.#boundaries.set(boundary, this.#levels.length);
      }
    }
    this.#levels.push(level);
    if (isMessage(part)) {
      if (deep || this.#partCount >= partsMax) {
        part.type = 'application';
        part.subtype = 'octet-stream';
      } else {
        this.#startHeader(bodyStart, 'text/plain');
      }
    }
  }

  /** Ends the parts from level `from` inwards at offset `end`. */
  #closeLevels(from: number, end: number, lineCount: number): void {
    while (this.#levels.length > from) {
      const level = this.#levels.pop()!;
      this.#dropBoundary(level);
      level.part.bodyEnd = Math.max(level.part.bodyStart, end);
      level.part.lines =
        level.part.bodyEnd === level.part.bodyStart ? 0 : Math.max(0, lineCount - level.linesBefore);
    }
  }

  #dropBoundary(level: Level): void {
    if (level.boundary === undefined) return;
    if (level.hidden === undefined) this.#boundaries.delete(level.boundary);
    else this.#boundaries.set(level.boundary, level.hidden);
    level.boundary = undefined;
  }
}

/** RFC 2046 5.2.1, RFC 6532 3.7: the encodings under which the message inside can be read in place. */
function isMessage(part: Building): boolean {
  return (
    part.type === 'message' &&
    (part.subtype === 'rfc822' || part.subtype === 'global') &&
    (part.encoding === '7bit' || part.encoding === '8bit' || part.encoding === 'binary')
  );
}

/** What a header says of its part; offsets are still to come. */
function partOf(header: Buffer, defaultType: string): Building {
  const fields = parseHeaderFields(header);
  const written = fieldValue(fields, 'content-type');
  let content = parseParameterized(written ?? defaultType);
  // RFC 2045 5.2: what cannot be read is text/plain.
  if (!/^[^/]+\/[^/]+$/.test(content.value)) content = { value: 'text/plain', params: content.params };
  const slash = content.value.indexOf('/');
  const disposition = fieldValue(fields, 'content-disposition');
  const parsed = disposition === undefined ? undefined : parseParameterized(disposition);
  const encoding = fieldValue(fields, 'content-transfer-encoding');
  return {
    type: content.value.slice(0, slash),
    subtype: content.value.slice(slash + 1),
    params: content.params,
    id: fieldValue(fields, 'content-id'),
    description: fieldValue(fields, 'content-description'),
    encoding: (encoding === undefined ? '' : parseParameterized(encoding).value) || '7bit',
    md5: fieldValue(fields, 'content-md5'),
    disposition: parsed && parsed.value !== '' ? { type: parsed.value, params: parsed.params } : undefined,
    language: (fieldValue(fields, 'content-language') ?? '')
      .slice(0, 1000)
      .split(',')
      .map((tag) => tag.trim())
      .filter((tag) => tag !== ''),
    location: fieldValue(fields, 'content-location'),
    headerStart: 0,
    bodyStart: 0,
    bodyEnd: 0,
    lines: 0,
    parts: [],
    message: undefined,
  };
}
