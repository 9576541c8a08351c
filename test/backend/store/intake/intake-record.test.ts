/** What stands in a segment is read back as it was written, and nothing else is taken for it. */
import { describe, expect, test } from '@jest/globals';
import {
  formatHeader,
  formatMeta,
  headerBytes,
  messageBytes,
  putMessage,
  putSettled,
  readHeader,
  readRecord,
  roundUp,
  settledBytes,
} from '../../../../backend/store/intake/intake-record.ts';

const logId = '0123456789abcdef';
const header = (generation: number) => formatHeader({ logId, segment: 3, generation, bytes: 4096 });
const meta = formatMeta('ann@example.org', 'aa'.repeat(10), '1.U7_x');
const body = Buffer.from('Subject: x\r\n\r\nbody');

function segment(generation = 5): { bytes: Buffer; seed: number } {
  const bytes = Buffer.alloc(4096);
  const { bytes: head, seed } = header(generation);
  head.copy(bytes);
  const at = putMessage(bytes, headerBytes, seed, { seq: 11, batch: 2, meta, body });
  putSettled(bytes, at, seed, { seq: 12, batch: 3, upTo: 10 });
  return { bytes, seed };
}

describe('a record', () => {
  const length = messageBytes(meta.length, body.length);

  test('with any bit changed is none', () => {
    const { bytes, seed } = segment();
    const end = headerBytes + 32 + meta.length + body.length;
    for (let at = headerBytes; at < end; at++) {
      bytes[at]! ^= 4;
      expect({ at, found: readRecord(bytes, headerBytes, seed) }).toEqual({ at, found: undefined });
      bytes[at]! ^= 4;
    }
    expect(readRecord(bytes, headerBytes, seed)).toBeDefined();
  });

  test('cut short at any place is none', () => {
    const { bytes, seed } = segment();
    for (let end = headerBytes; end < headerBytes + 32 + meta.length + body.length; end += 7) {
      expect(readRecord(bytes.subarray(0, end), headerBytes, seed)).toBeUndefined();
    }
  });

  test('of an earlier use of the segment, or of another log, is none', () => {
    const { bytes } = segment(5);
    expect(readRecord(bytes, headerBytes, header(6).seed)).toBeUndefined();
    const other = formatHeader({ logId: 'f'.repeat(16), segment: 3, generation: 5, bytes: 4096 });
    expect(readRecord(bytes, headerBytes, other.seed)).toBeUndefined();
  });

  test('is read back, and the next one behind it', () => {
    const { bytes, seed } = segment();
    const first = readRecord(bytes, headerBytes, seed)!;
    expect(first.record).toEqual({
      kind: 'message',
      seq: 11,
      batch: 2,
      account: 'ann@example.org',
      mailboxId: 'aa'.repeat(10),
      name: '1.U7_x',
      body,
    });
    expect(first.next).toBe(headerBytes + length);
    expect(first.next).toBe(roundUp(first.next));
    expect(readRecord(bytes, first.next, seed)).toEqual({
      record: { kind: 'settled', seq: 12, batch: 3, upTo: 10 },
      next: first.next + settledBytes,
    });
    expect(readRecord(bytes, first.next + settledBytes, seed)).toBeUndefined();
  });

  test('of an empty message is one', () => {
    const { bytes, seed } = segment();
    putMessage(bytes, headerBytes, seed, { seq: 1, batch: 1, meta, body: Buffer.alloc(0) });
    expect(readRecord(bytes, headerBytes, seed)?.record).toMatchObject({ seq: 1, body: Buffer.alloc(0) });
  });
});

describe('a header', () => {
  test('with any bit changed, or cut short, is none', () => {
    const { bytes } = header(1);
    for (let at = 0; at < headerBytes; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 1;
      expect(readHeader(damaged)).toBeUndefined();
    }
    expect(readHeader(bytes.subarray(0, headerBytes - 1))).toBeUndefined();
    expect(readHeader(Buffer.alloc(headerBytes))).toBeUndefined();
  });

  test('is read back', () => {
    const { bytes, seed } = header(2 ** 40);
    expect(readHeader(bytes)).toEqual({ logId, segment: 3, generation: 2 ** 40, bytes: 4096, seed });
  });
});
