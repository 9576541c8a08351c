import { describe, expect, test } from '@jest/globals';
import { isFault } from '../../base/fault.ts';
import { readProxyHeader } from '../../mailwire/proxy-header.ts';

const signature = '\r\n\r\n\0\r\nQUIT\n';

/** A version 2 header: command and family bytes, then what follows the length. */
function v2(commandByte: number, familyByte: number, block: readonly number[], size = block.length): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(size);
  return Buffer.concat([
    Buffer.from(signature, 'latin1'),
    Buffer.from([commandByte, familyByte]),
    length,
    Buffer.from(block),
  ]);
}

const ipv4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 143];
const ipv6 = [
  ...[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  ...[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
  ...[0x12, 0x67, 0, 143],
];

const good = [
  { name: 'TCP4', bytes: 'PROXY TCP4 192.0.2.7 198.51.100.1 4711 143\r\n', source: '192.0.2.7 4711' },
  { name: 'TCP6', bytes: 'PROXY TCP6 2001:db8::1 2001:db8::2 4711 143\r\n', source: '2001:db8::1 4711' },
  { name: 'UNKNOWN', bytes: 'PROXY UNKNOWN\r\n', source: 'none' },
  { name: 'UNKNOWN with fields to ignore', bytes: 'PROXY UNKNOWN ff::1 x 1 2\r\n', source: 'none' },
  { name: 'v2 over IPv4', bytes: v2(0x21, 0x11, ipv4), source: '192.0.2.7 4711' },
  { name: 'v2 with TLVs', bytes: v2(0x21, 0x11, [...ipv4, 4, 0, 2, 9, 9]), source: '192.0.2.7 4711' },
  { name: 'v2 over IPv6', bytes: v2(0x21, 0x21, ipv6), source: '2001:db8:0:0:0:0:0:1 4711' },
  { name: 'v2 LOCAL', bytes: v2(0x20, 0x11, ipv4), source: 'none' },
  { name: 'v2 LOCAL without addresses', bytes: v2(0x20, 0, []), source: 'none' },
  { name: 'v2 UNSPEC', bytes: v2(0x21, 0, [1, 2, 3]), source: 'none' },
  { name: 'v2 AF_UNIX', bytes: v2(0x21, 0x31, new Array(216).fill(0)), source: 'none' },
].map((row) => ({ ...row, bytes: Buffer.from(row.bytes as string, 'latin1') }));

const bad = [
  { name: 'a stranger: a mail command', bytes: 'EHLO you\r\n' },
  { name: 'a TLS hello', bytes: '\x16\x03\x01' },
  { name: 'v1 with too few fields', bytes: 'PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n' },
  { name: 'v1 with an IPv6 address under TCP4', bytes: 'PROXY TCP4 ::1 198.51.100.1 4711 143\r\n' },
  { name: 'v1 with a port of 65536', bytes: 'PROXY TCP4 192.0.2.7 198.51.100.1 65536 143\r\n' },
  { name: 'v1 with a port in octal', bytes: 'PROXY TCP4 192.0.2.7 198.51.100.1 007 143\r\n' },
  { name: 'v1 over 107 bytes', bytes: `PROXY UNKNOWN ${'x'.repeat(120)}\r\n` },
  { name: 'v1 without end', bytes: `PROXY UNKNOWN ${'x'.repeat(120)}` },
  { name: 'v2 of a version to come', bytes: v2(0x31, 0x11, ipv4) },
  { name: 'v2 with an unknown command', bytes: v2(0x22, 0x11, ipv4) },
  { name: 'v2 over IPv4 with the addresses cut', bytes: v2(0x21, 0x11, ipv4.slice(0, 8)) },
  { name: 'v2 over IPv6 with IPv4 addresses', bytes: v2(0x21, 0x21, ipv4) },
  { name: 'v2 of 60 KiB', bytes: v2(0x21, 0x11, ipv4, 61440) },
].map((row) => ({ ...row, bytes: Buffer.from(row.bytes as string, 'latin1') }));

describe('PROXY headers', () => {
  test.each(good)('$name is read, and what follows is left alone', ({ bytes, source }) => {
    const found = readProxyHeader(Buffer.concat([bytes, Buffer.from('a NOOP\r\n')]));
    expect(found?.length).toBe(bytes.length);
    const at = found?.header.source;
    expect(at ? `${at.address} ${at.port}` : 'none').toBe(source);
  });

  test.each(good)('$name cut anywhere waits for more', ({ bytes }) => {
    for (let end = 0; end < bytes.length; end++) {
      expect(readProxyHeader(bytes.subarray(0, end))).toBeUndefined();
    }
  });

  test.each(bad)('$name is refused', ({ bytes }) => {
    let thrown: unknown;
    try {
      readProxyHeader(bytes);
    } catch (error) {
      thrown = error;
    }
    expect(isFault(thrown, 'bad-syntax')).toBe(true);
  });
});
