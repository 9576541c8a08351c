/** Reads the headers of a `/deliver` or `/settle` opening: who gets the message, how big it is, its key; what is settled. */
import type { IncomingHttpHeaders } from 'node:http2';
import { Fault } from '../../../base/fault.ts';
import { type Address, canonicalAddress } from '../../../cluster-protocol/ids.ts';
import {
  linkHeader,
  recipientsPerDeliveryMax,
  settledPerRequestMax,
} from '../../../cluster-protocol/link.ts';

/** Longest percent-encoded address: 64 + 1 + 253 bytes, each as three characters. */
const encodedAddressCharsMax = 3 * 318;

export interface DeliveryOpening {
  /** Canonical, each once. */
  readonly recipients: readonly Address[];
  readonly deliveryKey: string;
  /** Empty for a bounce. */
  readonly reversePath: string;
  /** Bytes of the body. */
  readonly size: number;
  /** Into the folder of this use; the inbox when absent. */
  readonly fileInto?: 'junk';
}

/** @throws {Fault} `bad-syntax` */
export function deliveryOpening(headers: IncomingHttpHeaders): DeliveryOpening {
  return {
    recipients: recipientsOf(headers),
    deliveryKey: deliveryKeyOf(headers),
    reversePath: decoded(textOf(headers, linkHeader.reversePath) ?? '').slice(0, 1024),
    size: sizeOf(headers),
    ...(textOf(headers, linkHeader.fileInto) === 'junk' ? { fileInto: 'junk' } : {}),
  };
}

/** @throws {Fault} `bad-syntax` when there are none, too many, or one is not a canonical address. */
export function recipientsOf(headers: IncomingHttpHeaders): readonly Address[] {
  const words = wordsOf(headers, linkHeader.recipients, recipientsPerDeliveryMax);
  return [...new Set(words.map(addressOf))];
}

/** Delivery keys by account. @throws {Fault} `bad-syntax` when there are none, too many, or one is malformed. */
export function settledOf(headers: IncomingHttpHeaders): ReadonlyMap<Address, readonly string[]> {
  const settled = new Map<Address, string[]>();
  for (const word of wordsOf(headers, linkHeader.settled, settledPerRequestMax)) {
    const equals = word.indexOf('=');
    const key = checkedKey(word.slice(0, Math.max(0, equals)));
    const address = addressOf(word.slice(equals + 1));
    const keys = settled.get(address);
    if (keys) keys.push(key);
    else settled.set(address, [key]);
  }
  return settled;
}

/** @throws {Fault} `bad-syntax` */
export function deliveryKeyOf(headers: IncomingHttpHeaders): string {
  return checkedKey(textOf(headers, linkHeader.deliveryKey) ?? '');
}

function wordsOf(headers: IncomingHttpHeaders, name: string, countMax: number): readonly string[] {
  const words = (textOf(headers, name) ?? '').split(',', countMax + 1);
  if (words.length > countMax) throw new Fault('bad-syntax', `${name} is too long`);
  return words;
}

function addressOf(word: string): Address {
  if (word.length > encodedAddressCharsMax) throw new Fault('bad-syntax', 'a recipient is too long');
  const address = decoded(word.trim());
  if (!isCanonical(address)) throw new Fault('bad-syntax', 'a recipient is not a canonical address');
  return address;
}

function checkedKey(key: string): string {
  if (!/^[0-9a-f]{32}$/.test(key)) throw new Fault('bad-syntax', 'the delivery key is not 32 hex digits');
  return key;
}

/** @throws {Fault} `bad-syntax` */
export function sizeOf(headers: IncomingHttpHeaders): number {
  const text = textOf(headers, linkHeader.size) ?? '';
  if (!/^\d{1,15}$/.test(text)) throw new Fault('bad-syntax', 'the size is not a number');
  return Number(text);
}

function isCanonical(address: string): boolean {
  try {
    return canonicalAddress(address) === address;
  } catch {
    return false;
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new Fault('bad-syntax', 'a header is not percent-encoded', { cause });
  }
}

function textOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}
