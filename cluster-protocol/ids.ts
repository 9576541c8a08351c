/** Names both sides must spell alike: members, accounts, shards. */
import { hash } from 'node:crypto';
import { Fault } from '../base/fault.ts';

/** `gateway-1`, `backend-3`: the supervisor's name for a member on its machine, unique in the cluster. */
export type MemberId = string;

/** The canonical address of an account: `local@domain`, see `canonicalAddress`. */
export type Address = string;

/** 0 … shardCount − 1. */
export type Shard = number;

/** Grows with every grant; an owner acts at exactly one. */
export type Epoch = number;

export const localPartBytesMax = 64; // RFC 5321 4.5.3.1.1
export const domainBytesMax = 253; // RFC 5321 4.5.3.1.2 less the root dot and length byte
export const shardCountDefault = 4096;

/**
 * The one spelling of an account's name: NFC, lower case, no quoting.
 *
 * Local parts become directory names and pattern arguments elsewhere, so what
 * is let through is a list, not what is left after removing bad characters:
 * letters and digits of any script, and `. _ + - = ' ~ & !` (CASES 32: `../a`,
 * `a%00`, `%{…}` are refused, case and NFC variants meet in one name).
 *
 * @throws {Fault} `bad-name`
 */
export function canonicalAddress(text: string): Address {
  const at = text.lastIndexOf('@');
  if (at <= 0 || at === text.length - 1 || text.length > 1024) {
    throw new Fault('bad-name', 'an account is named local@domain');
  }
  return `${canonicalLocalPart(text.slice(0, at))}@${canonicalDomain(text.slice(at + 1))}`;
}

/** @throws {Fault} `bad-name` */
export function canonicalLocalPart(text: string): string {
  const name = text.normalize('NFC').toLowerCase().normalize('NFC');
  const good = /^[\p{L}\p{N}\p{M}._+\-=~&!']+$/u.test(name) && !/^[.-]|\.$|\.\./.test(name);
  if (!good || Buffer.byteLength(name) > localPartBytesMax) {
    throw new Fault('bad-name', 'this local part cannot name an account');
  }
  return name;
}

/** Lower case, A-labels for international names, no trailing dot. @throws {Fault} `bad-name` */
export function canonicalDomain(text: string): string {
  const name = domainToAscii(text.endsWith('.') ? text.slice(0, -1) : text);
  const labels = name.split('.');
  const good =
    name.length <= domainBytesMax &&
    labels.every((label) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
  if (!good || name === '') throw new Fault('bad-name', 'this is not a domain name');
  return name;
}

function domainToAscii(text: string): string {
  if (/^[A-Za-z0-9.-]*$/.test(text)) return text.toLowerCase();
  if (text.length > 255 || /[/\\?#@:%[\]\s]/.test(text)) return '';
  try {
    return new URL(`http://${text.normalize('NFC')}`).hostname;
  } catch {
    return '';
  }
}

/** Splits a canonical address. */
export function addressParts(address: Address): { local: string; domain: string } {
  const at = address.lastIndexOf('@');
  return { local: address.slice(0, at), domain: address.slice(at + 1) };
}

/** Shards found lately: a login asks for the same one half a dozen times on its way. */
const remembered = new Map<Address, number>();
const rememberedMax = 10_000;

/** The shard of an account: the first 48 bits of SHA-256 of its canonical address, modulo the shard count. */
export function shardOf(address: Address, shardCount: number): Shard {
  let number = remembered.get(address);
  if (number === undefined) {
    number = hash('sha256', address, 'buffer').readUIntBE(0, 6);
    if (remembered.size >= rememberedMax) remembered.clear();
    remembered.set(address, number);
  }
  return number % shardCount;
}
