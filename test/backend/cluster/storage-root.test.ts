/** The storage root has to be this cluster's own, or nothing starts. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { checkStorageRoot } from '../../../backend/cluster/storage-root.ts';

const cluster = { id: 'c1', shardCount: 4096, format: 1 };
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'root-'));
});
afterAll(() => rm(dir, { recursive: true }));

test.each([
  ['its own', JSON.stringify(cluster), undefined],
  ['an empty directory: not mounted', undefined, 'wrong-root'],
  ["another cluster's", JSON.stringify({ ...cluster, id: 'c2' }), 'wrong-root'],
  ['one with another shard count', JSON.stringify({ ...cluster, shardCount: 8 }), 'wrong-root'],
  ['one of a format to come', JSON.stringify({ ...cluster, format: 2 }), 'wrong-root'],
  ['one whose record is damaged', '{"id":', 'wrong-root'],
])('a storage root that is %s is told as such', async (what, text, code) => {
  const root = path.join(dir, what.replace(/\W/g, '-'));
  await mkdir(root);
  if (text !== undefined) await writeFile(path.join(root, 'cluster.json'), text);
  const checked = checkStorageRoot(root, cluster);
  if (code === undefined) await checked;
  else await expect(checked).rejects.toMatchObject({ code });
});

test('storage that cannot be read may be well later: no fault of the configuration', async () => {
  const root = path.join(dir, 'unreadable');
  await mkdir(path.join(root, 'cluster.json'), { recursive: true });
  await expect(checkStorageRoot(root, cluster)).rejects.toMatchObject({ code: 'storage-failed' });
});
