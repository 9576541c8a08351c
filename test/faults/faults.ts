/** `npm run faults -- --rounds 200 --seed 1`: kills members under load; one JSON line last, exit 1 when mail was lost or doubled. */
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster.ts';
import { killRounds } from './kill-rounds.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    connections: { type: 'string', default: '6' },
  },
});

const cluster = await startCluster({});
try {
  const report = await killRounds(cluster, {
    rounds: Number(values.rounds),
    seed: Number(values.seed),
    connections: Number(values.connections),
    say: (line) => console.log(line),
  });
  console.log(JSON.stringify(report));
  if (report.missing > 0 || report.doubled > 0 || report.strange > 0) process.exitCode = 1;
} finally {
  await cluster.stop();
}
