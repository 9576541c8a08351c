/** `npm run fuzz -- --minutes 30 --seed 1 [--only smtp-data]`: hostile bytes at every parser; one JSON line last, exit 1 on a finding. */
import { parseArgs } from 'node:util';
import { campaign } from './campaign.ts';
import { fuzzTargets } from './targets.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    only: { type: 'string', default: '' },
  },
});
const until = performance.now() + Number(values.minutes) * 60_000;
const report = campaign(
  fuzzTargets.filter((target) => target.name.includes(values.only)),
  { seed: Number(values.seed), done: () => performance.now() > until },
);
for (const finding of report.findings)
  console.error(`${finding.target}: ${finding.reason}\n  ${finding.inputBase64}`);
console.log(JSON.stringify(report));
if (report.findings.length > 0) process.exitCode = 1;
