/**
 * The last grants, kept beside the map and written with it, so that an admin can
 * be told where a shard was before. For people only: nothing is decided by it.
 */
import type { Address, Epoch, MemberId, Shard } from './ids.ts';
import { holdingOf, type ShardMap, sameHolder } from './shard-map.ts';

export const movesKeptMax = 200;

/** One grant of neighbouring shards, or of one account. */
export interface MoveRecord {
  /** Milliseconds of the calendar. */
  readonly atMs: number;
  /** First shard and how many; absent for an account. */
  readonly shards?: readonly [from: Shard, count: number];
  readonly address?: Address;
  /** Empty: nobody had it. */
  readonly from: MemberId;
  /** Empty: it is its shard's again. */
  readonly to: MemberId;
  readonly epoch: Epoch;
}

/** The grants that make `after` of `before`. */
export function grantsBetween(before: ShardMap | undefined, after: ShardMap, atMs: number): MoveRecord[] {
  const records: (MoveRecord & { shards?: [number, number] })[] = [];
  for (let shard = 0; shard < after.shardCount; shard++) {
    const now = holdingOf(after, shard);
    const was = before === undefined ? undefined : holdingOf(before, shard);
    if (now.state === 'free' || (was !== undefined && was.state !== 'free' && was.epoch === now.epoch))
      continue;
    const from = was === undefined || was.state === 'free' ? '' : was.owner.id;
    const last = records.at(-1);
    if (
      last?.shards !== undefined &&
      last.shards[0] + last.shards[1] === shard &&
      last.from === from &&
      last.to === now.owner.id
    )
      last.shards[1]++;
    else records.push({ atMs, shards: [shard, 1], from, to: now.owner.id, epoch: now.epoch });
  }
  for (const [address, pin] of after.pins) {
    const was = before?.pins.get(address);
    if (pin.state === 'free' || (was !== undefined && was.state !== 'free' && was.epoch === pin.epoch))
      continue;
    // A new pin is its shard's owner's still.
    if (was === undefined || (was.state !== 'free' && sameHolder(was.owner, pin.owner))) continue;
    const from = was.state === 'free' ? '' : was.owner.id;
    records.push({ atMs, address, from, to: pin.owner.id, epoch: pin.epoch });
  }
  for (const [address, was] of before?.pins ?? [])
    if (!after.pins.has(address))
      records.push({
        ...{ atMs, address, to: '' },
        from: was.state === 'free' ? '' : was.owner.id,
        epoch: was.state === 'free' ? 0 : was.epoch,
      });
  return records;
}

/** The newest of both, oldest first. */
export function withMoves(log: readonly MoveRecord[], more: readonly MoveRecord[]): MoveRecord[] {
  return [...log, ...more].slice(-movesKeptMax);
}

export function encodeMoves(log: readonly MoveRecord[]): string {
  return JSON.stringify(log);
}

/** Empty for what cannot be read: it is only a memory. */
export function decodeMoves(text: string): MoveRecord[] {
  try {
    const raw = JSON.parse(text) as MoveRecord[];
    return Array.isArray(raw) ? raw.slice(-movesKeptMax) : [];
  } catch {
    return [];
  }
}

/** Those that were about the account: its own, and its shard's. */
export function movesOf(log: readonly MoveRecord[], shard: Shard, address: Address): MoveRecord[] {
  return log.filter(
    (record) =>
      record.address === address ||
      (record.shards !== undefined &&
        shard >= record.shards[0] &&
        shard < record.shards[0] + record.shards[1]),
  );
}
