/** A short run of `npm run faults` in every test run: the long one has the same code and more rounds. */
import { expect, test } from '@jest/globals';
import { startCluster } from '../support/cluster.ts';
import { killRounds, readyMsPromised } from './kill-rounds.ts';

test('members killed at random moments lose nothing that was acknowledged and double nothing', async () => {
  const cluster = await startCluster({});
  try {
    const report = await killRounds(cluster, { rounds: 24, seed: 20_261_123, connections: 6 });
    expect(report).toMatchObject({ rounds: 24, missing: 0, doubled: 0, strange: 0 });
    expect(report.acknowledged).toBeGreaterThan(24);
    expect(report.copies).toBeGreaterThan(report.acknowledged);
    expect(Object.values(report.killed).every((count) => count > 0)).toBe(true);
    expect(Object.values(report.moments).every((count) => count > 0)).toBe(true);
    // Half of them at least in the time that is promised of an idle machine, though this one may run other suites.
    expect(report.memberReadyMs.median).toBeLessThan(2 * readyMsPromised);
  } finally {
    await cluster.stop();
  }
}, 240_000);
