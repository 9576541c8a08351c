/**
 * What must never be false (DESIGN section 2), seen by somebody who knows
 * everything at every instant of true time. It judges from the registry's own
 * entries and the storage's own files, never from what a member believes.
 */
import { shardOf } from '../../cluster-protocol/ids.ts';
import { registryKey } from '../../cluster-protocol/registry.ts';
import { decodeReleased } from '../../cluster-protocol/released.ts';
import {
  decodeShardMap,
  type Holder,
  type Holding,
  holdingOf,
  holdingOfAddress,
  type ShardMap,
} from '../../cluster-protocol/shard-map.ts';
import type { SimBackend } from './sim-backend.ts';
import type { Batch, SimRegistry } from './sim-registry.ts';
import type { SimStorage } from './sim-storage.ts';

export class Violation extends Error {}

/** One request of a client, as the gateway that carries it knows it. */
export interface Operation {
  readonly id: string;
  readonly kind: 'append' | 'read';
  readonly address: string;
  /** How many of the account's records clients had seen when this was asked. */
  readonly seenBefore: number;
}

export class Checker {
  readonly #shardCount: number;
  readonly #leasesHold: boolean;
  readonly #accounts: readonly string[];
  readonly #backends: ReadonlySet<SimBackend>;
  /** Per shard and pin: the greatest epoch ever granted. */
  readonly #greatest = new Map<string, number>();
  /** Per account: records that clients know of, in the order in which they learned of them. */
  readonly #seen = new Map<string, string[]>();
  /** Per account: the greatest epoch at which it was opened. */
  readonly #opened = new Map<string, number>();
  /** Per account: the greatest epoch of an answer that reached a client. */
  readonly #answered = new Map<string, number>();
  /** When that answer reached it. */
  readonly #answeredMs = new Map<string, number>();
  readonly #asked = new Set<string>();
  /** Requests that were answered by somebody who had lost its account while its clock stood. */
  readonly #void = new Set<string>();
  #map: ShardMap | undefined;
  registry!: SimRegistry;
  storage!: SimStorage;
  nowMs: () => number = () => 0;
  /** Has any backend become able to act for more since this was last looked at? */
  dirty = false;

  constructor(
    shardCount: number,
    leasesHold: boolean,
    accounts: readonly string[],
    backends: ReadonlySet<SimBackend>,
  ) {
    this.#shardCount = shardCount;
    this.#leasesHold = leasesHold;
    this.#accounts = accounts;
    this.#backends = backends;
  }

  get map(): ShardMap | undefined {
    return this.#map;
  }

