/**
 * What stands in a segment of an intake log: a header, then records, each at a
 * multiple of 64 bytes. The checksum of a record begins with that of the
 * header, which holds the segment's generation: what a segment held before it
 * was used again is never taken for something new. Pure.
 */
import { crc32 } from 'node:zlib';

export const alignBytes = 64;
export const headerBytes = alignBytes;
const segmentMagic = 'PSTNINT1';
const recordMagic = 0x506e5231;
const fixedBytes = 32;
/** Account, mailbox id and file name. */
const metaBytesMax = 4096;

export interface SegmentHeader {
  /** 16 hex digits. */
  readonly logId: string;
  readonly segment: number;
  /** Grows with each use of any segment of the log. */
  readonly generation: number;
  /** Length of the file. */
  readonly bytes: number;
}

export type IntakeRecord =
  | {
      readonly kind: 'message';
      /** Grows by one with each record of the log. */
      readonly seq: number;
      /** Records of one write; the next write begins when this one is durable. */
      readonly batch: number;
      /** Address. */
      readonly account: string;
      readonly mailboxId: string;
      /** Name of the file in `cur/`: UID, email id, sequence, delivery key, sizes, flags. */
      readonly name: string;
      readonly body: Buffer;
    }
  /** The files of all messages up to `upTo` are durable, or nobody wants them any more. */
  | { readonly kind: 'settled'; readonly seq: number; readonly batch: number; readonly upTo: number };

const kindCode = { message: 1, settled: 2 } as const;

export function roundUp(bytes: number): number {
  return Math.ceil(bytes / alignBytes) * alignBytes;
}

export function formatHeader(header: SegmentHeader): { readonly bytes: Buffer; readonly seed: number } {
  const bytes = Buffer.alloc(headerBytes);
  bytes.write(segmentMagic, 0, 'latin1');
  bytes.write(header.logId, 8, 16, 'latin1');
  bytes.writeUInt32LE(header.segment, 24);
  bytes.writeUIntLE(header.generation, 28, 6);
  bytes.writeUInt32LE(header.bytes, 34);
  const seed = crc32(bytes.subarray(0, headerBytes - 4));
  bytes.writeUInt32LE(seed, headerBytes - 4);
  return { bytes, seed };
}

/** `undefined`: not a header. */
export function readHeader(bytes: Buffer): (SegmentHeader & { readonly seed: number }) | undefined {
  if (bytes.length < headerBytes || bytes.toString('latin1', 0, 8) !== segmentMagic) return undefined;
  const seed = crc32(bytes.subarray(0, headerBytes - 4));
  if (bytes.readUInt32LE(headerBytes - 4) !== seed) return undefined;
  return {
    logId: bytes.toString('latin1', 8, 24),
    segment: bytes.readUInt32LE(24),
    generation: bytes.readUIntLE(28, 6),
    bytes: bytes.readUInt32LE(34),
    seed,
  };
}

/** Account, mailbox id and name as they stand in a record. */
export function formatMeta(account: string, mailboxId: string, name: string): Buffer {
  return Buffer.from(`${account}\0${mailboxId}\0${name}`);
}

/** Bytes a message takes in a segment. */
export function messageBytes(metaLength: number, bodyLength: number): number {
  return roundUp(fixedBytes + metaLength + bodyLength);
}

export const settledBytes = roundUp(fixedBytes + 6);

/** Writes a message at `at`, which must have room. @returns where the next record begins. */
export function putMessage(
  into: Buffer,
  at: number,
  seed: number,
  record: { readonly seq: number; readonly batch: number; readonly meta: Buffer; readonly body: Buffer },
): number {
  record.meta.copy(into, at + fixedBytes);
  record.body.copy(into, at + fixedBytes + record.meta.length);
  return seal(into, at, seed, kindCode.message, record, record.meta.length, record.body.length);
}

export function putSettled(
  into: Buffer,
  at: number,
  seed: number,
  record: { readonly seq: number; readonly batch: number; readonly upTo: number },
): number {
  into.writeUIntLE(record.upTo, at + fixedBytes, 6);
  return seal(into, at, seed, kindCode.settled, record, 0, 6);
}

function seal(
  into: Buffer,
  at: number,
  seed: number,
  kind: number,
  { seq, batch }: { readonly seq: number; readonly batch: number },
  metaLength: number,
  bodyLength: number,
): number {
  into.writeUInt32LE(recordMagic, at);
  into.writeUInt32LE(bodyLength, at + 8);
  into.writeUInt16LE(metaLength, at + 12);
  into.writeUInt16LE(kind, at + 14);
  into.writeUIntLE(seq, at + 16, 6);
  into.writeUIntLE(batch, at + 22, 6);
  into.writeUInt32LE(0, at + 28);
  const end = at + fixedBytes + metaLength + bodyLength;
  into.writeUInt32LE(crc32(into.subarray(at + 8, end), seed), at + 4);
  const next = roundUp(end);
  into.fill(0, end, next);
  return next;
}

/** The record that begins at `at`; `undefined`: there is none, or it is not what was written. */
export function readRecord(
  bytes: Buffer,
  at: number,
  seed: number,
): { readonly record: IntakeRecord; readonly next: number } | undefined {
  if (at + fixedBytes > bytes.length || bytes.readUInt32LE(at) !== recordMagic) return undefined;
  const bodyLength = bytes.readUInt32LE(at + 8);
  const metaLength = bytes.readUInt16LE(at + 12);
  const end = at + fixedBytes + metaLength + bodyLength;
  if (metaLength > metaBytesMax || end > bytes.length) return undefined;
  if (crc32(bytes.subarray(at + 8, end), seed) !== bytes.readUInt32LE(at + 4)) return undefined;
  const seq = bytes.readUIntLE(at + 16, 6);
  const batch = bytes.readUIntLE(at + 22, 6);
  const next = roundUp(end);
  const bodyAt = at + fixedBytes + metaLength;
  if (bytes.readUInt16LE(at + 14) === kindCode.settled) {
    return { record: { kind: 'settled', seq, batch, upTo: bytes.readUIntLE(bodyAt, 6) }, next };
  }
  const [account = '', mailboxId = '', name = ''] = bytes
    .toString('utf8', at + fixedBytes, bodyAt)
    .split('\0');
  return {
    record: { kind: 'message', seq, batch, account, mailboxId, name, body: bytes.subarray(bodyAt, end) },
    next,
  };
}

/** Sequence of what may be a record, unchecked; 0: it is none. */
export function peekSeq(bytes: Buffer): number {
  return bytes.length >= fixedBytes && bytes.readUInt32LE(0) === recordMagic ? bytes.readUIntLE(16, 6) : 0;
}
