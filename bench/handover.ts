/**
 * `npm run bench:handover`: how long accounts take from one backend to another, and
 * what their clients see of it. Three backends on this machine, sessions open all
 * the while; one shard, one pinned account, and all a backend has (a third of the
 * shards). One JSON line last.
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { layoutOf } from '../base/layout.ts';
import { shardOf } from '../cluster-protocol/ids.ts';
import { connectEmbeddedRegistry } from '../cluster-protocol/registry/embedded-client.ts';
import { follow } from '../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { decodeShardMap, holdingOfAddress, type ShardMap } from '../cluster-protocol/shard-map.ts';
import { wishKey } from '../cluster-protocol/wishes.ts';
import { startCluster } from '../test/support/cluster.ts';
import { median } from './figures.ts';
import { Prober, type Seen } from './prober.ts';

const { values } = parseArgs({
  options: {
    accounts: { type: 'string', default: '60' },
    rounds: { type: 'string', default: '10' },
  },
});
const accountCount = Number(values.accounts);
const rounds = Number(values.rounds);
const backends = ['backend-1', 'backend-2', 'backend-3'];

/** The map as the registry shows it, and a way to wait for it to be otherwise. */
class MapWatch {
  map: ShardMap | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(registry: Registry, signal: AbortSignal) {
    const take = (value: string): void => {
      this.map = decodeShardMap(value);
      const { resolve } = this.#changed;
      this.#changed = Promise.withResolvers<void>();
      resolve();
    };
    follow(
      registry,
      [registryKey.shardMap],
      {
        reset: (entries) => {
          for (const { value } of entries) take(value);
        },
        event: ({ kind, value }) => {
          if (kind === 'put') take(value);
        },
      },
      signal,
    );
  }

  async until(holds: (map: ShardMap) => boolean): Promise<void> {
    while (this.map === undefined || !holds(this.map)) await this.#changed.promise;
  }
}

const isQuiet = (map: ShardMap): boolean =>
  map.targets.every((target) => target === 0) && map.owners.every((owner) => owner !== 0);
const heldBy = (map: ShardMap, id: string): number => {
  const number = map.holders.findIndex((holder) => holder.id === id) + 1;
  return number === 0 ? 0 : map.owners.reduce((sum, owner) => sum + (owner === number ? 1 : 0), 0);
};
const ownerOf = (map: ShardMap, address: string): string => {
  const holding = holdingOfAddress(map, address);
  return holding.state === 'owned' ? holding.owner.id : '';
};

interface Result {
  readonly what: string;
  /** From the wish in the registry to the map that has granted everything, in milliseconds. */
  readonly tookMs: number[];
  /** Longest command of the clients that were handed over. */
  readonly pausesMs: number[];
  lost: number;
  refused: number;
}
const resultOf = (what: string): Result => ({ what, tookMs: [], pausesMs: [], lost: 0, refused: 0 });

function note(result: Result, tookMs: number, seen: readonly Seen[]): void {
  result.tookMs.push(tookMs);
  result.pausesMs.push(Math.max(...seen.map(({ pauseMsMax }) => pauseMsMax)));
  for (const { lost, refused } of seen) {
    result.lost += lost;
    result.refused += refused;
  }
}

const cluster = await startCluster({
  config: 'backend.count = 3\nlogin.plaintext = true\nplugin = []\n',
});
const end = new AbortController();
const probers: { address: string; active: Prober; idle: Prober }[] = [];
try {
  const layout = layoutOf(path.resolve(cluster.data));
  const registry = await connectEmbeddedRegistry(layout.registrySocket);
  const watch = new MapWatch(registry, end.signal);
  for (let number = 0; number < accountCount; number++) {
    const { address, password } = await cluster.addAccount(`mover${number}@postern.test`);
    const options = { port: cluster.ports.imap, user: address, password };
    const active = new Prober({ ...options, idle: false });
    const idle = new Prober({ ...options, idle: true });
    await Promise.all([active.start(), idle.start()]);
    probers.push({ address, active, idle });
  }
  await watch.until((map) => isQuiet(map) && backends.every((id) => heldBy(map, id) > 1300));
  const takeAll = (of: (address: string) => boolean): Seen[] =>
    probers.flatMap(({ address, active, idle }) => (of(address) ? [active.take(), idle.take()] : []));
  const settled = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 300));
  };
  /** Puts a wish, waits for what it wants, and notes what the clients it was about have seen. */
  const measure = async (
    result: Result,
    change: { put: string; value: string } | { remove: string },
    isDone: (map: ShardMap) => boolean,
    concerns: (address: string) => boolean,
  ): Promise<void> => {
    await settled();
    takeAll(() => true);
    const beganAtMs = performance.now();
    await registry.transact([], [change]);
    await watch.until(isDone);
    const tookMs = performance.now() - beganAtMs;
    await settled();
    note(result, tookMs, takeAll(concerns));
  };
  const wish = (member?: string): string => JSON.stringify({ by: 'bench', atMs: Date.now(), member });
  const otherThan = (id: string): string => backends[(backends.indexOf(id) + 1) % backends.length]!;
  const results = [
    resultOf('one shard'),
    resultOf('one pinned account'),
    resultOf('a third of all shards'),
  ] as const;
  const { address } = probers[0]!;
  const { shardCount } = watch.map!;
  const shard = shardOf(address, shardCount);
  for (let round = 0; round < rounds; round++) {
    const to = otherThan(ownerOf(watch.map!, address));
    await measure(
      results[0],
      { put: wishKey.shard(shard), value: wish(to) },
      (map) => ownerOf(map, address) === to,
      (one) => shardOf(one, shardCount) === shard,
    );
  }
  for (let round = 0; round < rounds; round++) {
    const to = otherThan(ownerOf(watch.map!, address));
    await measure(
      results[1],
      { put: wishKey.pin(address), value: wish(to) },
      (map) => ownerOf(map, address) === to,
      (one) => one === address,
    );
  }
  await registry.transact([], [{ remove: wishKey.pin(address) }, { remove: wishKey.shard(shard) }]);
  for (let round = 0; round < Math.min(rounds, 3); round++) {
    const from = backends[round]!;
    await watch.until((map) => isQuiet(map) && backends.every((id) => heldBy(map, id) > 1300));
    const before = watch.map!;
    const concerned = new Set(
      probers.map((one) => one.address).filter((one) => ownerOf(before, one) === from),
    );
    await measure(
      results[2],
      { put: wishKey.drain(from), value: wish() },
      (map) => isQuiet(map) && heldBy(map, from) === 0,
      (one) => concerned.has(one),
    );
    await registry.transact([], [{ remove: wishKey.drain(from) }]);
  }
  console.log(
    `three backends, ${shardCount} shards, ${accountCount} accounts with one client that sends NOOPs and one in IDLE each`,
  );
  for (const { what, tookMs, pausesMs, lost, refused } of results)
    console.log(
      `${what.padEnd(22)} took ${median(tookMs).toFixed(0)} ms (${Math.min(...tookMs).toFixed(0)}-${Math.max(...tookMs).toFixed(0)}), longest command ${Math.max(...pausesMs).toFixed(0)} ms, connections lost ${lost}, commands refused ${refused}, ${tookMs.length} rounds`,
    );
  console.log(JSON.stringify({ accounts: accountCount, rounds, results }));
  await registry.close();
} finally {
  end.abort();
  await Promise.all(probers.flatMap(({ active, idle }) => [active.stop(), idle.stop()]));
  await cluster.stop();
}