  /** One owner. By time alone nobody begins to act, so it is enough to look after steps that made somebody able to. */
  oneOwner(): void {
    if (!this.dirty) return;
    this.dirty = false;
    if (!this.#leasesHold) return;
    for (let shard = 0; shard < this.#shardCount; shard++)
      this.#alone(`shard ${shard}`, (backend) => backend.mayActForShard(shard));
    for (const address of this.#accounts) this.#alone(address, (backend) => backend.mayActFor(address));
  }

  #alone(what: string, mayAct: (backend: SimBackend) => boolean): void {
    let owner: SimBackend | undefined;
    for (const backend of this.#backends) {
      if (!mayAct(backend)) continue;
      if (owner !== undefined)
        throw new Violation(
          `one owner: ${owner.process.incarnation} and ${backend.process.incarnation} act for ${what}`,
        );
      owner = backend;
    }
  }

  /** Every change of the registry, at the instant it is made. */
  batch({ events }: Batch): void {
    for (const event of events) {
      if (event.key !== registryKey.shardMap) continue;
      if (event.kind === 'remove') throw new Violation('the shard map was removed');
      const next = decodeShardMap(event.value);
      for (let shard = 0; shard < this.#shardCount; shard++)
        this.#changed(
          `shard ${shard}`,
          this.#map ? holdingOf(this.#map, shard) : { state: 'free' },
          holdingOf(next, shard),
          (backend) => backend.mayActForShard(shard),
        );
      for (const address of this.#accounts) {
        if (!next.pins.has(address) && this.#map?.pins.has(address) !== true) continue;
        this.#changed(
          address,
          this.#map ? holdingOfAddress(this.#map, address) : { state: 'free' },
          holdingOfAddress(next, address),
          (backend) => backend.mayActFor(address),
        );
      }
      this.#map = next;
    }
  }

  #changed(what: string, before: Holding, after: Holding, mayAct: (backend: SimBackend) => boolean): void {
    if (
      before.state !== 'free' &&
      after.state !== 'free' &&
      before.owner.incarnation === after.owner.incarnation &&
      before.epoch === after.epoch
    )
      return;
    if (before.state !== 'free') {
      const old = [...this.#backends].find(
        (backend) => backend.process.incarnation === before.owner.incarnation,
      );
      if (this.#leasesHold && old !== undefined && mayAct(old))
        throw new Violation(`no grant over a live one: ${old.process.incarnation} still acts for ${what}`);
      if (this.#isMember(before.owner) && !this.#hasReleased(before.owner, what, before.epoch))
        throw new Violation(
          `no grant over a live one: ${before.owner.incarnation} has not released ${what} at ${before.epoch}`,
        );
    }
    if (after.state === 'free') return;
    const greatest = this.#greatest.get(what) ?? 0;
    if (after.epoch <= greatest)
      throw new Violation(`epochs grow: ${what} got ${after.epoch} after ${greatest}`);
    this.#greatest.set(what, after.epoch);
  }

  /** The controller alone writes the map. */
  wroteMap(backend: SimBackend): void {
    const seat = this.registry.entries.get(registryKey.controller);
    if (seat?.lease !== backend.lease)
      throw new Violation(
        `one controller: ${backend.process.incarnation} writes the map, and the seat is not its own`,
      );
  }

  #isMember(holder: Holder): boolean {
    const entry = this.registry.entries.get(registryKey.member(holder.id));
    return entry !== undefined && JSON.parse(entry.value).incarnation === holder.incarnation;
  }

  #hasReleased(holder: Holder, what: string, epoch: number): boolean {
    const entry = this.registry.entries.get(registryKey.released(holder.id));
    const released = entry && decodeReleased(entry.value);
    if (released?.incarnation !== holder.incarnation) return false;
    if (!what.startsWith('shard '))
      return (
        released.pins.some(([address, at]) => address === what && at === epoch) ||
        this.#hasReleased(holder, `shard ${shardOf(what, this.#shardCount)}`, epoch)
      );
    const shard = Number(what.slice(6));
    return released.runs.some(([from, count, at]) => shard >= from && shard < from + count && at === epoch);
  }

  /** Does the registry say that this start of a backend has the account at this epoch, and is its lease alive? */
  holds(backend: SimBackend, address: string, epoch: number): boolean {
    const entry = this.registry.entries.get(registryKey.member(backend.process.node));
    if (entry?.lease !== backend.lease || this.#map === undefined) return false;
    const holding = holdingOfAddress(this.#map, address);
    return (
      holding.state !== 'free' &&
      holding.owner.incarnation === backend.process.incarnation &&
      holding.epoch === epoch
    );
  }

  /**
   * A backend reads or answers for an account, now.
   * @returns Whether it may; false is no violation where clocks stand, for then no lease can hold.
   */
  acts(backend: SimBackend, address: string, epoch: number, what: string): boolean {
    if (this.holds(backend, address, epoch)) return true;
    if (!this.#leasesHold) return false;
    throw new Violation(
      `acting needs a lease: ${backend.process.incarnation} ${what} ${address} at ${epoch}, which it does not hold`,
    );
  }

  openedAt(address: string): number {
    return this.#opened.get(address) ?? 0;
  }

  /** An account has been opened; when its owner file was read, `openedBefore` was the greatest epoch it was opened at. */
  opened(backend: SimBackend, address: string, epoch: number, openedBefore: number): void {
    if (openedBefore > epoch)
      throw new Violation(
        `the fence: ${backend.process.incarnation} opened ${address} at ${epoch} after it was opened at ${openedBefore}`,
      );
    if (epoch > this.openedAt(address)) this.#opened.set(address, epoch);
  }

  asks(id: string, kind: Operation['kind'], address: string): Operation {
    if (kind === 'append') this.#asked.add(id);
    return { id, kind, address, seenBefore: this.#seenOf(address).length };
  }

  #seenOf(address: string): string[] {
    let seen = this.#seen.get(address);
    if (seen === undefined) {
      seen = [];
      this.#seen.set(address, seen);
    }
    return seen;
  }

  /** A record is about to be acknowledged: whoever comes next has to find it. */
  acknowledges(address: string, id: string): void {
    if (!this.storage.records(address).includes(id))
      throw new Violation(`acknowledged is durable: ${id} of ${address} is not where the next owner looks`);
  }

  /** An answer of somebody who held the account has reached a client. */
  answered(
    operation: Operation,
    records: readonly string[] | undefined,
    epoch: number,
    sentMs: number,
  ): void {
    const { address } = operation;
    const newest = this.#answered.get(address);
    if (newest !== undefined && newest > epoch && sentMs > this.#answeredMs.get(address)!)
      throw new Violation(
        `no late answer: ${operation.id} of ${address} was answered at epoch ${epoch} after one of ${newest} had been`,
      );
    if (newest === undefined || epoch > newest) {
      this.#answered.set(address, epoch);
      this.#answeredMs.set(address, this.nowMs());
    }
    const seen = this.#seenOf(address);
    if (records === undefined) {
      if (!seen.includes(operation.id)) seen.push(operation.id);
      return;
    }
    this.#sound(address, records);
    for (let index = 0; index < operation.seenBefore; index++)
      if (!records.includes(seen[index]!) && !this.#void.has(seen[index]!))
        throw new Violation(`seen by each later owner: ${seen[index]} of ${address} is not in what was read`);
    for (const record of records) if (!seen.includes(record) && !this.#void.has(record)) seen.push(record);
  }

  /** The answer came from somebody who had lost the account while its clock stood: nothing follows from it. */
  answeredInVain(operation: Operation): void {
    this.#void.add(operation.id);
  }

  #sound(address: string, records: readonly string[]): void {
    for (let index = 0; index < records.length; index++) {
      const record = records[index];
      if (record === undefined) throw new Violation(`whole: ${address} has a hole at ${index}`);
      if (!this.#asked.has(record)) throw new Violation(`nothing from nowhere: ${record} in ${address}`);
      if (records.indexOf(record) !== index)
        throw new Violation(`exactly once: ${record} twice in ${address}`);
    }
  }

  /** Everything a client ever saw is there in the end, once. */
  atEnd(): void {
    for (const address of this.#accounts) {
      const records = this.storage.records(address);
      this.#sound(address, records);
      for (const id of this.#seenOf(address))
        if (!records.includes(id) && !this.#void.has(id))
          throw new Violation(`acknowledged is durable: ${id} of ${address} is gone in the end`);
    }
  }
}
