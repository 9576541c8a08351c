/** Downloads (RFC 8620 6.2): whole messages byte for byte, parts with their transfer encoding undone. */
import { Readable } from 'node:stream';
import { isFault } from '../../../base/fault.ts';
import { parseStructure } from '../../../mailwire/mime/structure.ts';
import { transferDecoder } from '../../../mailwire/mime/transfer-encoding.ts';
import type { OpenMessage } from '../../store/store.ts';
import { parseBlobId } from './blob-id.ts';
import type { EmailIndex, Location } from './email-index.ts';
import { leafAt } from './email-parts.ts';

export interface Download {
  /** Bytes; `undefined` where they are known only at the end. */
  readonly size: number | undefined;
  readonly body: Readable;
  close(): Promise<void>;
}

/** @returns `undefined`: there is no such blob. */
export async function openDownload(blobText: string, index: EmailIndex): Promise<Download | undefined> {
  const blob = parseBlobId(blobText);
  if (blob === undefined) return undefined;
  await index.update();
  const [location] = index.locate(blob.emailId);
  if (location === undefined) return undefined;
  const message = await openMessage(location);
  if (message === undefined) return undefined;
  try {
    if (blob.path.length === 0) {
      return { size: message.size, body: message.stream(0, message.size), close: () => message.close() };
    }
    const part = leafAt(await parseStructure(message), blob.path);
    if (part !== undefined) {
      const encoded = message.stream(part.bodyStart, part.bodyEnd);
      const plain = part.encoding !== 'base64' && part.encoding !== 'quoted-printable';
      return {
        size: plain ? part.bodyEnd - part.bodyStart : undefined,
        body: plain ? encoded : Readable.from(decoded(encoded, part.encoding), { objectMode: false }),
        close: () => message.close(),
      };
    }
  } catch (error) {
    await message.close();
    throw error;
  }
  await message.close();
  return undefined;
}

async function openMessage({ folder, facts }: Location): Promise<OpenMessage | undefined> {
  try {
    return await folder.open(facts.uid);
  } catch (error) {
    if (isFault(error, 'gone')) return undefined;
    throw error;
  }
}

async function* decoded(encoded: Readable, encoding: string): AsyncGenerator<Buffer> {
  const decoder = transferDecoder(encoding);
  for await (const chunk of encoded as AsyncIterable<Buffer>) {
    const bytes = decoder.push(chunk);
    if (bytes.length > 0) yield bytes;
  }
  const rest = decoder.end();
  if (rest.length > 0) yield rest;
}

/** Types that are safe to name although the client chose them; with `nosniff` and `attachment` nothing runs. */
export function downloadType(accept: string | null): string {
  return accept !== null &&
    /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/i.test(accept)
    ? accept
    : 'application/octet-stream';
}

/** RFC 6266, RFC 8187: the name as the client asked for it, encoded so that it can hold nothing but a name. */
export function attachmentDisposition(name: string): string {
  const safe = name
    .replace(/[/\\\0-\x1f\x7f]/g, '_')
    .slice(0, 255)
    .toWellFormed();
  const encoded = encodeURIComponent(safe).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename*=UTF-8''${encoded}`;
}
