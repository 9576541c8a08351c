/**
 * One schedule: a small cluster runs for a while under faults drawn from a seed,
 * is then left alone, and has to come to rest. The invariants of DESIGN section
 * 2 are checked after every single step.
 */
import { registryKey, type WatchEvent } from '../registry.ts';
import { decodeShardMap, type Holding, holdingOf, type ShardMap, sameHolder } from '../shard-map.ts';
import type { Mutant } from './mutant.ts';
import { randomFrom } from './random.ts';
import { SimBackend, type SimWorld } from './sim-backend.ts';
import { SimRegistry } from './sim-registry.ts';
import { Timeline } from './timeline.ts';

const faultyMs = 12_000;
const quietMs = 20_000;

export interface ScheduleResult {
  readonly steps: number;
  /** The first invariant that broke, with what was seen; `undefined` when all held. */
  readonly violation: string | undefined;
}

class Violation extends Error {}

export function runSchedule(seed: number, mutant?: Mutant): ScheduleResult {
  const random = randomFrom(seed);
  const timeline = new Timeline();
  const shardCount = 3 + Math.floor(random.between(0, 4));
  const backends: SimBackend[] = [];
  const checker = new Checker(shardCount, backends);
  const registry = new SimRegistry((events) => {
    checker.batch(events);
    for (const backend of backends) backend.watch(events);
  });
  const world: SimWorld & { faulty: boolean } = {
    timeline,
    registry,
    random,
    mutant,
    faulty: true,
    shardCount,
  };

  const start = (id: string, count: number): void => {
    const backend: SimBackend = new SimBackend(world, id, `${id}.${count}`, () => {
      const index = backends.indexOf(backend);
      if (index >= 0) backends.splice(index, 1);
      // A supervisor that has reaped the process revokes its lease; a whole machine that died leaves it to run out.
      if (random.chance(0.6)) timeline.after(random.between(1, 50), () => registry.revoke(backend.lease));
      timeline.after(random.between(5, 800), () => start(id, count + 1));
    });
    backends.push(backend);
  };
  const disturb = (): void => {
    if (!world.faulty) return;
    const victim = backends[Math.floor(random.next() * backends.length)];
    if (victim !== undefined) {
      if (random.chance(0.5)) victim.die();
      else victim.pausedUntilMs = timeline.nowMs + random.between(100, 6000);
    }
    timeline.after(random.between(200, 4000), disturb);
  };
  const expire = (): void => {
    registry.expire(timeline.nowMs);
    timeline.at(Math.max(timeline.nowMs + 5, registry.nextDeadlineMs), expire);
  };
  const count = 2 + Math.floor(random.between(0, 3));
  for (let number = 1; number <= count; number++)
    timeline.after(random.between(0, 1500), () => start(`backend-${number}`, 1));
  timeline.after(random.between(500, 3000), disturb);
  expire();

  let steps = 0;
  try {
    while (timeline.step(faultyMs)) {
      steps++;
      checker.oneOwner();
    }
    world.faulty = false;
    while (timeline.step(faultyMs + quietMs)) {
      steps++;
      checker.oneOwner();
    }
    checker.atRest(count);
    return { steps, violation: undefined };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { steps, violation: `at ${Math.round(timeline.nowMs)} ms: ${error.message}` };
  }
}

class Checker {
  readonly #shardCount: number;
  readonly #backends: readonly SimBackend[];
  /** Per shard: the greatest epoch ever granted. */
  readonly #greatest: Float64Array;
  #map: ShardMap | undefined;

  constructor(shardCount: number, backends: readonly SimBackend[]) {
    this.#shardCount = shardCount;
    this.#backends = backends;
    this.#greatest = new Float64Array(shardCount);
  }

  oneOwner(): void {
    for (let shard = 0; shard < this.#shardCount; shard++) {
      let owner: SimBackend | undefined;
      for (const backend of this.#backends) {
        if (!backend.mayAct(shard)) continue;
        if (owner !== undefined)
          throw new Violation(
            `one owner: ${owner.incarnation} and ${backend.incarnation} act for shard ${shard}`,
          );
        owner = backend;
      }
    }
  }

  batch(events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (event.key !== registryKey.shardMap) continue;
      const next = decodeShardMap(event.value);
      for (let shard = 0; shard < this.#shardCount; shard++)
        this.#change(
          shard,
          this.#map ? holdingOf(this.#map, shard) : { state: 'free' },
          holdingOf(next, shard),
        );
      this.#map = next;
    }
  }

  #change(shard: number, before: Holding, after: Holding): void {
    const sameGrant =
      before.state !== 'free' &&
      after.state !== 'free' &&
      sameHolder(before.owner, after.owner) &&
      before.epoch === after.epoch;
    if (sameGrant) return;
    if (before.state !== 'free') {
      const old = this.#backends.find((backend) => backend.incarnation === before.owner.incarnation);
      if (old?.mayAct(shard))
        throw new Violation(`no grant over a live one: ${old.incarnation} still acts for shard ${shard}`);
    }
    if (after.state === 'free') return;
    if (after.epoch <= this.#greatest[shard]!)
      throw new Violation(`epochs grow: shard ${shard} got ${after.epoch} after ${this.#greatest[shard]}`);
    this.#greatest[shard] = after.epoch;
  }

  /** Left alone, the cluster serves everything again, evenly. */
  atRest(count: number): void {
    const held = this.#backends.map((backend) => {
      let shards = 0;
      for (let shard = 0; shard < this.#shardCount; shard++) if (backend.mayAct(shard)) shards++;
      return shards;
    });
    const sum = held.reduce((a, b) => a + b, 0);
    if (held.length !== count || sum !== this.#shardCount || Math.max(...held) - Math.min(...held) > 1)
      throw new Violation(`at rest: ${count} backends hold ${held.join(', ')} of ${this.#shardCount} shards`);
  }
}
