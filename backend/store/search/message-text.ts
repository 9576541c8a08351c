/**
 * All text of a message that SEARCH may find: header lines decoded, text parts
 * decoded and folded, headers of parts and messages inside. It has to hold whatever a scan
 * of the message (backend/serve/imap/search-content.ts) would find.
 */
import { foldText } from '../../../mailwire/imap-search-keys.ts';
import { streamDecoder } from '../../../mailwire/mime/charset.ts';
import { decodeEncodedWords } from '../../../mailwire/mime/encoded-words.ts';
import { parseHeaderFields, unfold } from '../../../mailwire/mime/header-fields.ts';
import { parameter } from '../../../mailwire/mime/parameters.ts';
import { type Part, structureOf } from '../../../mailwire/mime/structure.ts';
import { transferDecoder } from '../../../mailwire/mime/transfer-encoding.ts';

/** Longest text that is indexed, in chars; a message with more is looked at in every search. */
export const textCharsMax = 2 * 1024 * 1024;
/** As the scan reads: decoders are given the same pieces. */
const windowBytes = 256 * 1024;

/** @returns `undefined`: there is too much of it. */
export function textOfMessage(message: Buffer): string | undefined {
  const pieces: string[] = [];
  let chars = 0;
  const add = (piece: string): boolean => {
    pieces.push(piece);
    chars += piece.length + 1;
    return chars <= textCharsMax;
  };
  if (!add(headerText(message))) return undefined;
  const waiting: Part[] = [structureOf(message)];
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    const inner = part.message === undefined ? part.parts : [part.message];
    for (const { headerStart, bodyStart } of inner) {
      if (!add(headerText(message.subarray(headerStart, bodyStart)))) return undefined;
    }
    waiting.push(...inner);
    if (part.type !== 'text') continue;
    if (part.bodyEnd - part.bodyStart > textCharsMax * 4) return undefined;
    if (!add(partText(message, part))) return undefined;
  }
  return pieces.join('\n');
}

function headerText(header: Buffer): string {
  const lines = parseHeaderFields(header).map((field) =>
    foldText(`${field.writtenName}: ${decodeEncodedWords(unfold(field.raw))}`),
  );
  return lines.join('\n');
}

function partText(message: Buffer, part: Part): string {
  const transfer = transferDecoder(part.encoding);
  const decode = streamDecoder(parameter(part.params, 'charset') ?? '');
  let text = '';
  for (let at = part.bodyStart; at < part.bodyEnd; at += windowBytes) {
    const bytes = message.subarray(at, Math.min(part.bodyEnd, at + windowBytes));
    text += foldText(decode(transfer.push(bytes), false));
  }
  return text + foldText(decode(transfer.end(), true));
}
