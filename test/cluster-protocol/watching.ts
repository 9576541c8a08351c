/** Collects what a watch of a registry tells, for any driver. */
import type { Registry, WatchEvent } from '../../cluster-protocol/registry.ts';

export interface Seen {
  readonly events: WatchEvent[];
  resynchronised: number;
  end(): void;
}

export function watching(registry: Registry, prefix: string, from: number): Seen {
  const events: WatchEvent[] = [];
  const end = new AbortController();
  const seen: Seen = { events, resynchronised: 0, end: () => end.abort() };
  registry.watch(
    prefix,
    from,
    {
      event: (event) => events.push(event),
      resynchronise: () => {
        seen.resynchronised++;
      },
    },
    end.signal,
  );
  return seen;
}
