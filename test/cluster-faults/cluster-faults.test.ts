/** A short run of `npm run cluster-faults` in every test run: the long one has the same code and more rounds. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { requireDebianPackages } from '../support/debian.ts';
import { openRig, type Rig } from './rig.ts';
import { faultRounds } from './rounds.ts';

let rig: Rig;

beforeAll(async () => {
  await requireDebianPackages([
    'etcd-server',
    'etcd-client',
    'nftables',
    'iproute2',
    'glusterfs-common',
    'glusterfs-client',
    'faketime',
  ]);
  rig = await openRig('t', { backends: 2, gateways: 1 });
}, 240_000);

afterAll(async () => {
  await rig?.close();
}, 60_000);

test('a backend paused past its lease, one cut from registry or storage, and a killed controller: one owner, nothing lost', async () => {
  await rig.answering(120_000);
  const rows = [100, 103, 104, 109];
  const report = await faultRounds(rig, { rounds: rows.length, seed: 20_261_125, rows });
  expect(report.violations).toEqual([]);
  expect(report.perRow).toEqual({ 100: 1, 103: 1, 104: 1, 109: 1 });
  expect(report.historyGaps).toBe(0);
  // The rig did run: things were asked, answered and granted, and the faults were felt.
  for (const op of ['append', 'read', 'flag', 'deliver', 'idle'])
    expect(report.answers[`${op} done`]).toBeGreaterThan(5);
  expect(report.acknowledged).toBeGreaterThan(50);
  expect(report.maps).toBeGreaterThan(8);
  expect(report.grants).toBeGreaterThan(4096);
}, 480_000);
