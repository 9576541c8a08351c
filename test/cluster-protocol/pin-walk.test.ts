/**
 * Pins, moves, drains and balance at random: backends that see the map late, start
 * anew and release when they get to it; a controller that remembers nothing between
 * two writes, as one that has just been elected. After every step an account has at
 * most one backend that may act for it, and epochs only grow, as the fence demands.
 */
import { describe, expect, test } from '@jest/globals';
import { Holdings } from '../../cluster-protocol/holdings.ts';
import type { Address, Epoch, MemberId } from '../../cluster-protocol/ids.ts';
import { type BackendView, reassign } from '../../cluster-protocol/reassignment.ts';
import type { Released } from '../../cluster-protocol/released.ts';
import {
  decodeShardMap,
  emptyShardMap,
  encodeShardMap,
  holdingOfAddress,
} from '../../cluster-protocol/shard-map.ts';
import { noWishes, type Wishes } from '../../cluster-protocol/wishes.ts';
import { randomSource } from '../support/random.ts';

const shardCount = 4;
const ids = ['a', 'b', 'c'];
const addresses = Array.from({ length: 6 }, (_, index) => `user${index}@example.org`);
/** A walk writes some hundred; one that goes round in circles writes more. */
const mapsMax = 1000;
const wished = { by: 'walk', atMs: 0 };

class Walk {
  readonly #random: () => number;
  /** Every map that was written, encoded; its index is its revision. */
  readonly #maps = [encodeShardMap(emptyShardMap(shardCount, 10))];
  readonly #live = new Map<MemberId, Holdings>();
  readonly #views = new Map<MemberId, BackendView>();
  readonly #released = new Map<MemberId, Released>();
  /** Per account: the greatest epoch anybody acted at, and who. */
  readonly #fences = new Map<Address, { epoch: Epoch; by: string }>();
  #wishes: Wishes = noWishes;
  #starts = 0;

  constructor(seed: number) {
    this.#random = randomSource(seed).next;
    for (const id of ids) this.#start(id);
  }

