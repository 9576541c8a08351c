/** PREVIEW of FETCH (RFC 8970): the first words of the first text a reader would see. */

import { parameter } from '../../../mailwire/mime/parameters.ts';
import { previewOf } from '../../../mailwire/mime/preview.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';
import { decodeBody } from '../../../mailwire/mime/transfer-encoding.ts';
import type { MessageContent } from './message-content.ts';

/** Encoded bytes that are looked at. */
const encodedBytesMax = 16 * 1024;
/** RFC 8970 3.2. */
const previewCharsMax = 200;

/** Empty when there is no text. */
export async function previewText(content: MessageContent): Promise<string> {
  const part = textPart(content.structure());
  if (part === undefined) return '';
  const end = Math.min(part.bodyEnd, part.bodyStart + encodedBytesMax);
  const bytes = await content.read(part.bodyStart, end);
  const text = decodeBody(bytes, part.encoding, parameter(part.params, 'charset') ?? 'us-ascii');
  return [...previewOf(text, part.subtype === 'html')].slice(0, previewCharsMax).join('');
}

/** The first plain text that is no attachment, else the first text of another kind. A walk without recursion. */
function textPart(root: Part): Part | undefined {
  let other: Part | undefined;
  const waiting: Part[] = [root];
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    if (part.type === 'text' && part.disposition?.type.toLowerCase() !== 'attachment') {
      if (part.subtype === 'plain') return part;
      other ??= part;
    }
    for (let at = part.parts.length - 1; at >= 0; at--) waiting.push(part.parts[at]!);
  }
  return other;
}
