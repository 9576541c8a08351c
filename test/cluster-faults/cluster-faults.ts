/**
 * `npm run cluster-faults -- --rounds 300 --seed 1 [--rows 100,107] [--previous DIR]`:
 * real faults under load on hosts that are network namespaces; as root on Linux. One
 * line per round, one JSON line last. SIGINT ends it after the round.
 */
import { parseArgs } from 'node:util';
import { ensurePackages } from '../support/debian.ts';
import { openRig } from './rig.ts';
import { faultRounds } from './rounds.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    rows: { type: 'string' },
    previous: { type: 'string' },
  },
});
const say = (line: string): void => console.log(line);
ensurePackages(say);
let interrupted = false;
process.on('SIGINT', () => {
  interrupted = true;
});
const fromMs = performance.now();
const rig = await openRig('f', { say });
try {
  const report = await faultRounds(rig, {
    rounds: Number(values.rounds),
    seed: Number(values.seed),
    ...(values.rows === undefined ? {} : { rows: values.rows.split(',').map(Number) }),
    previous: values.previous,
    say,
    stop: () => interrupted,
  });
  say(JSON.stringify({ ...report, seconds: Math.round((performance.now() - fromMs) / 1000) }));
  if (report.violations.length > 0) process.exitCode = 1;
} finally {
  await rig.close();
}
process.exit();
