/**
 * `npm run model -- --minutes 10 --seed 1 [--cluster | --mbox] [--scenes 300]`: plays until the time is over; a failing one is
 * made shorter and printed. One JSON line last, exit 1 on a finding.
 */
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster.ts';
import { type PlayReport, play, type Stage } from './play.ts';
import { shortened } from './shorten.ts';
import { clusterStage, storeStage } from './stages.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    scenes: { type: 'string', default: '300' },
    sessions: { type: 'string', default: '4' },
    'restart-every': { type: 'string', default: '60' },
    cluster: { type: 'boolean', default: false },
    mbox: { type: 'boolean', default: false },
  },
});
const scenes = Array.from({ length: Number(values.scenes) }, (_, index) => index);
const cast = { sessions: Number(values.sessions), restartEvery: Number(values['restart-every']) };
const until = performance.now() + Number(values.minutes) * 60_000;
const totals = { plays: 0, commands: 0, restarts: 0 };
let failed: { seed: number; report: PlayReport } | undefined;
const cluster = values.cluster ? await startCluster() : undefined;

async function given(seed: number, chosen: readonly number[]): Promise<PlayReport> {
  const options = { seed, scenes: chosen, ...cast };
  if (cluster !== undefined) {
    const account = await cluster.addAccount(`m${totals.plays}-${seed}@postern.test`);
    return play(clusterStage(cluster, account) satisfies Stage, options);
  }
  const stage = await storeStage(values.mbox ? 'mbox' : 'maildir');
  try {
    return await play(stage, options);
  } finally {
    await stage.close();
  }
}

for (let seed = Number(values.seed); failed === undefined && performance.now() < until; seed++) {
  const report = await given(seed, scenes);
  totals.plays++;
  totals.commands += report.commands;
  totals.restarts += report.restarts;
  if (report.finding !== undefined) failed = { seed, report };
}
if (failed !== undefined) {
  const { seed } = failed;
  const short = cluster
    ? failed.report
    : await shortened(failed.report, scenes, (chosen) => given(seed, chosen));
  console.error(`seed ${seed}\n${short.finding!.script.join('\n')}\n\n${short.finding!.reason}`);
  process.exitCode = 1;
}
await cluster?.stop();
console.log(JSON.stringify({ ...totals, failedSeed: failed?.seed ?? null, cluster: values.cluster }));
