/**
 * Defects that can be put in on purpose. A simulator that does not find these
 * would not find others either; the tests hold it to finding each.
 */
import type { Condition } from '../registry.ts';
import { registryKey } from '../registry.ts';
import { buildShardMap, decodeShardMap, encodeShardMap, type Holding, holdingOf } from '../shard-map.ts';

export const mutants = [
  /** A backend acts on what the map says, whatever its lease. */
  'no-lease-check',
  /** The lease is counted from when the answer came, without margin. */
  'lease-from-answer',
  /** The controller grants where it should ask for a release first. */
  'grant-without-release',
  /** Grants reuse the epoch of the one before. */
  'epoch-stands-still',
  /** The map is written whatever it was, whoever is the controller, whoever is a member. */
  'unconditional-map',
] as const;

export type Mutant = (typeof mutants)[number];

/** The map a defective controller writes instead of `text`. */
export function mutateMap(mutant: Mutant | undefined, text: string): string {
  if (mutant !== 'grant-without-release' && mutant !== 'epoch-stands-still') return text;
  const map = decodeShardMap(text);
  const change = (holding: Holding): Holding => {
    if (mutant === 'grant-without-release')
      return holding.state === 'releasing'
        ? { state: 'owned', owner: holding.to, epoch: map.nextEpoch }
        : holding;
    return holding.state === 'free' ? holding : { ...holding, epoch: 1 };
  };
  const next = mutant === 'grant-without-release' ? map.nextEpoch + 1 : map.nextEpoch;
  return encodeShardMap(
    buildShardMap(map.shardCount, next, (shard) => change(holdingOf(map, shard)), map.pins),
  );
}

export function mutateConditions(
  mutant: Mutant | undefined,
  conditions: readonly Condition[],
): readonly Condition[] {
  return mutant === 'unconditional-map'
    ? conditions.filter((c) => c.key === registryKey.cluster)
    : conditions;
}
