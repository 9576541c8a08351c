/**
 * Who may not connect at all. Looked at for every connection before TLS, so a
 * look-up costs one hash look-up per prefix length there is, and memory is bounded
 * by `bansMax`.
 */
import ipaddr from 'ipaddr.js';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { banBitsMin, bansMax, decodeBan } from '../../cluster-protocol/bans.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { type Network, parseNetwork } from './address.ts';

/** Network → until when, in ms of the calendar; `Infinity` for as long as it stands. */
export class BanList {
  /** Bits → base of the network, as it is written → until. */
  readonly #ipv4 = new Map<number, Map<number, number>>();
  readonly #ipv6 = new Map<number, Map<string, number>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  clear(): void {
    this.#ipv4.clear();
    this.#ipv6.clear();
    this.#size = 0;
  }

  /** @returns false when there is no room. */
  add({ base, bits }: Network, untilMs: number): boolean {
    const { list, key } = this.#place(base, bits);
    if (!list.has(key)) {
      if (this.#size >= bansMax) return false;
      this.#size++;
    }
    list.set(key, untilMs);
    return true;
  }

  remove({ base, bits }: Network): void {
    const { list, key } = this.#place(base, bits);
    if (list.delete(key)) this.#size--;
    const all: Map<number, unknown> = base.kind() === 'ipv4' ? this.#ipv4 : this.#ipv6;
    if (list.size === 0) all.delete(bits);
  }

  /** @param address  Canonical: an IPv6 address that carries an IPv4 address is that one already. */
  has(address: string, nowMs: number): boolean {
    if (this.#size === 0) return false;
    if (!address.includes(':')) {
      const number = numberOf(address.split('.').map(Number));
      for (const [bits, list] of this.#ipv4) if (isOn(list.get(masked(number, bits)), nowMs)) return true;
      return false;
    }
    const { parts } = ipaddr.IPv6.parse(address);
    for (const [bits, list] of this.#ipv6) if (isOn(list.get(prefixOf(parts, bits)), nowMs)) return true;
    return false;
  }

  #place(base: Network['base'], bits: number): { list: Map<unknown, number>; key: unknown } {
    if (base.kind() === 'ipv4') {
      const key = masked(numberOf((base as ipaddr.IPv4).octets), bits);
      return { list: listOf<number>(this.#ipv4, bits), key };
    }
    return { list: listOf<string>(this.#ipv6, bits), key: prefixOf((base as ipaddr.IPv6).parts, bits) };
  }
}

/**
 * A network that may be banned, and its one spelling: no bits beyond the prefix.
 * @throws {Fault} `bad-argument` with the remedy.
 */
export function bannable(text: string): { readonly network: Network; readonly name: string } {
  let network: Network;
  try {
    network = parseNetwork(text);
  } catch {
    throw new Fault(
      'bad-argument',
      `"${text}" is no address or network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48`,
    );
  }
  const { base, bits } = network;
  const least = banBitsMin[base.kind() as 'ipv4' | 'ipv6'];
  if (bits < least) throw new Fault('bad-argument', `${text} is wider than /${least}; ban narrower networks`);
  if (base.kind() === 'ipv4')
    return { network, name: `${ipaddr.IPv4.networkAddressFromCIDR(`${base}/${bits}`)}/${bits}` };
  const first = ipaddr.IPv6.networkAddressFromCIDR(`${base}/${bits}`);
  return { network, name: `${first.toRFC5952String()}/${bits}` };
}

/** A list that follows the registry until `signal` ends it. What cannot be read is logged and left out. */
export function followBans(registry: Registry, log: Log, signal: AbortSignal): BanList {
  const bans = new BanList();
  const networkOf = (key: string): Network | undefined => {
    try {
      return bannable(key.slice(registryKey.banPrefix.length)).network;
    } catch (error) {
      log.error({ key, error: String(error) }, 'a ban cannot be read');
      return undefined;
    }
  };
  const put = (key: string, value: string): void => {
    const ban = decodeBan(value);
    const network = networkOf(key);
    if (ban === undefined || network === undefined) return;
    if (!bans.add(network, ban.untilMs ?? Number.POSITIVE_INFINITY))
      log.error({ key, bansMax }, 'too many bans: this one has no effect');
  };
  follow(
    registry,
    [registryKey.banPrefix],
    {
      reset: (entries) => {
        bans.clear();
        for (const { key, value } of entries) put(key, value);
      },
      event: ({ kind, key, value }) => {
        if (kind === 'put') return put(key, value);
        const network = networkOf(key);
        if (network !== undefined) bans.remove(network);
      },
      trouble: (error) => log.warn({ error: String(error) }, 'bans cannot be read'),
    },
    signal,
  );
  return bans;
}

function listOf<K>(all: Map<number, Map<K, number>>, bits: number): Map<unknown, number> {
  let list = all.get(bits);
  if (list === undefined) {
    list = new Map();
    all.set(bits, list);
  }
  return list as Map<unknown, number>;
}

const isOn = (untilMs: number | undefined, nowMs: number): boolean =>
  untilMs !== undefined && untilMs > nowMs;

const numberOf = (octets: readonly number[]): number =>
  ((octets[0]! << 24) | (octets[1]! << 16) | (octets[2]! << 8) | octets[3]!) >>> 0;

const masked = (number: number, bits: number): number =>
  bits === 0 ? 0 : (number & (-1 << (32 - bits))) >>> 0;

function prefixOf(parts: readonly number[], bits: number): string {
  return parts
    .map((part, index) => {
      const kept = Math.min(16, Math.max(0, bits - index * 16));
      return (part & (0xffff << (16 - kept)) & 0xffff).toString(16);
    })
    .join(':');
}
