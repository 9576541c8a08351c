/** `npm run simulate -- --schedules N --seed S [--mutant NAME]`: many schedules; prints one JSON line last. */
import { parseArgs } from 'node:util';
import { type Mutant, mutants } from './mutant.ts';
import { runSchedule } from './schedule.ts';

const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    mutant: { type: 'string' },
  },
});
const schedules = Number(values.schedules);
const seed = Number(values.seed);
const mutant = values.mutant as Mutant | undefined;
if (
  !Number.isSafeInteger(schedules) ||
  !Number.isSafeInteger(seed) ||
  (mutant && !mutants.includes(mutant))
) {
  process.stderr.write(
    `simulate: --schedules and --seed take whole numbers, --mutant one of ${mutants.join(', ')}\n`,
  );
  process.exit(2);
}

const shownMax = 10;
const fromMs = performance.now();
let steps = 0;
let violations = 0;
for (let index = 0; index < schedules; index++) {
  const result = runSchedule(seed + index, mutant);
  steps += result.steps;
  if (result.violation === undefined) continue;
  violations++;
  if (violations <= shownMax) process.stdout.write(`seed ${seed + index}: ${result.violation}\n`);
}
const seconds = Math.round(performance.now() - fromMs) / 1000;
process.stdout.write(`${JSON.stringify({ schedules, seed, mutant, steps, violations, seconds })}\n`);
process.exitCode = violations === 0 ? 0 : 1;
