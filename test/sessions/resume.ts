/**
 * `npm run resume-rounds -- --kills 200 --seed 1`: kills backends under sessions that change their mailboxes; one JSON
 * line last. Exit 1 when a change was lost or made twice, or a connection closed.
 */
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster.ts';
import { resumeRounds } from './resume-rounds.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    lanes: { type: 'string', default: '8' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const cluster = await startCluster({ config: 'backend.count = 2\nlogin.plaintext = true\n' });
try {
  const report = await resumeRounds(cluster, {
    kills: Number(values.kills),
    lanes: Number(values.lanes),
    seed: Number(values.seed),
    say: (line) => console.log(line),
  });
  for (const line of await cluster.logs())
    if (/^session (?:not )?resumed$/.test(String(line.msg))) console.log(JSON.stringify(line));
  const good =
    report.missing === 0 && report.doubled === 0 && report.closed === 0 && report.wrong.length === 0;
  console.log(JSON.stringify({ ...report, good }));
  if (!good) process.exitCode = 1;
} finally {
  await cluster.stop();
}
