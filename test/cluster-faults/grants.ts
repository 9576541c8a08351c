/**
 * Judges what was written into the registry: every grant of every shard and pin,
 * in the registry's own order. It reads the values itself, by their documented
 * form (docs/internals/cluster.md), and shares no code with who wrote them.
 */
import { createHash } from 'node:crypto';

export interface RegistryChange {
  readonly revision: number;
  readonly kind: 'put' | 'remove';
  /** Without the cluster's prefix. */
  readonly key: string;
  readonly value: string;
}

interface Grant {
  readonly owner: string;
  readonly incarnation: string;
  readonly epoch: number;
}

interface Released {
  readonly incarnation: string;
  readonly runs: readonly (readonly [number, number, number])[];
  readonly pins: readonly (readonly [string, number])[];
}

export class Grants {
  readonly violations: string[] = [];
  /** Grants that were made. */
  grants = 0;
  maps = 0;
  #shards: (Grant | undefined)[] = [];
  #pins = new Map<string, Grant | undefined>();
  readonly #greatest = new Map<string, number>();
  readonly #members = new Map<string, string>();
  readonly #released = new Map<string, Released>();

  /** Changes in the order of their revisions; those of one revision happened at once. */
  take(changes: readonly RegistryChange[]): void {
    // What a lease takes away with it, and what a member writes, comes before the map of the same instant.
    for (const change of changes) if (change.key !== 'map') this.#note(change);
    for (const change of changes) if (change.key === 'map') this.#map(change);
  }

  #note({ key, kind, value }: RegistryChange): void {
    const [what, id] = [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)];
    if (what === 'member') {
      if (kind === 'remove') this.#members.delete(id);
      else this.#members.set(id, (JSON.parse(value) as { incarnation: string }).incarnation);
    } else if (what === 'released') {
      if (kind === 'remove') this.#released.delete(id);
      else this.#released.set(id, JSON.parse(value) as Released);
    }
  }

  #map({ value, revision, kind }: RegistryChange): void {
    if (kind === 'remove') {
      this.#broken(`the map was removed at ${revision}`);
      return;
    }
    this.maps++;
    const {
      shards: shardCount,
      holders,
      runs,
      pins,
    } = JSON.parse(value) as {
      shards: number;
      holders: [string, string][];
      runs: [number, number?, number?, number?][];
      pins: [string, number?, number?, number?][];
    };
    const grantOf = (owner: number | undefined, epoch: number | undefined): Grant | undefined =>
      owner === undefined
        ? undefined
        : { owner: holders[owner]![0], incarnation: holders[owner]![1], epoch: epoch! };
    const shards: (Grant | undefined)[] = [];
    for (const [count, owner, epoch] of runs) {
      const grant = grantOf(owner, epoch);
      for (let index = 0; index < count; index++) shards.push(grant);
    }
    if (shards.length !== shardCount) this.#broken(`the map at ${revision} has ${shards.length} shards`);
    for (let shard = 0; shard < shardCount; shard++)
      this.#changed(`shard ${shard}`, shard, this.#shards[shard], shards[shard], revision);
    const nextPins = new Map(pins.map(([address, owner, epoch]) => [address, grantOf(owner, epoch)]));
    for (const address of new Set([...nextPins.keys(), ...this.#pins.keys()])) {
      const shard = shardOf(address, shardCount);
      const before = this.#pins.has(address) ? this.#pins.get(address) : this.#shards[shard];
      const after = nextPins.has(address) ? nextPins.get(address) : shards[shard];
      this.#changed(address, shard, before, after, revision);
    }
    this.#shards = shards;
    this.#pins = nextPins;
  }

  #changed(
    what: string,
    shard: number,
    before: Grant | undefined,
    after: Grant | undefined,
    revision: number,
  ): void {
    if (before?.incarnation === after?.incarnation && before?.epoch === after?.epoch) return;
    if (before !== undefined && this.#members.get(before.owner) === before.incarnation) {
      const released = this.#released.get(before.owner);
      const said =
        released?.incarnation === before.incarnation &&
        (released.runs.some(
          ([from, count, epoch]) => shard >= from && shard < from + count && epoch === before.epoch,
        ) ||
          released.pins.some(([address, epoch]) => address === what && epoch === before.epoch));
      if (!said)
        this.#broken(
          `no grant over a live one: ${what} of ${before.owner} at ${before.epoch} was given away at revision ${revision}`,
        );
    }
    if (after === undefined) return;
    this.grants++;
    const greatest = this.#greatest.get(what) ?? 0;
    if (after.epoch <= greatest)
      this.#broken(`epochs grow: ${what} got ${after.epoch} after ${greatest} at revision ${revision}`);
    this.#greatest.set(what, Math.max(greatest, after.epoch));
  }

  #broken(what: string): void {
    if (this.violations.length < 100) this.violations.push(what);
  }
}

/** The first 48 bits of SHA-256 of the address, modulo the number of shards. */
function shardOf(address: string, shardCount: number): number {
  return Number(
    BigInt(`0x${createHash('sha256').update(address).digest('hex').slice(0, 12)}`) % BigInt(shardCount),
  );
}
