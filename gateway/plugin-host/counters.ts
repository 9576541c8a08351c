/**
 * Counting on behalf of plugins: how often something happened lately, and how
 * much of it there is now. Keys come from clients (networks, account names), so
 * their number is bounded here, once, for every plugin.
 */
import type { Gauge, TokenBuckets, WindowCounter } from '../plugins/api.ts';

/** Keys one counter remembers; past it the key that was added to longest ago is forgotten. */
export const counterKeysMax = 50_000;
/** Longest key, in characters: what is beyond is cut. */
export const counterKeyCharsMax = 512;

/** A window is counted in this many steps, so that an event is forgotten within 1/8 of the window of its time. */
const stepsPerWindow = 8;

interface Steps {
  /** The step that `counts[newest % stepsPerWindow]` belongs to. */
  newest: number;
  readonly counts: number[];
}

/**
 * Counts events per key within a sliding window.
 * @param now  A clock in ms that never steps back.
 */
export function windowCounter(
  windowMs: number,
  now: () => number = () => performance.now(),
  keysMax = counterKeysMax,
): WindowCounter {
  const stepMs = Math.max(1, windowMs / stepsPerWindow);
  const known = new Map<string, Steps>();
  const forward = (steps: Steps, step: number): void => {
    const passed = Math.min(step - steps.newest, stepsPerWindow);
    for (let i = 1; i <= passed; i++) steps.counts[(step - passed + i) % stepsPerWindow] = 0;
    steps.newest = Math.max(step, steps.newest);
  };
  return {
    add(key, amount = 1) {
      const name = key.slice(0, counterKeyCharsMax);
      const step = Math.floor(now() / stepMs);
      const steps = known.get(name) ?? { newest: step, counts: new Array<number>(stepsPerWindow).fill(0) };
      forward(steps, step);
      steps.counts[step % stepsPerWindow]! += amount;
      // A Map keeps the order of insertion: putting the key back at the end makes the first one the oldest.
      known.delete(name);
      if (known.size >= keysMax) known.delete(known.keys().next().value!);
      known.set(name, steps);
    },
    of(key) {
      const name = key.slice(0, counterKeyCharsMax);
      const steps = known.get(name);
      if (!steps) return 0;
      forward(steps, Math.floor(now() / stepMs));
      const sum = steps.counts.reduce((total, count) => total + count, 0);
      if (sum === 0) known.delete(name);
      return sum;
    },
  };
}

/**
 * Token buckets by key, each full at first.
 * @param now  A clock in ms that never steps back.
 */
export function tokenBuckets(
  rate: { amount: number; perMs: number; burst: number },
  now: () => number = () => performance.now(),
  keysMax = counterKeysMax,
): TokenBuckets {
  const perMs = rate.amount / rate.perMs;
  const known = new Map<string, { tokens: number; atMs: number }>();
  return {
    take(key, amount = 1) {
      const name = key.slice(0, counterKeyCharsMax);
      const nowMs = now();
      const bucket = known.get(name) ?? { tokens: rate.burst, atMs: nowMs };
      bucket.tokens = Math.min(rate.burst, bucket.tokens + (nowMs - bucket.atMs) * perMs);
      bucket.atMs = nowMs;
      // The one that was used longest ago is the first to be forgotten, and the likeliest to be full again.
      known.delete(name);
      if (known.size >= keysMax) known.delete(known.keys().next().value!);
      known.set(name, bucket);
      if (bucket.tokens < amount)
        return perMs === 0 ? Number.POSITIVE_INFINITY : (amount - bucket.tokens) / perMs;
      bucket.tokens -= amount;
      return 0;
    },
  };
}

/** Counts what is held at the moment, per key. A key nobody holds takes no memory. */
export function gauge(keysMax = counterKeysMax): Gauge {
  const held = new Map<string, number>();
  return {
    enter(key) {
      const name = key.slice(0, counterKeyCharsMax);
      const count = held.get(name) ?? 0;
      if (count === 0 && held.size >= keysMax) return;
      held.set(name, count + 1);
    },
    leave(key) {
      const name = key.slice(0, counterKeyCharsMax);
      const count = held.get(name) ?? 0;
      if (count <= 1) held.delete(name);
      else held.set(name, count - 1);
    },
    of: (key) => held.get(key.slice(0, counterKeyCharsMax)) ?? 0,
  };
}
