/**
 * The next shard map: every holding takes one step (`ownership.ts`) towards
 * where placement wants it, and the conditions under which the registry may
 * accept the result are named. Pure.
 */
import type { Epoch, MemberId } from './ids.ts';
import { type HoldingFacts, stepHolding } from './ownership.ts';
import { placeShards } from './placement.ts';
import type { Condition } from './registry.ts';
import { registryKey } from './registry.ts';
import type { Released } from './released.ts';
import {
  buildShardMap,
  type Holder,
  type Holding,
  holderKey,
  holdingOf,
  type ShardMap,
} from './shard-map.ts';

/** A backend as its member record shows it. */
export interface BackendView {
  readonly incarnation: string;
  /** Revision of the record. */
  readonly revision: number;
  readonly weight: number;
  readonly draining: boolean;
}

export interface ReassignmentLimits {
  /** Holdings that may be in `releasing` at once. */
  readonly movesMax: number;
  /** Members one write may depend on; a registry bounds the conditions of a transaction. */
  readonly membersMax: number;
}

export const reassignmentLimitsDefault: ReassignmentLimits = { movesMax: 512, membersMax: 60 };

export interface Reassignment {
  readonly map: ShardMap;
  /** Conditions on member records; those on the map itself and the controller's term are the caller's. */
  readonly conditions: readonly Condition[];
}

/**
 * @param mayMove  May holdings be moved for balance now?
 * @returns `undefined` when nothing is to be done; `wantsMoves` when only `mayMove` stood in the way.
 */
export function reassign(
  map: ShardMap,
  backends: ReadonlyMap<MemberId, BackendView>,
  released: ReadonlyMap<MemberId, Released>,
  mayMove: boolean,
  limits: ReassignmentLimits = reassignmentLimitsDefault,
): { next: Reassignment | undefined; wantsMoves: boolean } {
  const candidates: Holder[] = [...backends].map(([id, view]) => ({ id, incarnation: view.incarnation }));
  const numbers = new Map(candidates.map((holder, index) => [holderKey(holder), index]));
  const numberOf = (holder: Holder): number => numbers.get(holderKey(holder)) ?? -1;
  const numberOfHolder = Int32Array.from(map.holders, numberOf);
  const releasedAt = releasedEpochs(map, released);

  const ownerFacts = (shard: number): HoldingFacts['owner'] =>
    numberOfHolder[map.owners[shard]! - 1]! < 0
      ? 'gone'
      : releasedAt[shard] === map.epochs[shard]
        ? 'released'
        : 'live';
  const current = new Int32Array(map.shardCount);
  let moving = 0;
  for (let shard = 0; shard < map.shardCount; shard++) {
    const owner = map.owners[shard]!;
    const target = map.targets[shard]! === 0 ? -1 : numberOfHolder[map.targets[shard]! - 1]!;
    if (target >= 0) current[shard] = target;
    else current[shard] = owner !== 0 && ownerFacts(shard) === 'live' ? numberOfHolder[owner - 1]! : -1;
    if (map.targets[shard] !== 0) moving++;
  }
  const wanted = placeShards(
    current,
    candidates.map(({ id }) => (backends.get(id)!.draining ? 0 : backends.get(id)!.weight)),
  );

  const conditions = new Map<MemberId, Condition>();
  /** Makes the write depend on what we believe of this member; false when it depends on too many already. */
  const depend = (id: MemberId): boolean => {
    if (conditions.has(id)) return true;
    if (conditions.size >= limits.membersMax) return false;
    const key = registryKey.member(id);
    const view = backends.get(id);
    conditions.set(id, view ? { key, is: 'at', revision: view.revision } : { key, is: 'absent' });
    return true;
  };
  let movesLeft = limits.movesMax - moving;
  let wantsMoves = false;
  let changed = false;
  const take = (holding: Holding, facts: HoldingFacts): Holding => {
    const next = stepHolding(holding, facts);
    if (next === holding) return holding;
    const startsMove = holding.state === 'owned' && next.state === 'releasing';
    if (startsMove && !mayMove) wantsMoves = true;
    if (startsMove && (!mayMove || movesLeft <= 0)) return holding;
    const dropped = holding.state !== 'free' && facts.owner === 'gone' ? depend(holding.owner.id) : true;
    const named = next.state === 'owned' ? depend(next.owner.id) : true;
    if (!dropped || !named) return holding;
    if (startsMove) movesLeft--;
    changed = true;
    return next;
  };
  const epoch: Epoch = map.nextEpoch;
  let granted = false;
  const noteGrant = (holding: Holding): Holding => {
    if (holding.state === 'owned' && holding.epoch === epoch) granted = true;
    return holding;
  };
  const shards = Array.from({ length: map.shardCount }, (_, shard) =>
    noteGrant(
      take(holdingOf(map, shard), {
        owner: ownerFacts(shard),
        targetIsLive: map.targets[shard]! !== 0 && numberOfHolder[map.targets[shard]! - 1]! >= 0,
        wanted: candidates[wanted[shard]!],
        mayMove: true,
        epoch,
      }),
    ),
  );
  const pins = new Map<string, Holding>();
  for (const [address, pin] of map.pins) {
    const live = pin.state !== 'free' && numberOf(pin.owner) >= 0;
    const letGo = live && releasedPin(released.get(pin.owner.id), address, pin.owner, pin.epoch);
    const facts: HoldingFacts = {
      owner: letGo ? 'released' : live ? 'live' : 'gone',
      targetIsLive: pin.state === 'releasing' && numberOf(pin.to) >= 0,
      wanted: live && !letGo && !backends.get(pin.owner.id)!.draining ? pin.owner : candidates.find(isOpen),
      mayMove: true,
      epoch,
    };
    pins.set(address, noteGrant(take(pin, facts)));
  }
  function isOpen(holder: Holder): boolean {
    const view = backends.get(holder.id)!;
    return !view.draining && view.weight > 0;
  }
  if (!changed) return { next: undefined, wantsMoves };
  const next = buildShardMap(map.shardCount, granted ? epoch + 1 : epoch, (shard) => shards[shard]!, pins);
  return { next: { map: next, conditions: [...conditions.values()] }, wantsMoves };
}

/** Per shard: the epoch its present owner says it has released; 0 for none. */
function releasedEpochs(map: ShardMap, released: ReadonlyMap<MemberId, Released>): Float64Array {
  const epochs = new Float64Array(map.shardCount);
  if (released.size === 0) return epochs;
  for (const [index, holder] of map.holders.entries()) {
    const record = released.get(holder.id);
    if (record?.incarnation !== holder.incarnation) continue;
    for (const [from, count, epoch] of record.runs) {
      const end = Math.min(from + count, map.shardCount);
      for (let shard = from; shard < end; shard++)
        if (map.owners[shard] === index + 1 && map.epochs[shard] === epoch) epochs[shard] = epoch;
    }
  }
  return epochs;
}

function releasedPin(record: Released | undefined, address: string, owner: Holder, epoch: Epoch): boolean {
  return (
    record?.incarnation === owner.incarnation &&
    record.pins.some(([name, at]) => name === address && at === epoch)
  );
}
