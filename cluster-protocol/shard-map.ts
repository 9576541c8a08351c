/**
 * The shard map: who owns which shard, and at which epoch. One registry value,
 * written by the controller, read by every member. On the wire it is run-length
 * coded (neighbouring shards with the same owner and epoch are one run); in
 * memory it is typed arrays, so that a look-up is O(1). Its size depends on
 * shards and pins, never on accounts.
 */
import { Fault } from '../base/fault.ts';
import { type Address, type Epoch, type MemberId, type Shard, shardOf } from './ids.ts';

/** Version of the encoded form; a member reads this one and the one before it. */
export const shardMapVersion = 1;
export const shardCountMax = 65_536;
export const holdersMax = 8192;
export const pinsMax = 4096;
/**
 * With etcd: a request of its may have 1.5 MiB, and the map is one value. No two shards alike, all moving, at epochs
 * of ten digits, are 27 bytes each: 442 KB. With `pinsMax` pins of `pinBytesMax` in sum and 1,000 holders
 * the largest map stays under 1 MiB (`test/cluster-protocol/shard-map.test.ts`).
 */
export const shardCountInEtcdMax = 16_384;
/** Bytes of the addresses of all pins together. */
export const pinBytesMax = 256 * 1024;

/** One start of one backend. A restarted backend is another holder: what it held before has to be granted anew. */
export interface Holder {
  readonly id: MemberId;
  readonly incarnation: string;
}

/** The state of one shard or pin. */
export type Holding =
  | { readonly state: 'free' }
  | { readonly state: 'owned'; readonly owner: Holder; readonly epoch: Epoch }
  | { readonly state: 'releasing'; readonly owner: Holder; readonly epoch: Epoch; readonly to: Holder };

export const freeHolding: Holding = { state: 'free' };

export interface ShardMap {
  readonly shardCount: number;
  /** The epoch of the next grant. Grows with every write that grants anything, cluster-wide, so each shard's epochs grow. */
  readonly nextEpoch: Epoch;
  readonly holders: readonly Holder[];
  /** Per shard: 1 + index into `holders`; 0 when free. */
  readonly owners: Uint16Array;
  /** Per shard; 0 when free. */
  readonly epochs: Float64Array;
  /** Per shard: 1 + index of the holder it is being released to; 0 when it is not. */
  readonly targets: Uint16Array;
  /** Accounts that were moved by themselves. */
  readonly pins: ReadonlyMap<Address, Holding>;
}

/** @param firstEpoch  Greater than any epoch accounts may have recorded. */
export function emptyShardMap(shardCount: number, firstEpoch: Epoch): ShardMap {
  return {
    shardCount,
    nextEpoch: firstEpoch,
    holders: [],
    owners: new Uint16Array(shardCount),
    epochs: new Float64Array(shardCount),
    targets: new Uint16Array(shardCount),
    pins: new Map(),
  };
}

export function holdingOf(map: ShardMap, shard: Shard): Holding {
  const owner = map.holders[map.owners[shard]! - 1];
  if (owner === undefined) return freeHolding;
  const epoch = map.epochs[shard]!;
  const to = map.holders[map.targets[shard]! - 1];
  return to === undefined ? { state: 'owned', owner, epoch } : { state: 'releasing', owner, epoch, to };
}

/** Who has the account: its pin if it has one, else its shard. */
export function holdingOfAddress(map: ShardMap, address: Address): Holding {
  const pin = map.pins.size === 0 ? undefined : map.pins.get(address);
  return pin ?? holdingOf(map, shardOf(address, map.shardCount));
}

/**
 * Where a new session for the account should be opened: its owner, or the member it is being released to
 * (which answers `not-owner` or waits until it is granted). `undefined`: nobody has it now.
 */
export function whereIs(map: ShardMap, address: Address): { owner: MemberId; epoch: Epoch } | undefined {
  const holding = holdingOfAddress(map, address);
  if (holding.state === 'free') return undefined;
  return {
    owner: holding.state === 'releasing' ? holding.to.id : holding.owner.id,
    epoch: holding.epoch,
  };
}

/** Every backend that owns something, or is about to. */
export function ownersOf(map: ShardMap): MemberId[] {
  return [...new Set(map.holders.map((holder) => holder.id))];
}

/** A holder as a key of a `Map`. */
export function holderKey(holder: Holder): string {
  return `${holder.id} ${holder.incarnation}`;
}

export function sameHolder(a: Holder, b: Holder): boolean {
  return a.id === b.id && a.incarnation === b.incarnation;
}

/**
 * A map made from holdings, shard by shard. Only holders that are referred to get into it.
 * @param holdingAt  Called once for each shard, ascending.
 */
export function buildShardMap(
  shardCount: number,
  nextEpoch: Epoch,
  holdingAt: (shard: Shard) => Holding,
  pins: ReadonlyMap<Address, Holding>,
): ShardMap {
  const holders: Holder[] = [];
  const numbers = new Map<string, number>();
  const numberOf = (holder: Holder): number => {
    const key = holderKey(holder);
    let number = numbers.get(key);
    if (number === undefined) {
      number = holders.push(holder);
      numbers.set(key, number);
    }
    return number;
  };
  const map = { ...emptyShardMap(shardCount, nextEpoch), holders, pins };
  for (let shard = 0; shard < shardCount; shard++) {
    const holding = holdingAt(shard);
    if (holding.state === 'free') continue;
    map.owners[shard] = numberOf(holding.owner);
    map.epochs[shard] = holding.epoch;
    if (holding.state === 'releasing') map.targets[shard] = numberOf(holding.to);
  }
  return map;
}

