/**
 * What an admin wants of the controller: backends drained, accounts pinned, shards
 * kept somewhere. A wish stands in the registry until it is taken back, so it
 * survives the controller, and whoever is elected next goes on where the last one was.
 */
import { Fault } from '../base/fault.ts';
import type { Address, MemberId, Shard } from './ids.ts';
import { type RegistryEntry, registryKey } from './registry.ts';

/** Who wants it, and since when (ms of the calendar, for people only). */
export interface Wished {
  readonly by: string;
  readonly atMs: number;
}

export interface DrainWish extends Wished {
  /** Only this start of the backend: a restart ends such a drain by itself. Absent: until `undrain`. */
  readonly incarnation?: string;
}

export interface PlaceWish extends Wished {
  readonly member: MemberId;
}

export interface Wishes {
  readonly drains: ReadonlyMap<MemberId, DrainWish>;
  readonly pins: ReadonlyMap<Address, PlaceWish>;
  readonly shards: ReadonlyMap<Shard, PlaceWish>;
  /** The controller's own, for balance by load: part of its weight a backend has; see `load-tilt.ts`. */
  readonly tilts: ReadonlyMap<MemberId, number>;
}

export const noWishes: Wishes = { drains: new Map(), pins: new Map(), shards: new Map(), tilts: new Map() };

export const wishKey = {
  drain: (member: MemberId) => `${registryKey.wishPrefix}drain/${member}`,
  pin: (address: Address) => `${registryKey.wishPrefix}pin/${address}`,
  shard: (shard: Shard) => `${registryKey.wishPrefix}shard/${shard}`,
  tilt: (member: MemberId) => `${registryKey.wishPrefix}tilt/${member}`,
} as const;

/** Is this start of the backend to be emptied? */
export function isDrained(wishes: Wishes, member: MemberId, incarnation: string): boolean {
  const drain = wishes.drains.get(member);
  return drain !== undefined && (drain.incarnation === undefined || drain.incarnation === incarnation);
}

export function wishesFrom(entries: readonly RegistryEntry[]): Wishes {
  return entries.reduce((wishes, { key, value }) => wishesAfter(wishes, key, value), noWishes);
}

/**
 * The wishes after one change of a key; the same object when the key is none.
 * @param value  `undefined` when the key was removed. One that cannot be read counts as removed: a wish that is not
 *     understood must not keep the controller from its work.
 */
export function wishesAfter(wishes: Wishes, key: string, value: string | undefined): Wishes {
  if (!key.startsWith(registryKey.wishPrefix)) return wishes;
  const slash = key.indexOf('/', registryKey.wishPrefix.length);
  const kind = key.slice(registryKey.wishPrefix.length, slash);
  const name = key.slice(slash + 1);
  const read = value === undefined ? undefined : readWish(value);
  if (kind === 'drain') return { ...wishes, drains: changed(wishes.drains, name, read) };
  if (kind === 'tilt') return { ...wishes, tilts: changed(wishes.tilts, name, read?.tilt) };
  const place = read?.member === undefined ? undefined : { ...read, member: read.member };
  if (kind === 'pin') return { ...wishes, pins: changed(wishes.pins, name, place) };
  const shard = Number(name);
  if (kind === 'shard' && Number.isSafeInteger(shard))
    return { ...wishes, shards: changed(wishes.shards, shard, place) };
  return wishes;
}

interface RawWish extends Wished {
  readonly member?: MemberId;
  readonly incarnation?: string;
  readonly tilt?: number;
}

function readWish(text: string): RawWish | undefined {
  try {
    const raw = JSON.parse(text) as Record<string, unknown>;
    const { by, atMs, member, incarnation, tilt } = raw;
    return {
      by: typeof by === 'string' ? by : '',
      atMs: typeof atMs === 'number' ? atMs : 0,
      ...(typeof member === 'string' ? { member } : {}),
      ...(typeof incarnation === 'string' ? { incarnation } : {}),
      ...(typeof tilt === 'number' && tilt > 0 && tilt <= 1 ? { tilt } : {}),
    };
  } catch {
    return undefined;
  }
}

function changed<K, V>(map: ReadonlyMap<K, V>, key: K, value: V | undefined): ReadonlyMap<K, V> {
  const next = new Map(map);
  if (value === undefined) next.delete(key);
  else next.set(key, value);
  return next;
}

/** @throws {Fault} `bad-argument` */
export function shardNumber(text: string, shardCount: number): Shard {
  const shard = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (shard < shardCount) return shard;
  throw new Fault(
    'bad-argument',
    `"${text}" is no shard; they are numbered 0 to ${shardCount - 1}, and "postern cluster why ADDRESS" says which an account is in`,
  );
}
