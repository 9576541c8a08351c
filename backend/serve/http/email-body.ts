/** The properties of an email that need its parts: structure, lists of parts, their text, preview. */
import { decodeCharset, knowsCharset } from '../../../mailwire/mime/charset.ts';
import { parseHeaderFields } from '../../../mailwire/mime/header-fields.ts';
import { parameter } from '../../../mailwire/mime/parameters.ts';
import { previewOf } from '../../../mailwire/mime/preview.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';
import { decodeTransfer, transferDecoder } from '../../../mailwire/mime/transfer-encoding.ts';
import type { OpenMessage } from '../../store/store.ts';
import { blobId } from './blob-id.ts';
import { allHeaders, headerProperty } from './email-header.ts';
import { charsetOf, type EmailBodies, type EmailPart, partIdOf } from './email-parts.ts';
import { type Arguments, flagIn, integerIn, textsIn } from './jmap-arguments.ts';
import { invalid } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';

const defaultBodyProperties = [
  'partId',
  'blobId',
  'size',
  'name',
  'type',
  'charset',
  'disposition',
  'cid',
  'language',
  'location',
];

export interface BodyArguments {
  readonly properties: readonly string[];
  readonly fetchText: boolean;
  readonly fetchHtml: boolean;
  readonly fetchAll: boolean;
  readonly valueBytesMax: number;
  /** Bytes of body values this call may still hold. */
  budget: number;
}

export function bodyArguments(args: Arguments): BodyArguments {
  const properties = textsIn(args, 'bodyProperties') ?? defaultBodyProperties;
  if (properties.length > 50) throw invalid('too many bodyProperties');
  for (const name of properties) checkBodyProperty(name);
  const asked = integerIn(args, 'maxBodyValueBytes', 0) ?? 0;
  return {
    properties,
    fetchText: flagIn(args, 'fetchTextBodyValues'),
    fetchHtml: flagIn(args, 'fetchHTMLBodyValues'),
    fetchAll: flagIn(args, 'fetchAllBodyValues'),
    valueBytesMax: asked === 0 ? jmapLimits.bodyValueBytesMax : Math.min(asked, jmapLimits.bodyValueBytesMax),
    budget: jmapLimits.bodyValueBytesMax,
  };
}

export function checkBodyProperty(name: string): void {
  if (defaultBodyProperties.includes(name) || name === 'headers' || name === 'subParts') return;
  if (!name.startsWith('header:')) throw invalid('a body part has no such property');
  headerProperty(name, []);
}

/** Encoded bytes read for a preview. */
const previewBytesMax = 16 * 1024;
/** Encoded bytes of one text part that are read for its value. */
const textBytesMax = 16 * 1024 * 1024;
const windowBytes = 256 * 1024;

export class BodyReader {
  readonly #message: OpenMessage;
  readonly #emailId: string;
  readonly #bodies: EmailBodies;
  readonly #args: BodyArguments;

  constructor(message: OpenMessage, emailId: string, bodies: EmailBodies, args: BodyArguments) {
    this.#message = message;
    this.#emailId = emailId;
    this.#bodies = bodies;
    this.#args = args;
  }

  async property(name: string): Promise<unknown> {
    const { root, text, html, attachments } = this.#bodies;
    switch (name) {
      case 'bodyStructure':
        return await this.#shown(root, true);
      case 'textBody':
        return await this.#list(text);
      case 'htmlBody':
        return await this.#list(html);
      case 'attachments':
        return await this.#list(attachments);
      case 'hasAttachment':
        return attachments.some(({ part }) => part.disposition?.type !== 'inline' || part.id === undefined);
      case 'preview':
        return await this.#preview();
      default:
        return await this.#values();
    }
  }

  async #list(parts: readonly EmailPart[]): Promise<unknown[]> {
    const list: unknown[] = [];
    for (const part of parts) list.push(await this.#shown(part, false));
    return list;
  }

