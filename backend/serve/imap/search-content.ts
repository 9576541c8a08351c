/**
 * Does a message hold a text? Headers are compared decoded (RFC 2047), bodies
 * decoded from their transfer encoding and charset, without regard to case.
 * Parts are looked through in windows, so that size costs time but no memory.
 */

import { isFault } from '../../../base/fault.ts';
import { foldText } from '../../../mailwire/imap-search-keys.ts';
import { decodeEncodedWords } from '../../../mailwire/mime/encoded-words.ts';
import { type HeaderField, parseHeaderFields, unfold } from '../../../mailwire/mime/header-fields.ts';
import { parseMessageDate } from '../../../mailwire/mime/message-date.ts';
import { parameter } from '../../../mailwire/mime/parameters.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';
import { TextScanner } from '../../../mailwire/mime/text-scanner.ts';
import type { MailboxView } from './mailbox-view.ts';
import { type ContentNeed, type MessageContent, openContent } from './message-content.ts';
import { type ContentKey, dayTest, type Known } from './search-key.ts';
import type { Slice } from './session-clock.ts';

const windowBytes = 256 * 1024;
const needs: ReadonlySet<ContentNeed> = new Set(['header', 'structure', 'part-headers']);

/** Decides for a message the index could not decide. Messages that went meanwhile do not match. */
export async function decideByContent(
  view: MailboxView,
  uid: number,
  known: Known,
  slice: Slice,
): Promise<boolean> {
  let content: MessageContent;
  try {
    content = await openContent(view.folder, uid, needs);
  } catch (error) {
    if (isFault(error, 'gone')) return false;
    throw error;
  }
  try {
    let fields: HeaderField[] | undefined;
    const holds = async (key: ContentKey): Promise<boolean> => {
      if (key.key === 'body') return holdsBody(content, key.value, slice, false);
      fields ??= parseHeaderFields(content.header());
      if ('name' in key)
        return fields.some((field) => field.name === key.name && holdsField(field, key.value));
      if ('value' in key) {
        return (
          fields.some((field) => holdsLine(field, key.value)) || holdsBody(content, key.value, slice, true)
        );
      }
      const written = fields.find((field) => field.name === 'date');
      const date = written && parseMessageDate(unfold(written.raw));
      return date !== undefined && dayTest(key)(date.dayMs);
    };
    return await known.byContent(view.sequenceOf(uid), uid, holds);
  } finally {
    await content.close();
  }
}

/** An empty text is in every field (RFC 9051 6.4.4, HEADER). */
function holdsField(field: HeaderField, needle: string): boolean {
  return needle === '' || foldText(decodeEncodedWords(unfold(field.raw))).includes(needle);
}

function holdsLine(field: HeaderField, needle: string): boolean {
  return foldText(`${field.writtenName}: ${decodeEncodedWords(unfold(field.raw))}`).includes(needle);
}

/**
 * Text parts and the headers of messages inside. A walk without recursion.
 * @param mimeHeaders  Headers of parts too: TEXT looks into them, BODY does not (RFC 9051 6.4.4).
 */
async function holdsBody(
  content: MessageContent,
  needle: string,
  slice: Slice,
  mimeHeaders: boolean,
): Promise<boolean> {
  if (needle === '') return true;
  const waiting: Part[] = [content.structure()];
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    if (part.message !== undefined) {
      if (holdsHeader(content, part.message, needle)) return true;
      waiting.push(part.message);
    }
    if (mimeHeaders && part.parts.some((inner) => holdsHeader(content, inner, needle))) return true;
    for (let at = part.parts.length - 1; at >= 0; at--) waiting.push(part.parts[at]!);
    if (part.type === 'text' && (await holdsPart(content, part, needle, slice))) return true;
  }
  return false;
}

function holdsHeader(content: MessageContent, part: Part, needle: string): boolean {
  return parseHeaderFields(content.headerOf(part)).some((field) => holdsLine(field, needle));
}

async function holdsPart(
  content: MessageContent,
  part: Part,
  needle: string,
  slice: Slice,
): Promise<boolean> {
  const scanner = new TextScanner(needle, part.encoding, parameter(part.params, 'charset') ?? '', foldText);
  for (let at = part.bodyStart; at < part.bodyEnd; at += windowBytes) {
    const bytes = await content.read(at, Math.min(part.bodyEnd, at + windowBytes));
    if (scanner.push(bytes)) return true;
    const rest = slice.used();
    if (rest !== undefined) await rest;
  }
  return scanner.end();
}