  step(): void {
    const id = this.#pick(ids);
    const held = this.#live.get(id);
    const dice = this.#random();
    if (dice < 0.3) this.write();
    else if (dice < 0.6) held?.takeMap(this.#someMapAfter(held.revision), this.#someRevision);
    else if (dice < 0.75) this.#letGo(id);
    else if (dice < 0.8) this.#stop(id);
    else if (dice < 0.81) this.#drainAll();
    else if (dice < 0.86 && held === undefined) this.#start(id);
    else this.#wish();
    this.check();
  }

  /** Everybody sees everything: what is wished for must come true. @returns the wishes and where all are. */
  settle(): { wishes: Wishes; where: Map<Address, string>; moves: number } {
    for (const id of ids) if (!this.#live.has(id)) this.#start(id);
    for (let quiet = 0; quiet < 8; quiet++) {
      const before = this.#maps.length;
      for (const [id, holdings] of this.#live) {
        holdings.takeMap(decodeShardMap(this.#maps.at(-1)!), this.#maps.length);
        this.#letGo(id);
        this.check();
      }
      this.write();
      this.check();
      if (this.#maps.length > before) quiet = 0;
      if (this.#maps.length > mapsMax) throw new Error('it never comes to rest');
    }
    const map = decodeShardMap(this.#maps.at(-1)!);
    const where = new Map(
      addresses.map((address) => {
        const holding = holdingOfAddress(map, address);
        return [address, holding.state === 'owned' ? holding.owner.id : holding.state];
      }),
    );
    return { wishes: this.#wishes, where, moves: [...map.targets].filter((target) => target !== 0).length };
  }

  check(): void {
    for (const address of addresses) {
      const acting = [...this.#live].filter(([, holdings]) => holdings.epochFor(address) !== 0);
      if (acting.length > 1) throw new Error(`${acting.map(([id]) => id)} act for ${address} at once`);
      const [id, holdings] = acting[0] ?? [];
      if (holdings === undefined) continue;
      const epoch = holdings.epochFor(address);
      const by = `${id} ${holdings.self.incarnation}`;
      const fence = this.#fences.get(address);
      if (fence !== undefined && (epoch < fence.epoch || (epoch === fence.epoch && by !== fence.by)))
        throw new Error(`${by} acts for ${address} at ${epoch}, after ${fence.by} at ${fence.epoch}`);
      this.#fences.set(address, { epoch, by });
    }
  }

  /** A controller that knows the registry and nothing else. */
  write(): void {
    const map = decodeShardMap(this.#maps.at(-1)!);
    const mayMove = this.#random() < 0.7;
    const { next } = reassign(
      map,
      this.#views,
      this.#released,
      mayMove,
      { movesMax: 3, membersMax: 60 },
      this.#wishes,
    );
    if (next !== undefined) this.#maps.push(encodeShardMap(next.map));
  }

  #someRevision = 0;
  #someMapAfter(revision: number) {
    const newest = this.#maps.length;
    this.#someRevision = revision + 1 + Math.floor(this.#random() * Math.max(1, newest - revision));
    this.#someRevision = Math.min(this.#someRevision, newest);
    return decodeShardMap(this.#maps[this.#someRevision - 1]!);
  }

  #start(id: MemberId): void {
    const incarnation = String(++this.#starts);
    this.#live.set(id, new Holdings({ id, incarnation }));
    this.#views.set(id, { incarnation, revision: this.#starts, weight: 1, draining: false });
  }

  /** Its process is gone, and the registry knows: record and releases go together. */
  #stop(id: MemberId): void {
    this.#live.delete(id);
    this.#views.delete(id);
    this.#released.delete(id);
  }

  /** Nobody may take anything, and one dies: what it had is free for a while. */
  #drainAll(): void {
    const before = this.#wishes;
    this.#wishes = { ...before, drains: new Map(ids.map((id) => [id, wished])) };
    this.#stop(this.#pick(ids));
    this.write();
    this.#wishes = { ...before, pins: new Map() };
  }

  #letGo(id: MemberId): void {
    const holdings = this.#live.get(id);
    const leaving = holdings?.leaving();
    if (leaving !== undefined) holdings!.letGo(leaving);
    const released = holdings?.released();
    if (released !== undefined) this.#released.set(id, released);
  }

  #wish(): void {
    const pins = new Map(this.#wishes.pins);
    const shards = new Map(this.#wishes.shards);
    const drains = new Map(this.#wishes.drains);
    const member = this.#pick(ids);
    const dice = this.#random();
    if (dice < 0.35) pins.set(this.#pick(addresses), { ...wished, member });
    else if (dice < 0.6) pins.delete(this.#pick(addresses));
    else if (dice < 0.7) shards.set(Math.floor(this.#random() * shardCount), { ...wished, member });
    else if (dice < 0.8) shards.delete(Math.floor(this.#random() * shardCount));
    else if (dice < 0.85 && drains.size < 2) drains.set(member, wished);
    else drains.delete(member);
    this.#wishes = { ...this.#wishes, pins, shards, drains };
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)]!;
  }
}

describe('whatever is wished for, in whatever order things happen', () => {
  const seeds = Array.from({ length: 200 }, (_, index) => index + 1);

  test('an account has one backend at a time, at epochs that grow, and ends up where it is wanted', () => {
    for (const seed of seeds) {
      const walk = new Walk(seed);
      try {
        for (let count = 0; count < 150; count++) walk.step();
        const { wishes, where, moves } = walk.settle();
        expect(moves).toBe(0);
        for (const [address, owner] of where) {
          expect(ids).toContain(owner);
          expect(wishes.drains.has(owner)).toBe(false);
          const pin = wishes.pins.get(address);
          if (pin !== undefined && !wishes.drains.has(pin.member)) expect(owner).toBe(pin.member);
        }
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
  });
});
