/**
 * `npm run simulate -- --schedules N --seed S [--threads T] [--mutant NAME]`:
 * many schedules; a failing one is shrunk and printed as a play; one JSON line
 * last. `--mutants`: which seed finds each mutant; with `--known` only the seed its
 * entry names is tried. `--play FILE`: one play, told line by line.
 */
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { mutants } from './mutants.ts';
import { type Simulator, simulatorOver } from './mutation.ts';
import { drawPlay, formatPlay, parsePlay } from './play.ts';
import * as product from './schedule.ts';
import { shrink } from './shrink.ts';

/** Schedules a thread takes at once. */
const batch = 500;
const shownMax = 10;
const progressMs = 60_000;
const playsDirectory = path.join(import.meta.dirname, '../cluster-protocol/plays');
/** Of what is left to chance in a play. */
const drawsMax = 2000;

interface Batch {
  readonly count: number;
  readonly steps: number;
  readonly failed: readonly { readonly seed: number; readonly violation: string; readonly play: string }[];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      schedules: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      threads: { type: 'string', default: String(Math.min(8, os.availableParallelism())) },
      mutant: { type: 'string' },
      mutants: { type: 'boolean', default: false },
      known: { type: 'boolean', default: false },
      play: { type: 'string' },
    },
  });
  const [schedules, seed, threads] = [values.schedules, values.seed, values.threads].map(Number) as [
    number,
    number,
    number,
  ];
  const mutant = mutants.find(({ name }) => name === values.mutant);
  if (
    ![schedules, seed, threads].every((number) => Number.isSafeInteger(number) && number > 0) ||
    (values.mutant !== undefined && mutant === undefined)
  ) {
    process.stderr.write(
      `simulate: --schedules, --seed and --threads take whole numbers; mutants: ${mutants.map(({ name }) => name).join(', ')}\n`,
    );
    return 2;
  }
  if (values.play !== undefined) {
    const { runPlay }: Simulator = mutant ? await simulatorOver(mutant) : product;
    const { violation } = runPlay(parsePlay(readFileSync(values.play, 'utf8')), say);
    return violation === undefined ? 0 : 1;
  }
  if (values.mutants) return findMutants(schedules, seed, values.known);
  return many(schedules, seed, threads, mutant?.name);
}

/**
 * Prints what finds each mutant. `known`: the seed its entry names first. The product may have changed since that was
 * written, and with it what happens by chance: then other draws of the play that was kept for it, then other seeds.
 */
async function findMutants(schedules: number, seed: number, known: boolean): Promise<number> {
  let missed = 0;
  for (const mutant of mutants) {
    const simulator = await simulatorOver(mutant);
    const found =
      (known && (findIn(simulator, mutant.seed, 1) ?? findInPlays(simulator, mutant.name))) ||
      findIn(simulator, seed, schedules);
    if (!found) missed++;
    say(`${mutant.name}: ${found || 'not found'}`);
  }
  say(JSON.stringify({ mutants: mutants.length, missed }));
  return missed === 0 ? 0 : 1;
}

function findIn({ runSchedule }: Simulator, from: number, count: number): string | undefined {
  for (let seed = from; seed < from + count; seed++) {
    const { violation } = runSchedule(seed);
    if (violation !== undefined) return `seed ${seed}: ${violation}`;
  }
  return undefined;
}

function findInPlays({ runPlay }: Simulator, mutant: string): string | undefined {
  for (const name of readdirSync(playsDirectory)) {
    const text = readFileSync(path.join(playsDirectory, name), 'utf8');
    if (!text.includes(`# breaks: ${mutant} `)) continue;
    const play = parsePlay(text);
    for (let draw = 0; draw < drawsMax; draw++) {
      const { violation } = runPlay({ ...play, seed: play.seed + draw });
      if (violation !== undefined) return `play ${name}, draw ${draw}: ${violation}`;
    }
  }
  return undefined;
}

async function many(
  schedules: number,
  seed: number,
  threads: number,
  mutant: string | undefined,
): Promise<number> {
  const fromMs = performance.now();
  let next = 0;
  let steps = 0;
  let violations = 0;
  let toldMs = fromMs;
  let done = 0;
  const run = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { mutant } });
      const more = (): void => {
        if (next >= schedules) {
          void worker.terminate().then(() => resolve());
          return;
        }
        const count = Math.min(batch, schedules - next);
        worker.postMessage({ from: seed + next, count });
        next += count;
      };
      worker.on('error', reject);
      worker.on('message', (result: Batch) => {
        steps += result.steps;
        done += result.count;
        if (performance.now() - toldMs > progressMs) {
          toldMs = performance.now();
          process.stderr.write(`${done} schedules, ${violations} violations\n`);
        }
        for (const failed of result.failed) {
          violations++;
          if (violations <= shownMax) say(`seed ${failed.seed}: ${failed.violation}\n${failed.play}`);
        }
        more();
      });
      more();
    });
  await Promise.all(Array.from({ length: Math.min(threads, Math.ceil(schedules / batch)) }, run));
  const seconds = Math.round((performance.now() - fromMs) / 100) / 10;
  say(JSON.stringify({ schedules, seed, mutant, threads, steps, violations, seconds }));
  return violations === 0 ? 0 : 1;
}

async function work(): Promise<void> {
  const mutant = mutants.find(({ name }) => name === (workerData as { mutant?: string }).mutant);
  const { runSchedule, runPlay }: Simulator = mutant ? await simulatorOver(mutant) : product;
  parentPort!.on('message', ({ from, count }: { from: number; count: number }) => {
    let steps = 0;
    const failed: Batch['failed'][number][] = [];
    for (let seed = from; seed < from + count; seed++) {
      const result = runSchedule(seed);
      steps += result.steps;
      if (result.violation === undefined) continue;
      const short = failed.length < shownMax ? shrink(drawPlay(seed), runPlay) : undefined;
      failed.push({ seed, violation: result.violation, play: short ? formatPlay(short.play) : '' });
    }
    parentPort!.postMessage({ count, steps, failed } satisfies Batch);
  });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

// Refusals are thrown by the thousand; nobody reads where from.
Error.stackTraceLimit = 0;
if (isMainThread) process.exitCode = await main();
else await work();
