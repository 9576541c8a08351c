/**
 * The client's address as everything else here judges it. An IPv6 address that
 * carries an IPv4 address is that IPv4 address: else `::ffff:7f00:1` walks past
 * a rule about 127.0.0.1, and every client behind a NAT64 past its count
 * (CASES 66, 67).
 */
import { isIPv4 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Fault } from '../../base/fault.ts';
import type { Client } from '../session/session.ts';

type Ip = ipaddr.IPv4 | ipaddr.IPv6;

/** An address range, as `net.proxy_from` lists them. */
export interface Network {
  readonly base: Ip;
  readonly bits: number;
}

/**
 * The canonical form of an address: dotted IPv4, or RFC 5952 IPv6 without zone.
 * @throws {Fault} `bad-syntax` when it is no IP address.
 */
export function canonicalAddress(text: string): string {
  return show(parse(text));
}

/** What a session knows of a client at `address` (any spelling) and `port`. @throws {Fault} `bad-syntax` */
export function clientOf(address: string, port: number): Client {
  // The two forms almost every client has, without building an address object for each connection.
  const dotted = address.startsWith('::ffff:') ? address.slice(7) : address;
  const ip = isIPv4(dotted) ? undefined : parse(address);
  if (ip === undefined || ip.kind() === 'ipv4') {
    const text = ip?.toString() ?? dotted;
    return {
      address: text,
      port,
      network: text,
      wideNetwork: `${text.slice(0, text.lastIndexOf('.'))}.0/24`,
    };
  }
  const { parts } = ip as ipaddr.IPv6;
  return { address: show(ip), port, network: prefixOf(parts, 4), wideNetwork: prefixOf(parts, 3) };
}

/** `10.0.0.0/8`, `2001:db8::/32`, or one address. @throws {Fault} `bad-syntax` */
export function parseNetwork(text: string): Network {
  const slash = text.indexOf('/');
  if (slash < 0) {
    const base = parse(text);
    return { base, bits: base.kind() === 'ipv4' ? 32 : 128 };
  }
  const bits = Number(text.slice(slash + 1));
  const written = text.slice(0, slash);
  const base = parse(written);
  // A network written as mapped IPv4 (`::ffff:10.0.0.0/104`) counts its bits from the front of the IPv6 address.
  const carried = base.kind() === 'ipv4' && written.includes(':') ? bits - 96 : bits;
  const most = base.kind() === 'ipv4' ? 32 : 128;
  if (!/^\d{1,3}$/.test(text.slice(slash + 1)) || carried < 0 || carried > most)
    throw new Fault('bad-syntax', `"${text}" is not a network; write one like "10.0.0.0/8"`);
  return { base, bits: carried };
}

export function isInNetworks(address: string, networks: readonly Network[]): boolean {
  if (networks.length === 0) return false;
  const ip = parse(address);
  return networks.some(({ base, bits }) => base.kind() === ip.kind() && ip.match(base, bits));
}

/** Can a client be there, seen from another machine? Not loopback, unspecified, multicast or broadcast. */
export function canBeClient(address: string): boolean {
  return !['loopback', 'unspecified', 'multicast', 'broadcast'].includes(parse(address).range());
}

function parse(text: string): Ip {
  const percent = text.indexOf('%');
  let ip: Ip;
  try {
    // ipaddr.js also takes octal, hexadecimal and short IPv4 forms ("0x7f.1"): only four decimals are one here.
    const bare = percent < 0 ? text : text.slice(0, percent);
    if (!bare.includes(':') && !ipaddr.IPv4.isValidFourPartDecimal(bare))
      throw new Error('no dotted address');
    ip = ipaddr.parse(bare);
  } catch (cause) {
    throw new Fault('bad-syntax', 'this is not an IP address', {
      cause,
      detail: { text: text.slice(0, 64) },
    });
  }
  return ip.kind() === 'ipv6' ? (carriedIpv4((ip as ipaddr.IPv6).parts) ?? ip) : ip;
}

/** The IPv4 address inside an IPv6 address, by its groups. */
function carriedIpv4(parts: readonly number[]): ipaddr.IPv4 | undefined {
  const [g0, g1, g2, g3, g4, g5, g6, g7] = parts as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const from = (high: number, low: number): ipaddr.IPv4 =>
    new ipaddr.IPv4([high >> 8, high & 255, low >> 8, low & 255]);
  if (g0 === 0x2002) return from(g1, g2); // 6to4, RFC 3056 2
  if (g0 === 0x64 && g1 === 0xff9b && (g2 | g3 | g4 | g5) === 0) return from(g6, g7); // NAT64, RFC 6052 2.1
  if ((g0 | g1 | g2 | g3) !== 0) return undefined;
  if (g4 === 0 && g5 === 0xffff) return from(g6, g7); // mapped, RFC 4291 2.5.5.2
  if (g4 === 0xffff && g5 === 0) return from(g6, g7); // translated, RFC 2765 2.1
  if ((g4 | g5) === 0 && g6 >> 8 !== 0) return from(g6, g7); // compatible, RFC 4291 2.5.5.1; not :: and ::1
  return undefined;
}

function show(ip: Ip): string {
  return ip.kind() === 'ipv4' ? ip.toString() : (ip as ipaddr.IPv6).toRFC5952String();
}

/** The prefix of `groups` 16-bit groups: `2001:db8:1:2::/64` for 4. */
function prefixOf(parts: readonly number[], groups: number): string {
  const kept = parts.map((part, index) => (index < groups ? part : 0));
  return `${new ipaddr.IPv6(kept).toRFC5952String()}/${groups * 16}`;
}
