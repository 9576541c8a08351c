/**
 * What is in a zip archive, and in archives inside it, without unpacking more
 * than limits allow (CASES 51). An archive lies about sizes at will: what counts
 * is what comes out.
 */
import type { Readable } from 'node:stream';
import { type Entry, fromBufferPromise, type ZipFile } from 'yauzl';
import { contentKind } from './content-kind.ts';

export interface ZipLimits {
  /** Archives within archives. */
  readonly depthMax: number;
  /** Files of all of them together. */
  readonly filesMax: number;
  /** Bytes that come out for each that went in. */
  readonly ratioMax: number;
  /** Largest archive inside that is looked into. */
  readonly bytesMax: number;
}

export interface ZipListing {
  /** Of files, those of archives inside too, at most `filesMax`. */
  readonly names: readonly string[];
  readonly encrypted: boolean;
  /** A file that is a program by its content. */
  readonly program: string | undefined;
  /** Why not all of it could be looked at. */
  readonly problem: string | undefined;
}

/** Never rejects for what is in the archive. */
export async function listZip(archive: Buffer, limits: ZipLimits): Promise<ZipListing> {
  const found = { names: [] as string[], encrypted: false, program: undefined as string | undefined };
  let problem: string | undefined;
  let outBytesLeft = Math.max(archive.length, 64 * 1024) * limits.ratioMax;
  const waiting: { bytes: Buffer; depth: number }[] = [{ bytes: archive, depth: 1 }];

  const look = async (zip: ZipFile, entry: Entry, depth: number): Promise<void> => {
    found.names.push(entry.fileName);
    // Bit 0: encrypted (APPNOTE 4.4.4).
    if ((entry.generalPurposeBitFlag & 1) !== 0) {
      found.encrypted = true;
      return;
    }
    if (entry.fileName.endsWith('/')) return;
    const isArchive = /\.(?:zip|jar|docx|docm|xlsx|xlsm|pptx|pptm)$/i.test(entry.fileName);
    const wantedBytes = isArchive ? limits.bytesMax : 4096;
    const { bytes, whole } = await beginningOf(zip, entry, Math.min(wantedBytes, outBytesLeft));
    outBytesLeft -= bytes.length;
    if (outBytesLeft <= 0) throw new Error('unpacks to far too much');
    const kind = contentKind(bytes);
    if (kind === 'program') found.program ??= entry.fileName;
    if (kind !== 'zip') return;
    if (depth >= limits.depthMax) throw new Error('archives too deep inside each other');
    const inner =
      whole || isArchive
        ? { bytes, whole }
        : await beginningOf(zip, entry, Math.min(limits.bytesMax, outBytesLeft));
    if (!inner.whole) throw new Error('an archive inside is too large');
    waiting.push({ bytes: inner.bytes, depth: depth + 1 });
  };

  try {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const zip = await fromBufferPromise(next.bytes, {
        lazyEntries: true,
        strictFileNames: false,
        validateEntrySizes: true,
      });
      try {
        // A declared ratio beyond the limit is believed: nobody writes one by mistake.
        for await (const entry of zip.eachEntry()) {
          if (found.names.length >= limits.filesMax) throw new Error('too many files');
          if (entry.uncompressedSize > Math.max(entry.compressedSize, 1024) * limits.ratioMax) {
            throw new Error(`"${entry.fileName.slice(0, 80)}" unpacks to far too much`);
          }
          await look(zip, entry, next.depth);
        }
      } finally {
        zip.close();
      }
    }
  } catch (error) {
    problem = (error as Error).message.split('\n')[0]!.slice(0, 200);
  }
  return { ...found, problem };
}

async function beginningOf(
  zip: ZipFile,
  entry: Entry,
  bytesMax: number,
): Promise<{ bytes: Buffer; whole: boolean }> {
  const stream: Readable = await zip.openReadStreamPromise(entry);
  const chunks: Buffer[] = [];
  let bytes = 0;
  let whole = true;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= bytesMax) {
        whole = false;
        break;
      }
    }
  } finally {
    stream.destroy();
  }
  return { bytes: Buffer.concat(chunks).subarray(0, bytesMax), whole };
}
