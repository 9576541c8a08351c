/**
 * Keeps a picture of some registry keys: lists, watches, and starts over when a
 * watch has lost its place or the registry could not answer. Everybody who
 * follows the registry needs exactly this, so it is written once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Registry, RegistryEntry, WatchEvent } from '../registry.ts';

const retryFirstMs = 20;
const retryMaxMs = 1000;

export interface Follower {
  /** All entries under the prefixes: what was known before is void. Called first, and after every lost place. */
  reset(entries: readonly RegistryEntry[], revision: number): void;
  /** One change. Within a prefix in order; between prefixes compare `revision`. */
  event(event: WatchEvent): void;
  /** The registry could not be read; it is tried again. */
  trouble?(error: unknown): void;
}

/** Follows every key that starts with one of `prefixes` until `signal` ends it. */
export function follow(
  registry: Registry,
  prefixes: readonly string[],
  follower: Follower,
  signal: AbortSignal,
): void {
  void run(registry, prefixes, follower, signal);
}

async function run(
  registry: Registry,
  prefixes: readonly string[],
  follower: Follower,
  signal: AbortSignal,
): Promise<void> {
  let waitMs = retryFirstMs;
  while (!signal.aborted) {
    try {
      const lists = await Promise.all(prefixes.map((prefix) => registry.list(prefix)));
      if (signal.aborted) return;
      follower.reset(
        lists.flatMap((list) => list.entries),
        Math.min(...lists.map((list) => list.revision)),
      );
      waitMs = retryFirstMs;
      await watchAll(
        registry,
        prefixes.map((prefix, index) => ({ prefix, revision: lists[index]!.revision })),
        follower,
        signal,
      );
    } catch (error) {
      if (signal.aborted) return;
      follower.trouble?.(error);
      await sleep(waitMs, undefined, { ref: false });
      waitMs = Math.min(waitMs * 2, retryMaxMs);
    }
  }
}

/** Settles when one of the watches has lost its place, or `signal` ended all. */
function watchAll(
  registry: Registry,
  from: readonly { prefix: string; revision: number }[],
  follower: Follower,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const round = new AbortController();
    const over = (): void => {
      signal.removeEventListener('abort', over);
      round.abort();
      resolve();
    };
    signal.addEventListener('abort', over);
    for (const { prefix, revision } of from) {
      registry.watch(
        prefix,
        revision,
        {
          event: (event) => {
            if (!round.signal.aborted) follower.event(event);
          },
          resynchronise: over,
        },
        round.signal,
      );
    }
  });
}
