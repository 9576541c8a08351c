/** The wish a supervisor puts before it ends a backend: for this start only, beside an admin's own. */
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../../cluster-protocol/registry.ts';
import { buildShardMap, encodeShardMap } from '../../cluster-protocol/shard-map.ts';
import { wishKey } from '../../cluster-protocol/wishes.ts';
import { endHandOver, handOver } from '../../command/hand-over.ts';
import { temporaryDir } from '../support/process.ts';

let dir: Awaited<ReturnType<typeof temporaryDir>>;
let embedded: EmbeddedRegistry;

const member = (id: string, incarnation: string) => ({
  put: registryKey.member(id),
  value: JSON.stringify({
    id,
    role: 'backend',
    incarnation,
    address: '',
    versions: [1, 1],
    pid: 1,
    release: '',
  }),
});
const drain = async (id: string): Promise<Record<string, unknown> | undefined> => {
  const entry = await embedded.registry.get(wishKey.drain(id));
  return entry && (JSON.parse(entry.value) as Record<string, unknown>);
};
const put = (key: string, value: unknown) =>
  embedded.registry.transact([], [{ put: key, value: JSON.stringify(value) }]);

beforeAll(async () => {
  dir = await temporaryDir('hand-over');
  embedded = await openEmbeddedRegistry(
    path.join(dir.path, 'registry.db'),
    path.join(dir.path, 'registry.sock'),
  );
});
beforeEach(async () => {
  const { registry } = embedded;
  const { entries } = await registry.list('');
  if (entries.length > 0)
    await registry.transact(
      [],
      entries.map(({ key }) => ({ remove: key })),
    );
  const owner = { id: 'a', incarnation: '2' };
  const map = buildShardMap(3, 9, () => ({ state: 'owned', owner, epoch: 3 }), new Map());
  await registry.transact(
    [],
    [member('a', '2'), member('b', '1'), { put: registryKey.shardMap, value: encodeShardMap(map) }],
  );
});
afterAll(async () => {
  await embedded?.close();
  await dir?.remove();
});

test('it is for this start of the backend, says what is left when time is up, and is taken back', async () => {
  expect(await handOver(embedded.registry, ['a'], 'root', 50)).toEqual({ left: 3, alone: false });
  expect(await drain('a')).toMatchObject({ by: 'root', incarnation: '2' });
  await endHandOver(embedded.registry, 'a');
  expect(await drain('a')).toBeUndefined();
});

test('one that nobody lived to take back does not stand in the way', async () => {
  await put(wishKey.drain('a'), { by: 'root', atMs: 1, incarnation: '1' });
  await handOver(embedded.registry, ['a'], 'root', 50);
  expect(await drain('a')).toMatchObject({ incarnation: '2' });
});

test('an admin’s own drain stays, before and after', async () => {
  await put(wishKey.drain('a'), { by: 'admin', atMs: 1 });
  await handOver(embedded.registry, ['a'], 'root', 50);
  await endHandOver(embedded.registry, 'a');
  expect(await drain('a')).toEqual({ by: 'admin', atMs: 1 });
});

test('nothing is wished for when nobody else takes shards', async () => {
  await put(wishKey.drain('b'), { by: 'admin', atMs: 1 });
  expect(await handOver(embedded.registry, ['a'], 'root', 50)).toEqual({ left: 0, alone: true });
  expect(await handOver(embedded.registry, ['a', 'b'], 'root', 50)).toEqual({ left: 0, alone: true });
  expect(await drain('a')).toBeUndefined();
});
