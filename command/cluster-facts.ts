/**
 * The cluster as the registry shows it at one moment, and what follows from it:
 * may a member be stopped, why is an account where it is. The questions are pure.
 */
import { Fault } from '../base/fault.ts';
import type { Address, MemberId } from '../cluster-protocol/ids.ts';
import { shardOf } from '../cluster-protocol/ids.ts';
import type { MemberRecord } from '../cluster-protocol/link.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { decodeShardMap, holdingOf, holdingOfAddress, type ShardMap } from '../cluster-protocol/shard-map.ts';
import { isDrained, type Wishes, wishesFrom } from '../cluster-protocol/wishes.ts';

export interface ClusterFacts {
  /** Registered under a live lease. */
  readonly members: ReadonlyMap<MemberId, MemberRecord>;
  readonly map: ShardMap | undefined;
  readonly wishes: Wishes;
  /** Empty while there is none. */
  readonly controller: MemberId;
}

export async function readFacts(registry: Registry): Promise<ClusterFacts> {
  const [records, wishes, controller, map] = await Promise.all([
    registry.list(registryKey.memberPrefix),
    registry.list(registryKey.wishPrefix),
    registry.get(registryKey.controller),
    registry.get(registryKey.shardMap),
  ]);
  return {
    members: new Map(
      records.entries.map(({ value }) => {
        const record = JSON.parse(value) as MemberRecord;
        return [record.id, record];
      }),
    ),
    map: map && decodeShardMap(map.value),
    wishes: wishesFrom(wishes.entries),
    controller: controller?.value ?? '',
  };
}

/** A backend that is registered. @throws {Fault} `bad-argument` that lists those there are. */
export function needBackend(facts: ClusterFacts, id: string): MemberRecord {
  const record = facts.members.get(id);
  if (record?.role === 'backend') return record;
  const backends = backendsOf(facts).map((one) => one.id);
  throw new Fault(
    'bad-argument',
    record === undefined
      ? `there is no backend "${id}" now; there is: ${backends.join(', ') || 'none'}`
      : `${id} is a gateway and holds no accounts; the backends are: ${backends.join(', ')}`,
  );
}

/** A backend that may be given something by name. @throws {Fault} `bad-argument`, `not-allowed` */
export function needTaker(facts: ClusterFacts, id: string): void {
  const { incarnation } = needBackend(facts, id);
  if (isDrained(facts.wishes, id, incarnation))
    throw new Fault(
      'not-allowed',
      `${id} is drained and takes nothing; undrain it first: postern cluster undrain ${id}`,
    );
}

export function backendsOf({ members }: ClusterFacts): MemberRecord[] {
  return [...members.values()].filter(({ role }) => role === 'backend');
}

/** Backends that take shards, `except` left out. */
export function takers(facts: ClusterFacts, except?: MemberId): MemberId[] {
  return backendsOf(facts)
    .filter(
      ({ id, incarnation, draining, weight }) =>
        id !== except && draining !== true && (weight ?? 1) > 0 && !isDrained(facts.wishes, id, incarnation),
    )
    .map(({ id }) => id);
}

/** @throws {Fault} `not-allowed` when nobody would take shards but this one. */
export function needOtherTaker(facts: ClusterFacts, member: MemberId): void {
  if (takers(facts, member).length > 0) return;
  throw new Fault(
    'not-allowed',
    `${member} is the only backend that takes shards; start another, or undrain one, before it is drained`,
  );
}

export interface Held {
  readonly shards: number;
  readonly pins: number;
}

/** What the map says a member has; what it is handing over counts until it has let go. */
export function heldBy({ map }: ClusterFacts, id: MemberId): Held {
  if (map === undefined) return { shards: 0, pins: 0 };
  const isIt = map.holders.map((holder) => holder.id === id);
  let shards = 0;
  for (const owner of map.owners) if (owner !== 0 && isIt[owner - 1]) shards++;
  let pins = 0;
  for (const pin of map.pins.values()) if (pin.state !== 'free' && pin.owner.id === id) pins++;
  return { shards, pins };
}

/** What is on its way to a member. */
export function comingTo({ map }: ClusterFacts, id: MemberId): number {
  if (map === undefined) return 0;
  const isIt = map.holders.map((holder) => holder.id === id);
  let moves = 0;
  for (const target of map.targets) if (target !== 0 && isIt[target - 1]) moves++;
  for (const pin of map.pins.values()) if (pin.state === 'releasing' && pin.to.id === id) moves++;
  return moves;
}

/** Moves under way, and shards without an owner. */
export function unsettled({ map }: ClusterFacts): { readonly moves: number; readonly free: number } {
  let moves = 0;
  let free = 0;
  for (const target of map?.targets ?? []) if (target !== 0) moves++;
  for (const owner of map?.owners ?? []) if (owner === 0) free++;
  for (const pin of map?.pins.values() ?? []) if (pin.state === 'releasing') moves++;
  return { moves, free };
}

