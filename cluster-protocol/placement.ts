/**
 * Where shards should be: the fewest moves that give every backend its share.
 * Pure: today's owners and weights in, wanted owners out. Neighbouring shards
 * are kept together, because the shard map is coded in runs.
 */

/**
 * @param current  Per shard: index of the backend that has it (or is about to), −1 when nobody has.
 * @param weights  Per backend: its share relative to the others; 0 for one that is to be emptied.
 * @param fixed  Shards that were put somewhere by hand: they count in their backend's share and are not moved for balance.
 * @returns Per shard: index of the backend that should have it; −1 when no backend may have any.
 */
export function placeShards(
  current: Int32Array,
  weights: readonly number[],
  fixed: ReadonlyMap<number, number> = nothingFixed,
): Int32Array {
  const wanted = Int32Array.from(current);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (total <= 0) return wanted;
  for (const [shard, backend] of fixed) wanted[shard] = backend;
  const counts = new Array<number>(weights.length).fill(0);
  for (const owner of wanted) if (owner >= 0) counts[owner]!++;
  const quotas = quotasOf(current.length, counts, weights, total);
  raiseToFixed(quotas, fixed);

  // Taking from the end of what a backend has keeps the rest of it in one run.
  for (let shard = wanted.length - 1; shard >= 0; shard--) {
    const owner = wanted[shard]!;
    if (owner < 0 || counts[owner]! <= quotas[owner]! || fixed.has(shard)) continue;
    counts[owner]!--;
    wanted[shard] = -1;
  }
  let receiver = 0;
  for (let shard = 0; shard < wanted.length; shard++) {
    if (wanted[shard]! >= 0) continue;
    while (counts[receiver]! >= quotas[receiver]!) receiver++;
    wanted[shard] = receiver;
    counts[receiver]!++;
  }
  return wanted;
}

const nothingFixed: ReadonlyMap<number, number> = new Map();

/** A backend that was given more by hand than its share keeps it; the others go without as many. */
function raiseToFixed(quotas: number[], fixed: ReadonlyMap<number, number>): void {
  const held = quotas.map(() => 0);
  for (const backend of fixed.values()) held[backend]!++;
  let over = 0;
  for (const [backend, count] of held.entries()) {
    over += Math.max(0, count - quotas[backend]!);
    quotas[backend] = Math.max(quotas[backend]!, count);
  }
  while (over > 0) {
    // The one with most room above what it must keep.
    const room = quotas.map((quota, backend) => quota - held[backend]!);
    const backend = room.indexOf(Math.max(...room));
    const taken = Math.max(1, Math.floor(over / quotas.length));
    quotas[backend]! -= Math.min(taken, over);
    over -= Math.min(taken, over);
  }
}

/** Whole shares that add up to `shardCount`; a seat left over goes to whom it saves a move, then to the largest fraction. */
function quotasOf(
  shardCount: number,
  counts: readonly number[],
  weights: readonly number[],
  total: number,
): number[] {
  const quotas = weights.map((weight) => Math.floor((shardCount * weight) / total));
  let left = shardCount - quotas.reduce((sum, quota) => sum + quota, 0);
  const inLine = weights
    .map((weight, index) => ({
      index,
      weight,
      saves: counts[index]! > quotas[index]! ? 1 : 0,
      fraction: (shardCount * weight) / total - quotas[index]!,
    }))
    .filter((entry) => entry.weight > 0)
    .sort((a, b) => b.saves - a.saves || b.fraction - a.fraction || a.index - b.index);
  for (let turn = 0; left > 0; turn++, left--) quotas[inLine[turn % inLine.length]!.index]!++;
  return quotas;
}
