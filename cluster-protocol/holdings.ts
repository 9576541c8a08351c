/**
 * What one backend holds, from its own point of view: the shard map as it last
 * saw it, less what it has let go of since. It says for what the backend may act
 * and what it has to bring to a standstill. Pure bookkeeping: no clock, no
 * registry; the lease is judged beside it (`lease.ts`).
 *
 * An old picture of the map is safe to act on while the lease is good: nothing
 * held is granted elsewhere before we have said that we released it.
 */
import { type Address, type Epoch, type Shard, shardOf } from './ids.ts';
import type { Released } from './released.ts';
import { type Holder, holdingOfAddress, type ShardMap, sameHolder } from './shard-map.ts';

/** Shards and pins that are to be handed over: no new sessions, flush, then `letGo`. */
export interface Leaving {
  readonly shards: ReadonlySet<Shard>;
  readonly pins: ReadonlySet<Address>;
  /** Does the account belong to what is leaving? */
  has(address: Address): boolean;
}

export interface MapChange {
  /** Holdings granted to this backend that it did not hold before. */
  readonly gained: number;
  /** Holdings it had and the map gives to somebody else, though it never released them: the lease must have ended. */
  readonly lost: number;
}

export class Holdings {
  readonly self: Holder;
  /** Changes whenever an earlier `epochFor` may no longer be true. */
  generation = 0;
  revision = 0;
  #map: ShardMap | undefined;
  /** Per shard: the epoch this backend may act at; 0 for none. */
  #held = new Float64Array(0);
  /** Per shard: the last epoch it has let go of; 0 for none. */
  #letGo = new Float64Array(0);
  readonly #pinsLetGo = new Map<Address, Epoch>();
  #count = 0;

  constructor(self: Holder) {
    this.self = self;
  }

  get map(): ShardMap | undefined {
    return this.#map;
  }

  /** Shards held, those that are leaving included. */
  get shardsHeld(): number {
    return this.#count;
  }

  /** Takes over a newer map; an older one is ignored. */
  takeMap(map: ShardMap, revision: number): MapChange {
    if (revision <= this.revision) return { gained: 0, lost: 0 };
    if (this.#held.length !== map.shardCount) {
      this.#held = new Float64Array(map.shardCount);
      this.#letGo = new Float64Array(map.shardCount);
    }
    const selfNumber = map.holders.findIndex((holder) => sameHolder(holder, this.self)) + 1;
    let gained = 0;
    let lost = 0;
    let count = 0;
    for (let shard = 0; shard < map.shardCount; shard++) {
      const before = this.#held[shard]!;
      const ours = selfNumber !== 0 && map.owners[shard] === selfNumber;
      const epoch = ours && map.epochs[shard] !== this.#letGo[shard] ? map.epochs[shard]! : 0;
      if (before !== 0 && epoch !== before) lost++;
      if (epoch !== 0 && epoch !== before) gained++;
      if (epoch !== 0) count++;
      this.#held[shard] = epoch;
    }
    for (const address of this.#pinsLetGo.keys()) if (!map.pins.has(address)) this.#pinsLetGo.delete(address);
    this.#map = map;
    this.#count = count;
    this.revision = revision;
    this.generation++;
    return { gained, lost };
  }

  /** The epoch at which this backend may act for the account; 0 when it may not. Holdings that are leaving still count. */
  epochFor(address: Address): Epoch {
    const map = this.#map;
    if (map === undefined) return 0;
    const pin = map.pins.size === 0 ? undefined : map.pins.get(address);
    if (pin === undefined) return this.#held[shardOf(address, map.shardCount)]!;
    if (pin.state === 'free' || !sameHolder(pin.owner, this.self)) return 0;
    return this.#pinsLetGo.get(address) === pin.epoch ? 0 : pin.epoch;
  }

  /** The epoch at which the shard is held; 0 for none. */
  epochOfShard(shard: Shard): Epoch {
    return this.#held[shard] ?? 0;
  }

  /** May new sessions for the account be taken? Not once it is leaving. */
  isOpenFor(address: Address): boolean {
    return (
      this.#map !== undefined &&
      this.epochFor(address) !== 0 &&
      holdingOfAddress(this.#map, address).state === 'owned'
    );
  }

  /** What the map wants handed over and is not let go yet; `undefined` when there is nothing. */
  leaving(): Leaving | undefined {
    const map = this.#map;
    if (map === undefined) return undefined;
    const shards = new Set<Shard>();
    for (let shard = 0; shard < map.shardCount; shard++)
      if (map.targets[shard] !== 0 && this.#held[shard] !== 0) shards.add(shard);
    const pins = new Set<Address>();
    for (const [address, pin] of map.pins)
      if (pin.state === 'releasing' && this.epochFor(address) !== 0) pins.add(address);
    if (shards.size === 0 && pins.size === 0) return undefined;
    const { shardCount } = map;
    const isPinned = (address: Address): boolean => this.#map?.pins.has(address) === true;
    return {
      shards,
      pins,
      has: (address) => pins.has(address) || (!isPinned(address) && shards.has(shardOf(address, shardCount))),
    };
  }

  /** Lets go, before `released` is written: from now on nothing is done for these. */
  letGo(leaving: Pick<Leaving, 'shards' | 'pins'>): void {
    for (const shard of leaving.shards) {
      if (this.#held[shard]! === 0) continue;
      this.#letGo[shard] = this.#held[shard]!;
      this.#held[shard] = 0;
      this.#count--;
    }
    for (const address of leaving.pins) {
      const epoch = this.epochFor(address);
      if (epoch !== 0 && this.#map?.pins.has(address)) this.#pinsLetGo.set(address, epoch);
    }
    this.generation++;
  }

  /** What stands in the map as ours and has been let go of, for the registry; `undefined` when there is nothing. */
  released(): Released | undefined {
    const map = this.#map;
    if (map === undefined) return undefined;
    const runs: [number, number, number][] = [];
    for (let shard = 0; shard < map.shardCount; shard++) {
      const epoch = this.#letGo[shard]!;
      const owner = map.holders[map.owners[shard]! - 1];
      if (epoch === 0 || epoch !== map.epochs[shard] || !owner || !sameHolder(owner, this.self)) continue;
      const last = runs.at(-1);
      if (last && last[0] + last[1] === shard && last[2] === epoch) last[1]++;
      else runs.push([shard, 1, epoch]);
    }
    const pins = [...this.#pinsLetGo].filter(([address, epoch]) => {
      const pin = map.pins.get(address);
      return pin !== undefined && pin.state !== 'free' && pin.epoch === epoch;
    });
    if (runs.length === 0 && pins.length === 0) return undefined;
    return { incarnation: this.self.incarnation, runs, pins };
  }
}
