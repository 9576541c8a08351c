/** Balance by load: when a share changes, when it does not, and that it stands in the registry. */
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { adjustShares, reportLoad } from '../../../backend/cluster/load-report.ts';
import { openLog } from '../../../base/log.ts';
import { nextTilts, tiltMin } from '../../../cluster-protocol/load-tilt.ts';
import { reassign } from '../../../cluster-protocol/reassignment.ts';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../../../cluster-protocol/registry.ts';
import { emptyShardMap } from '../../../cluster-protocol/shard-map.ts';
import { noWishes, wishesFrom } from '../../../cluster-protocol/wishes.ts';
import { temporaryDir, waitFor } from '../../support/process.ts';

const mapOf = (values: Record<string, number>): Map<string, number> => new Map(Object.entries(values));

describe('the share of a backend', () => {
  test.each([
    ['much busier than the others is made smaller', {}, { a: 0.9, b: 0.3, c: 0.3 }, { a: 0.9 }],
    ['is made smaller further while that lasts', { a: 0.9 }, { a: 0.9, b: 0.3 }, { a: 0.8 }],
    ['never falls under its least', { a: tiltMin }, { a: 1, b: 0.1 }, { a: tiltMin }],
    ['stays between the thresholds', { a: 0.8 }, { a: 0.6, b: 0.55 }, { a: 0.8 }],
    ['that is much less busy grows again', { a: 0.8 }, { a: 0.3, b: 0.7, c: 0.65 }, { a: 0.85 }],
    ['is whole again in the end', { a: 0.97 }, { a: 0.3, b: 0.7, c: 0.65 }, {}],
    ['is left while nobody is busy', {}, { a: 0.4, b: 0.01 }, {}],
    ['is not given back while all rest', { a: 0.7 }, { a: 0.001, b: 0.1 }, { a: 0.7 }],
    ['of the only backend is its own', {}, { a: 1 }, {}],
    ['of one that is gone is forgotten', { z: 0.7 }, { a: 0.4, b: 0.4 }, {}],
  ])('%s', (_rule, tilts, loads, wanted) => {
    expect(Object.fromEntries(nextTilts(mapOf(tilts as never), mapOf(loads as never)))).toEqual(wanted);
  });

  test('moves so many shards', () => {
    const view = (revision: number) => ({ incarnation: '1', revision, weight: 1, draining: false });
    const backends = new Map([
      ['a', view(1)],
      ['b', view(2)],
    ]);
    const wishes = { ...noWishes, tilts: mapOf({ a: 0.5 }) };
    const { next } = reassign(emptyShardMap(300, 1), backends, new Map(), true, undefined, wishes);
    const number = next!.map.holders.findIndex(({ id }) => id === 'a') + 1;
    expect([...next!.map.owners].filter((owner) => owner === number)).toHaveLength(100);
  });
});

describe('in the registry', () => {
  let dir: Awaited<ReturnType<typeof temporaryDir>>;
  let embedded: EmbeddedRegistry;
  let lease: string;
  const log = () => openLog({ member: 'test', file: path.join(dir.path, 'test.log') });
  const member = (id: string) => ({
    put: registryKey.member(id),
    value: JSON.stringify({
      id,
      role: 'backend',
      incarnation: '1',
      address: '',
      versions: [1, 1],
      pid: 1,
      release: '',
    }),
  });
  const load = (id: string, value: number) => ({ put: registryKey.load(id), value: String(value) });
  const tilts = async () => wishesFrom((await embedded.registry.list(registryKey.wishPrefix)).entries).tilts;

  beforeAll(async () => {
    dir = await temporaryDir('load-report');
    embedded = await openEmbeddedRegistry(
      path.join(dir.path, 'registry.db'),
      path.join(dir.path, 'registry.sock'),
    );
  });
  beforeEach(async () => {
    const { entries } = await embedded.registry.list('');
    if (entries.length > 0)
      await embedded.registry.transact(
        [],
        entries.map(({ key }) => ({ remove: key })),
      );
    lease = await embedded.registry.grantLease(60_000);
    await embedded.registry.transact(
      [],
      [member('a'), member('b'), { put: registryKey.controller, value: 'a' }],
    );
  });
  afterAll(async () => {
    await embedded?.close();
    await dir?.remove();
  });

  test('a busy backend gets less, and what was found out stands there', async () => {
    await embedded.registry.transact([], [load('a', 0.9), load('b', 0.2)]);
    expect(await adjustShares(embedded.registry, 'a', log())).toBe(true);
    expect(await tilts()).toEqual(mapOf({ a: 0.9 }));
    await embedded.registry.transact([], [load('a', 0.2), load('b', 0.9)]);
    await adjustShares(embedded.registry, 'a', log());
    await adjustShares(embedded.registry, 'a', log());
    expect(await tilts()).toEqual(mapOf({ b: 0.8 }));
  });

  test('nothing changes before all have reported, or when another is the controller', async () => {
    await embedded.registry.transact([], [load('a', 0.9)]);
    expect(await adjustShares(embedded.registry, 'a', log())).toBe(false);
    await embedded.registry.transact([], [load('b', 0.2), { put: registryKey.controller, value: 'b' }]);
    expect(await adjustShares(embedded.registry, 'a', log())).toBe(false);
    expect((await tilts()).size).toBe(0);
  });

  test('a report is there while its backend lives', async () => {
    const { registry } = embedded;
    const report = reportLoad({ registry, self: 'a', lease, log: log(), isController: () => false }, 20);
    await waitFor('a report', async () => Number((await registry.get(registryKey.load('a')))?.value) >= 0);
    report.stop();
    await waitFor('its end', async () => {
      await registry.revokeLease(lease).catch(() => {});
      return (await registry.get(registryKey.load('a'))) === undefined;
    });
  });
});
