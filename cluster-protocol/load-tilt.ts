/**
 * Balance by load: a backend that is much busier than the others is given a smaller
 * share, step by step, and gets it back when it is much less busy. Pure. The shares
 * stand in the registry as a wish of the controller's own, so they outlive it; the
 * room between the two thresholds keeps shards from going to and fro.
 */
import type { MemberId } from './ids.ts';

/** Processor seconds per second below which nobody is busy enough to move anything for. */
const busyFrom = 0.5;
const busierTimes = 1.3;
const idlerTimes = 0.75;
const lessStep = 0.1;
const moreStep = 0.05;
/** A backend keeps at least this part of the share its weight gives it. */
export const tiltMin = 0.5;

/**
 * @param tilts  What share of its weight a backend has now; 1 where it is not named.
 * @param loads  Processor seconds per second, of each backend that takes shards.
 * @returns Those that are not 1; the same object when nothing changes.
 */
export function nextTilts(
  tilts: ReadonlyMap<MemberId, number>,
  loads: ReadonlyMap<MemberId, number>,
): ReadonlyMap<MemberId, number> {
  const mean = loads.size === 0 ? 0 : [...loads.values()].reduce((sum, load) => sum + load, 0) / loads.size;
  const next = new Map<MemberId, number>();
  for (const [id, load] of loads) {
    const now = tilts.get(id) ?? 1;
    let tilt = now;
    if (loads.size > 1 && load > busyFrom && load > mean * busierTimes) tilt = now - lessStep;
    // While all rest, nobody can say who will be busy: what was found out stands.
    else if (mean > busyFrom / 2 && load < mean * idlerTimes) tilt = now + moreStep;
    tilt = Math.min(1, Math.max(tiltMin, Math.round(tilt * 100) / 100));
    if (tilt !== 1) next.set(id, tilt);
  }
  const same = next.size === tilts.size && [...next].every(([id, tilt]) => tilts.get(id) === tilt);
  return same ? tilts : next;
}
