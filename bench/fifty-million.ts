/**
 * `npm run bench:map`: what fifty million accounts cost the map. Synthetic: no
 * account exists, no byte of mail moves; addresses are made up, and the same
 * functions route them that a gateway uses. One JSON line last.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { MemberId } from '../cluster-protocol/ids.ts';
import { shardCountDefault, shardOf } from '../cluster-protocol/ids.ts';
import { type BackendView, reassign } from '../cluster-protocol/reassignment.ts';
import { connectEmbeddedRegistry } from '../cluster-protocol/registry/embedded-client.ts';
import { openEmbeddedRegistry } from '../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../cluster-protocol/registry.ts';
import {
  decodeShardMap,
  emptyShardMap,
  encodeShardMap,
  type ShardMap,
  whereIs,
} from '../cluster-protocol/shard-map.ts';

const { values } = parseArgs({
  options: {
    accounts: { type: 'string', default: '50000000' },
    lookups: { type: 'string', default: '10000000' },
    backends: { type: 'string', default: '100' },
    shards: { type: 'string', default: String(shardCountDefault) },
  },
});
const accounts = Number(values.accounts);
const lookups = Number(values.lookups);
const shardCount = Number(values.shards);

const addressOf = (number: number): string => `user${number}@d${number % 1000}.example.org`;

const view = (revision: number): BackendView => ({
  incarnation: `i${revision}`,
  revision,
  weight: 1,
  draining: false,
});
const backends = new Map<MemberId, BackendView>(
  Array.from({ length: Number(values.backends) }, (_, index) => [`backend-${index + 1}`, view(index + 1)]),
);

/** Every write a controller would make until nothing is left to be done. */
function settle(
  map: ShardMap,
  live: ReadonlyMap<MemberId, BackendView>,
): { map: ShardMap; writes: number; planMs: number; bytes: number } {
  let writes = 0;
  let bytes = 0;
  const startedAt = performance.now();
  for (;;) {
    const { next } = reassign(map, live, new Map(), true);
    if (next === undefined) return { map, writes, planMs: performance.now() - startedAt, bytes };
    // As it travels: encoded by the controller, decoded by every member.
    const text = encodeShardMap(next.map);
    map = decodeShardMap(text);
    bytes = text.length;
    writes++;
  }
}

console.log(
  `${accounts.toLocaleString('en')} made-up addresses, ${backends.size} backends, ${shardCount} shards: synthetic, nothing is stored`,
);
const first = settle(emptyShardMap(shardCount, 1), backends);
console.log(
  `the first map: ${first.writes} writes, planned in ${first.planMs.toFixed(1)} ms, ${first.bytes} bytes`,
);

const perBackend = new Map<MemberId, number>();
const perShard = new Uint32Array(shardCount);
const hashingAt = performance.now();
for (let number = 0; number < accounts; number++) perShard[shardOf(addressOf(number), shardCount)]!++;
const hashingMs = performance.now() - hashingAt;
for (let shard = 0; shard < shardCount; shard++) {
  const id = first.map.holders[first.map.owners[shard]! - 1]!.id;
  perBackend.set(id, (perBackend.get(id) ?? 0) + perShard[shard]!);
}
const counts = [...perBackend.values()];
const mean = accounts / backends.size;
const skew = { min: Math.min(...counts) / mean, max: Math.max(...counts) / mean };
console.log(
  `accounts per backend: ${Math.min(...counts)} to ${Math.max(...counts)} (${skew.min.toFixed(3)} to ${skew.max.toFixed(3)} of the mean)`,
);

const routingAt = performance.now();
let found = 0;
for (let number = 0; number < lookups; number++)
  if (whereIs(first.map, addressOf((number * 7919) % accounts)) !== undefined) found++;
const lookupsPerSecond = lookups / ((performance.now() - routingAt) / 1000);
console.log(
  `routed ${found} of ${lookups} look-ups, ${Math.round(lookupsPerSecond).toLocaleString('en')} per second on one core`,
);

const survivors = new Map(backends);
const lost = [...survivors.keys()][41 % survivors.size]!;
survivors.delete(lost);
const after = settle(first.map, survivors);
let moved = 0;
for (let shard = 0; shard < shardCount; shard++)
  if (
    first.map.holders[first.map.owners[shard]! - 1]!.id !==
    after.map.holders[after.map.owners[shard]! - 1]!.id
  )
    moved++;
console.log(
  `the loss of ${lost}: ${moved} shards granted anew in ${after.writes} writes, planned and coded in ${after.planMs.toFixed(1)} ms`,
);

/** As a controller and a gateway of this machine: written to a real registry, read by one that watches, until a look-up is right. */
async function publish(map: ShardMap): Promise<number> {
  const dir = await mkdtemp(path.join(tmpdir(), 'postern-map-'));
  const server = await openEmbeddedRegistry(path.join(dir, 'registry.db'), path.join(dir, 'registry.sock'));
  const [writer, reader] = await Promise.all([
    connectEmbeddedRegistry(path.join(dir, 'registry.sock')),
    connectEmbeddedRegistry(path.join(dir, 'registry.sock')),
  ]);
  const end = new AbortController();
  const taken = Promise.withResolvers<void>();
  const { revision } = await reader.list(registryKey.shardMap);
  reader.watch(
    registryKey.shardMap,
    revision,
    {
      event: ({ value }) => {
        if (whereIs(decodeShardMap(value), addressOf(1)) !== undefined) taken.resolve();
      },
      resynchronise: () => taken.reject(new Error('the watch has lost its place')),
    },
    end.signal,
  );
  await reader.get(registryKey.shardMap);
  const beganAtMs = performance.now();
  await writer.transact([], [{ put: registryKey.shardMap, value: encodeShardMap(map) }]);
  await taken.promise;
  const tookMs = performance.now() - beganAtMs;
  end.abort();
  await Promise.all([writer.close(), reader.close()]);
  await server.close();
  await rm(dir, { recursive: true });
  return tookMs;
}
const publishMs = await publish(after.map);
console.log(
  `published to a registry on this machine and read by who watches it: ${publishMs.toFixed(1)} ms a write`,
);

const stateBytes = first.map.owners.byteLength + first.map.epochs.byteLength + first.map.targets.byteLength;
console.log(
  JSON.stringify({
    synthetic: true,
    accounts,
    backends: backends.size,
    shards: shardCount,
    lookupsPerSecond: Math.round(lookupsPerSecond),
    hashedPerSecond: Math.round(accounts / (hashingMs / 1000)),
    stateBytesInMemory: stateBytes,
    stateBytesInRegistry: first.bytes,
    skewMin: Number(skew.min.toFixed(4)),
    skewMax: Number(skew.max.toFixed(4)),
    lossPlanMs: Number(after.planMs.toFixed(1)),
    lossPublishMs: Number((publishMs * after.writes).toFixed(1)),
    lossWrites: after.writes,
    lossShardsMoved: moved,
  }),
);
if (found !== lookups) process.exitCode = 1;