export interface Verdict {
  readonly safe: boolean;
  readonly reason: string;
}

/** May this member's process be ended now without anybody noticing? @throws {Fault} `bad-argument` */
export function safeToStop(facts: ClusterFacts, id: MemberId): Verdict {
  const record = facts.members.get(id);
  if (record === undefined) {
    const ids = [...facts.members.keys()].join(', ');
    throw new Fault('bad-argument', `there is no member "${id}" now; there is: ${ids || 'none'}`);
  }
  if (record.role === 'gateway') {
    const others = [...facts.members.values()].filter((one) => one.role === 'gateway' && one.id !== id);
    return others.length > 0
      ? {
          safe: true,
          reason: `${others.length} other gateways take connections; its own end with gateway.drain`,
        }
      : { safe: false, reason: 'it is the only gateway: nobody would take connections' };
  }
  const others = takers(facts, id);
  if (others.length === 0)
    return { safe: false, reason: 'no other backend takes shards: its accounts would have no owner' };
  const { shards, pins } = heldBy(facts, id);
  if (shards + pins > 0)
    return {
      safe: false,
      reason: `it has ${amount(shards, 'shard')} and ${amount(pins, 'pinned account')}; drain it first: postern cluster drain ${id} --wait`,
    };
  const coming = comingTo(facts, id);
  if (coming > 0 || !isDrained(facts.wishes, id, record.incarnation))
    return {
      safe: false,
      reason: `it is empty and will be given shards; keep them away: postern cluster drain ${id} --wait`,
    };
  return { safe: true, reason: `it is drained; ${others.join(', ')} have everything` };
}

export interface Why {
  readonly address: Address;
  readonly shard: number;
  /** Empty: nobody has it now. */
  readonly owner: MemberId;
  readonly epoch: number;
  /** Empty unless it is being handed over. */
  readonly movingTo: MemberId;
  readonly because: 'hash' | 'pin' | 'move';
  readonly words: string;
  readonly ifOwnerStopped: string;
}

/** Why the account is where it is, and what would become of it. */
export function whyThere(facts: ClusterFacts, address: Address, leaseMs: number): Why {
  const { map, wishes } = facts;
  if (map === undefined) throw new Fault('no-owner', 'there is no shard map yet; ask again in a moment');
  const shard = shardOf(address, map.shardCount);
  const holding = holdingOfAddress(map, address);
  const pin = wishes.pins.get(address);
  const move = wishes.shards.get(shard);
  const isPinned = map.pins.has(address);
  const because = isPinned || pin !== undefined ? 'pin' : move === undefined ? 'hash' : 'move';
  const owner = holding.state === 'free' ? '' : holding.owner.id;
  return {
    ...{ address, shard, owner, because },
    epoch: holding.state === 'free' ? 0 : holding.epoch,
    movingTo: holding.state === 'releasing' ? holding.to.id : '',
    words: wordsOf(facts, address, shard),
    ifOwnerStopped: fateOf(facts, owner, pin?.member, leaseMs),
  };
}

function wordsOf({ map, wishes }: ClusterFacts, address: Address, shard: number): string {
  const pin = wishes.pins.get(address);
  const home = holdingOf(map!, shard);
  const homeOwner = home.state === 'free' ? 'nobody' : home.owner.id;
  if (pin !== undefined)
    return `${pin.by || 'somebody'} pinned the account to ${pin.member}; its shard ${shard} is with ${homeOwner}`;
  if (map!.pins.has(address))
    return `the account was pinned and is not any more: it has an epoch of its own until shard ${shard} (with ${homeOwner}) is granted anew`;
  const move = wishes.shards.get(shard);
  if (move !== undefined)
    return `its hash puts the account in shard ${shard}, and ${move.by || 'somebody'} keeps that shard at ${move.member}`;
  return `its hash puts the account in shard ${shard}, and the controller keeps that shard at ${homeOwner}`;
}

function fateOf(facts: ClusterFacts, owner: MemberId, pinned: MemberId | undefined, leaseMs: number): string {
  if (owner === '') return 'nobody has it: it is granted as soon as a backend takes shards';
  const others = takers(facts, owner);
  const seconds = (leaseMs / 1000).toFixed(1);
  if (others.length === 0)
    return `${owner} is the only backend that takes shards: the account would be unavailable until one is back`;
  const to = pinned !== undefined && others.includes(pinned) ? pinned : others.join(' or ');
  return `if the process of ${owner} ended, ${to} would have the account at once (its supervisor ends the lease); if its machine vanished, within ${seconds} s, when the lease has run out. Nothing acknowledged is lost`;
}

/** `1 shard`, `3 shards`. */
export function amount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