  async #shown(each: EmailPart, deep: boolean): Promise<Arguments> {
    const shown: Arguments = {};
    const names = this.#args.properties;
    for (const name of names) if (name !== 'subParts') shown[name] = await this.#partProperty(each, name);
    if (!each.isMultipart || !(deep || names.includes('subParts'))) return shown;
    const subParts: Arguments[] = [];
    for (const sub of each.subParts) subParts.push(await this.#shown(sub, deep));
    return { ...shown, subParts };
  }

  async #partProperty(each: EmailPart, name: string): Promise<unknown> {
    const { part } = each;
    switch (name) {
      case 'partId':
        return partIdOf(each);
      case 'blobId':
        return each.isMultipart ? null : blobId(this.#emailId, each.path);
      case 'size':
        return each.isMultipart ? 0 : await this.#decodedSize(part);
      case 'name':
        return each.name;
      case 'type':
        return each.type;
      case 'charset':
        return charsetOf(part);
      case 'disposition':
        return part.disposition?.type ?? null;
      case 'cid':
        return part.id?.replace(/^\s*<|>\s*$/g, '') ?? null;
      case 'language':
        return part.language.length === 0 ? null : part.language;
      case 'location':
        return part.location ?? null;
      default: {
        const fields = parseHeaderFields(await this.#message.read(part.headerStart, part.bodyStart));
        return name === 'headers' ? allHeaders(fields) : headerProperty(name, fields);
      }
    }
  }

  /** RFC 8621 4.1.4: octets after the transfer encoding is undone. */
  async #decodedSize(part: Part): Promise<number> {
    if (part.encoding !== 'base64' && part.encoding !== 'quoted-printable')
      return part.bodyEnd - part.bodyStart;
    const decoder = transferDecoder(part.encoding);
    let bytes = 0;
    for (let at = part.bodyStart; at < part.bodyEnd; at += windowBytes) {
      bytes += decoder.push(await this.#message.read(at, Math.min(part.bodyEnd, at + windowBytes))).length;
    }
    return bytes + decoder.end().length;
  }

  async #values(): Promise<Record<string, unknown>> {
    const { fetchAll, fetchText, fetchHtml } = this.#args;
    const { root, text, html } = this.#bodies;
    const wanted = new Set<EmailPart>();
    if (fetchAll) for (const part of leaves(root)) wanted.add(part);
    if (fetchText) for (const part of text) wanted.add(part);
    if (fetchHtml) for (const part of html) wanted.add(part);
    const values: Record<string, unknown> = {};
    for (const part of wanted) {
      const id = partIdOf(part);
      if (id !== null && part.part.type === 'text') values[id] = await this.#value(part.part);
    }
    return values;
  }

  async #value(part: Part): Promise<unknown> {
    const end = Math.min(part.bodyEnd, part.bodyStart + textBytesMax);
    const bytes = decodeTransfer(await this.#message.read(part.bodyStart, end), part.encoding);
    const charset = parameter(part.params, 'charset') ?? 'us-ascii';
    const full = decodeCharset(bytes, charset).replaceAll('\r\n', '\n');
    const value = cutUtf8(full, Math.min(this.#args.valueBytesMax, this.#args.budget));
    this.#args.budget -= Buffer.byteLength(value);
    return {
      value,
      isEncodingProblem: !knowsCharset(charset),
      isTruncated: value.length < full.length || end < part.bodyEnd,
    };
  }

  async #preview(): Promise<string> {
    const part = this.#bodies.text.find(({ part: { type } }) => type === 'text');
    if (part === undefined) return '';
    const { bodyStart, bodyEnd, encoding, params, subtype } = part.part;
    const bytes = await this.#message.read(bodyStart, Math.min(bodyEnd, bodyStart + previewBytesMax));
    const text = decodeCharset(decodeTransfer(bytes, encoding), parameter(params, 'charset') ?? 'us-ascii');
    return previewOf(text, subtype === 'html');
  }
}

function leaves(part: EmailPart): EmailPart[] {
  return part.isMultipart ? part.subParts.flatMap(leaves) : [part];
}

/** The longest start of `text` that is no longer than `bytesMax` in UTF-8 and cuts no character. */
export function cutUtf8(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  let end = Math.max(0, bytesMax);
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}
