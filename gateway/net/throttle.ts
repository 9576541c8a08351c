/**
 * The first cap a client meets: connections at once, in all and per network,
 * before TLS and before any plugin has cost anything. Memory is bounded by the
 * connections there are: a network with none is not remembered.
 */
import type { Client } from '../session/session.ts';

/**
 * An IPv6 /48 is one subscriber as often as a /64 is (RFC 6177), and rotating through its /64s is free: as a whole it
 * may hold this many times what one network may. IPv4 /24s belong to many and are not counted here.
 */
const wideFactor = 4;

export interface ThrottleLimits {
  readonly connectionsMax: number;
  readonly perNetworkMax: number;
}

export class Throttle {
  readonly #limits: ThrottleLimits;
  readonly #perNetwork = new Map<string, number>();
  #total = 0;

  constructor(limits: ThrottleLimits) {
    this.#limits = limits;
  }

  get total(): number {
    return this.#total;
  }

  /** Networks that hold a connection now. */
  get networks(): number {
    return this.#perNetwork.size;
  }

  /** Counts a connection that was accepted but whose client is not known yet (PROXY). Give back with `leave`. */
  enter(): 'ok' | 'full' {
    if (this.#total >= this.#limits.connectionsMax) return 'full';
    this.#total++;
    return 'ok';
  }

  leave(): void {
    this.#total--;
  }

  /** Counts a connection of this client. Give back with `leaveNetwork`. */
  enterNetwork(client: Client): 'ok' | 'network' {
    const { perNetworkMax } = this.#limits;
    const wide = isIpv6(client);
    if ((this.#perNetwork.get(client.network) ?? 0) >= perNetworkMax) return 'network';
    if (wide && (this.#perNetwork.get(client.wideNetwork) ?? 0) >= perNetworkMax * wideFactor)
      return 'network';
    this.#add(client.network, 1);
    if (wide) this.#add(client.wideNetwork, 1);
    return 'ok';
  }

  leaveNetwork(client: Client): void {
    this.#add(client.network, -1);
    if (isIpv6(client)) this.#add(client.wideNetwork, -1);
  }

  #add(network: string, by: number): void {
    const held = (this.#perNetwork.get(network) ?? 0) + by;
    if (held > 0) this.#perNetwork.set(network, held);
    else this.#perNetwork.delete(network);
  }
}

function isIpv6(client: Client): boolean {
  return client.address.includes(':');
}
