/**
 * The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): what a
 * balancer writes before the client's first byte. Parsed as it arrives and
 * bounded. Who may send one is not decided here.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { Fault } from '../base/fault.ts';

/** `source` is undefined for LOCAL (the balancer's own health check), UNKNOWN and UNSPEC: the address stays as it was. */
export interface ProxyHeader {
  readonly version: 1 | 2;
  readonly source: { readonly address: string; readonly port: number } | undefined;
}

/** Longest version 1 line, CRLF included (section 2.1). */
const v1BytesMax = 107;
/** Addresses and TLVs of version 2 that are read; the largest sensible TLVs (certificate names) fit well. */
const v2BytesMax = 4096;
const v2Signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const v1Start = Buffer.from('PROXY ', 'latin1');

/**
 * Reads the header from the start of what has arrived so far.
 * @param bytes  Everything received yet, from the first byte.
 * @returns `undefined`: more bytes are needed. Otherwise the header and how many bytes it took.
 * @throws {Fault} `bad-syntax`: not a PROXY header; close, since the client's address is not known.
 */
export function readProxyHeader(bytes: Buffer): { header: ProxyHeader; length: number } | undefined {
  if (bytes.length === 0) return undefined;
  if (startsLike(bytes, v2Signature)) return bytes.length < 16 ? undefined : readVersion2(bytes);
  if (startsLike(bytes, v1Start)) return readVersion1(bytes);
  throw malformed('neither version 1 nor 2');
}

function readVersion1(bytes: Buffer): { header: ProxyHeader; length: number } | undefined {
  const end = bytes.subarray(0, v1BytesMax).indexOf('\r\n');
  if (end < 0) {
    if (bytes.length >= v1BytesMax) throw malformed('version 1 line too long');
    return undefined;
  }
  const words = bytes.toString('latin1', 0, end).split(' ');
  const length = end + 2;
  if (words[1] === 'UNKNOWN') return { header: { version: 1, source: undefined }, length };
  const [, family, source = '', destination = '', sourcePort = '', destinationPort = ''] = words;
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : undefined;
  const good =
    words.length === 6 &&
    isAddress?.(source) &&
    isAddress(destination) &&
    isPort(sourcePort) &&
    isPort(destinationPort);
  if (!good) throw malformed('version 1 fields');
  return { header: { version: 1, source: { address: source, port: Number(sourcePort) } }, length };
}

function readVersion2(bytes: Buffer): { header: ProxyHeader; length: number } | undefined {
  const version = bytes[12]! >> 4;
  const command = bytes[12]! & 15;
  const family = bytes[13]! >> 4;
  const size = bytes.readUInt16BE(14);
  if (version !== 2 || command > 1) throw malformed('version 2 command');
  if (size > v2BytesMax) throw malformed('version 2 header too long');
  const length = 16 + size;
  if (bytes.length < length) return undefined;
  // Section 2.2: with LOCAL and AF_UNSPEC the receiver skips the block and keeps the real endpoints.
  if (command === 0 || family === 0) return { header: { version: 2, source: undefined }, length };
  if (family === 1 && size >= 12) {
    const address = Array.from(bytes.subarray(16, 20)).join('.');
    return { header: { version: 2, source: { address, port: bytes.readUInt16BE(24) } }, length };
  }
  if (family === 2 && size >= 36) {
    const groups = Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(16 + 2 * group).toString(16));
    return {
      header: { version: 2, source: { address: groups.join(':'), port: bytes.readUInt16BE(48) } },
      length,
    };
  }
  // AF_UNIX names no address a client of ours could have.
  if (family === 3) return { header: { version: 2, source: undefined }, length };
  throw malformed('version 2 addresses');
}

/** Could `bytes` be, or begin with, `start`? */
function startsLike(bytes: Buffer, start: Buffer): boolean {
  const both = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, both, 0, both) === 0;
}

function isPort(text: string): boolean {
  return /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65535;
}

function malformed(what: string): Fault {
  return new Fault('bad-syntax', 'the PROXY header cannot be read', { detail: { what } });
}