/** `[count]` free, `[count, owner, epoch]` owned, `[count, owner, epoch, to]` releasing. */
type Run = [count: number, owner?: number, epoch?: number, to?: number];
type Pin = [address: string, owner?: number, epoch?: number, to?: number];

interface EncodedShardMap {
  v: number;
  shards: number;
  next: number;
  holders: [id: string, incarnation: string][];
  runs: Run[];
  pins: Pin[];
}

/** The registry value: JSON. Holders nobody refers to are left out. */
export function encodeShardMap(map: ShardMap): string {
  const holders: [string, string][] = [];
  const numbers = new Map<string, number>();
  const numberOf = (holder: Holder): number => {
    const key = holderKey(holder);
    let number = numbers.get(key);
    if (number === undefined) {
      number = holders.push([holder.id, holder.incarnation]) - 1;
      numbers.set(key, number);
    }
    return number;
  };
  const runs: Run[] = [];
  for (let from = 0; from < map.shardCount; ) {
    const owner = map.owners[from]!;
    const epoch = map.epochs[from]!;
    const target = map.targets[from]!;
    let end = from + 1;
    while (
      end < map.shardCount &&
      map.owners[end] === owner &&
      map.epochs[end] === epoch &&
      map.targets[end] === target
    )
      end++;
    const run: Run = [end - from];
    if (owner !== 0) run.push(numberOf(map.holders[owner - 1]!), epoch);
    if (owner !== 0 && target !== 0) run.push(numberOf(map.holders[target - 1]!));
    runs.push(run);
    from = end;
  }
  const pins: Pin[] = [];
  for (const [address, pin] of map.pins) {
    const entry: Pin = [address];
    if (pin.state !== 'free') entry.push(numberOf(pin.owner), pin.epoch);
    if (pin.state === 'releasing') entry.push(numberOf(pin.to));
    pins.push(entry);
  }
  const encoded: EncodedShardMap = {
    v: shardMapVersion,
    shards: map.shardCount,
    next: map.nextEpoch,
    holders,
    runs,
    pins,
  };
  return JSON.stringify(encoded);
}

/** @throws {Fault} `peer-protocol`: another version, or not a map that makes sense. */
export function decodeShardMap(text: string): ShardMap {
  const raw = parse(text);
  const shardCount = wholeNumber(raw.shards, 1, shardCountMax);
  const nextEpoch = wholeNumber(raw.next, 1, Number.MAX_SAFE_INTEGER);
  const holders = list(raw.holders, holdersMax).map((entry): Holder => {
    const [id, incarnation] = list(entry, 2);
    if (typeof id !== 'string' || typeof incarnation !== 'string') throw damaged('holder');
    return { id, incarnation };
  });
  const holderAt = (index: unknown): number => wholeNumber(index, 0, holders.length - 1);
  const epochAt = (epoch: unknown): number => wholeNumber(epoch, 1, nextEpoch - 1);
  const map = { ...emptyShardMap(shardCount, nextEpoch), holders };
  let from = 0;
  for (const entry of list(raw.runs, shardCount)) {
    const run = list(entry, 4);
    const end = from + wholeNumber(run[0], 1, shardCount - from);
    if (run.length > 1) {
      map.owners.fill(holderAt(run[1]) + 1, from, end);
      map.epochs.fill(epochAt(run[2]), from, end);
      if (run.length > 3) map.targets.fill(holderAt(run[3]) + 1, from, end);
    }
    from = end;
  }
  if (from !== shardCount) throw damaged('runs');
  const pins = new Map<Address, Holding>();
  for (const entry of list(raw.pins, pinsMax)) {
    const [address, owner, epoch, to] = list(entry, 4);
    if (typeof address !== 'string') throw damaged('pin');
    if (owner === undefined) {
      pins.set(address, freeHolding);
      continue;
    }
    const held = { owner: holders[holderAt(owner)]!, epoch: epochAt(epoch) };
    pins.set(
      address,
      to === undefined
        ? { state: 'owned', ...held }
        : { state: 'releasing', ...held, to: holders[holderAt(to)]! },
    );
  }
  return { ...map, pins };
}

function parse(text: string): EncodedShardMap {
  let raw: EncodedShardMap;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw new Fault('peer-protocol', 'the shard map is not JSON', { cause: error });
  }
  if (raw?.v !== shardMapVersion)
    throw new Fault(
      'peer-protocol',
      `the shard map has version ${raw?.v}; this member reads ${shardMapVersion}`,
    );
  return raw;
}

function wholeNumber(value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max)
    throw damaged('number');
  return value;
}

function list(value: unknown, lengthMax: number): unknown[] {
  if (!Array.isArray(value) || value.length > lengthMax) throw damaged('list');
  return value;
}

function damaged(part: string): Fault {
  return new Fault('peer-protocol', `the shard map is damaged (${part})`);
}
