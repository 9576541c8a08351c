/**
 * The next shard map: every holding takes one step (`ownership.ts`) towards
 * where placement wants it, and the conditions under which the registry may
 * accept the result are named. Pure.
 */
import { type Address, type Epoch, type MemberId, shardOf } from './ids.ts';
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
  pinsMax,
  type ShardMap,
  sameHolder,
} from './shard-map.ts';
import { isDrained, noWishes, type Wishes } from './wishes.ts';

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

export const reassignmentLimitsDefault: ReassignmentLimits = { movesMax: 128, membersMax: 60 };

export interface Reassignment {
  readonly map: ShardMap;
  /** Conditions on member records; those on the map itself and the controller's term are the caller's. */
  readonly conditions: readonly Condition[];
}

/**
 * @param mayMove  May holdings be moved for balance now? What an admin asked for, and what a drained backend has, always may.
 * @returns `undefined` when nothing is to be done; `wantsMoves` when only `mayMove` stood in the way.
 */
export function reassign(
  map: ShardMap,
  backends: ReadonlyMap<MemberId, BackendView>,
  released: ReadonlyMap<MemberId, Released>,
  mayMove: boolean,
  limits: ReassignmentLimits = reassignmentLimitsDefault,
  wishes: Wishes = noWishes,
): { next: Reassignment | undefined; wantsMoves: boolean } {
  const candidates: Holder[] = [...backends].map(([id, view]) => ({ id, incarnation: view.incarnation }));
  const numbers = new Map(candidates.map((holder, index) => [holderKey(holder), index]));
  const numberOf = (holder: Holder): number => numbers.get(holderKey(holder)) ?? -1;
  const numberOfHolder = Int32Array.from(map.holders, numberOf);
  const releasedAt = releasedEpochs(map, released);
  const drained = candidates.map(
    ({ id, incarnation }) => backends.get(id)!.draining || isDrained(wishes, id, incarnation),
  );
  /** The member as it runs now, if it may be given something by name. */
  const takerCalled = (id: MemberId): Holder | undefined =>
    candidates.find((holder, index) => holder.id === id && !drained[index]);
  const firstTaker = candidates.find(({ id }, index) => !drained[index] && backends.get(id)!.weight > 0);
  const mayKeep = (holder: Holder): boolean => numberOf(holder) >= 0 && !drained[numberOf(holder)];

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
  for (const pin of map.pins.values()) if (pin.state === 'releasing') moving++;
  const fixed = new Map<number, number>();
  for (const [shard, { member }] of wishes.shards) {
    const holder = shard < map.shardCount ? takerCalled(member) : undefined;
    if (holder !== undefined) fixed.set(shard, numberOf(holder));
  }
  const wanted = placeShards(
    current,
    candidates.map(({ id }, index) =>
      drained[index] ? 0 : backends.get(id)!.weight * (wishes.tilts.get(id) ?? 1),
    ),
    fixed,
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
  const epoch: Epoch = map.nextEpoch;
  let granted = false;
  /** @param asked  Not for balance: it need not wait for members to settle. */
  const take = (holding: Holding, facts: HoldingFacts, asked: boolean): Holding => {
    const next = stepHolding(holding, facts);
    if (next === holding) return holding;
    const startsMove = holding.state === 'owned' && next.state === 'releasing';
    if (startsMove && !asked && !mayMove) wantsMoves = true;
    if (startsMove && ((!asked && !mayMove) || movesLeft <= 0)) return holding;
    const dropped = holding.state !== 'free' && facts.owner === 'gone' ? depend(holding.owner.id) : true;
    const named = next.state === 'owned' ? depend(next.owner.id) : true;
    if (!dropped || !named) return holding;
    if (startsMove) movesLeft--;
    if (next.state === 'owned') granted = true;
    changed = true;
    return next;
  };

  const before = Array.from({ length: map.shardCount }, (_, shard) => holdingOf(map, shard));
  const shards = [...before];
  const isAsked = (shard: number): boolean =>
    fixed.has(shard) ||
    (map.owners[shard] !== 0 && drained[numberOfHolder[map.owners[shard]! - 1]!] === true);
  // What is asked for first: it gets the moves there are.
  for (const asked of [true, false])
    for (let shard = 0; shard < map.shardCount; shard++) {
      if (isAsked(shard) !== asked) continue;
      const facts: HoldingFacts = {
        owner: ownerFacts(shard),
        targetIsLive: map.targets[shard]! !== 0 && numberOfHolder[map.targets[shard]! - 1]! >= 0,
        wanted: candidates[wanted[shard]!],
        mayMove: true,
        epoch,
      };
      shards[shard] = take(before[shard]!, facts, asked);
    }

  const pins = new Map<Address, Holding>();
  for (const [address, pin] of map.pins) {
    const live = pin.state !== 'free' && numberOf(pin.owner) >= 0;
    const letGo = live && releasedPin(released.get(pin.owner.id), address, pin.owner, pin.epoch);
    const owner = letGo ? 'released' : live ? 'live' : 'gone';
    const home = shards[shardOf(address, map.shardCount)]!;
    const wish = wishes.pins.get(address);
    if (wish === undefined && mayGoHome(pin, owner, home, epoch)) {
      if (pin.state === 'free' || owner === 'released' || depend(pin.owner.id)) {
        changed = true;
        continue;
      }
    }
    const homeHolder = home.state === 'releasing' ? home.to : home.state === 'owned' ? home.owner : undefined;
    const facts: HoldingFacts = {
      owner,
      targetIsLive: pin.state === 'releasing' && numberOf(pin.to) >= 0,
      wanted:
        (wish && takerCalled(wish.member)) ??
        [homeHolder, pin.state === 'free' ? undefined : pin.owner].find(
          (holder) => holder !== undefined && mayKeep(holder),
        ) ??
        firstTaker,
      mayMove: true,
      epoch,
    };
    let next = take(pin, facts, true);
    // At home already, under an epoch of its own that the shard has passed: one release more, and the pin is not needed.
    if (
      wish === undefined &&
      next === pin &&
      next.state === 'owned' &&
      home.state === 'owned' &&
      movesLeft > 0
    ) {
      if (sameHolder(next.owner, home.owner) && home.epoch > next.epoch) {
        next = { ...next, state: 'releasing', to: next.owner };
        movesLeft--;
        changed = true;
      }
    }
    pins.set(address, next);
  }
  for (const [address, wish] of wishes.pins) {
    if (map.pins.has(address) || pins.size >= pinsMax || movesLeft <= 0) continue;
    const to = takerCalled(wish.member);
    const shard = shardOf(address, map.shardCount);
    const now = before[shard]!;
    // Its shard is the account's until the owner lets this account go by itself; a shard that is moving arrives first.
    if (to === undefined || now.state !== 'owned' || shards[shard] !== now || ownerFacts(shard) !== 'live')
      continue;
    pins.set(address, sameHolder(now.owner, to) ? now : { ...now, state: 'releasing', to });
    movesLeft--;
    changed = true;
  }
  if (!changed) return { next: undefined, wantsMoves };
  const next = buildShardMap(map.shardCount, granted ? epoch + 1 : epoch, (shard) => shards[shard]!, pins);
  return { next: { map: next, conditions: [...conditions.values()] }, wantsMoves };
}

/**
 * May an account that is not wanted elsewhere any more be its shard's again? Only when nobody acts for it, and only
 * while its shard stands at a greater epoch than it had: the fence in its directory knows that epoch.
 */
function mayGoHome(pin: Holding, owner: HoldingFacts['owner'], home: Holding, granting: Epoch): boolean {
  if (home.state !== 'owned' || owner === 'live') return false;
  // A pin without an owner does not say at which epoch it was last held: only an epoch given now is surely greater.
  return pin.state === 'free' ? home.epoch === granting : home.epoch > pin.epoch;
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
