/**
 * `npm run faults -- --rounds 200 --seed 1`: kills members under load; one JSON line last. Exit 1 when mail was lost or
 * doubled, or when members were not back in the time that is promised.
 */
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster.ts';
import { killRounds, readyMsPromised } from './kill-rounds.ts';

/** One round in so many may be late: this run loads the machine that has to be quick. */
const lateShareMax = 0.05;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    connections: { type: 'string', default: '6' },
  },
});

const busyAtStart = (loadavg()[0] ?? 0) > availableParallelism();
const cluster = await startCluster({});
try {
  const report = await killRounds(cluster, {
    rounds: Number(values.rounds),
    seed: Number(values.seed),
    connections: Number(values.connections),
    say: (line) => console.log(line),
  });
  const kept = report.missing === 0 && report.doubled === 0 && report.strange === 0;
  const { median, count } = report.memberReadyMs;
  const inTime = median < readyMsPromised && report.late <= Math.max(1, count * lateShareMax);
  console.log(JSON.stringify({ ...report, kept, inTime, busyAtStart }));
  if (!kept || (!inTime && !busyAtStart)) process.exitCode = 1;
} finally {
  await cluster.stop();
}
