/**
 * The simulator finds nothing in the product, everything that was put in on
 * purpose, and never again what a play was kept for.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { mutants } from '../simulator/mutants.ts';
import { drawPlay, formatPlay, parsePlay } from '../simulator/play.ts';
import { runPlay, runSchedule } from '../simulator/schedule.ts';
import { shrink } from '../simulator/shrink.ts';

const plays = path.join(import.meta.dirname, 'plays');
const simulate = path.join(import.meta.dirname, '../simulator/simulate.ts');

/** Mutants are put into a copy of the code, which Node itself has to load. */
function run(...args: string[]): string {
  return spawnSync(process.execPath, [simulate, ...args], { encoding: 'utf8' }).stdout;
}

describe('the simulator', () => {
  test('finds no violation in 1,500 schedules', () => {
    const violations: string[] = [];
    for (let seed = 1; seed <= 1500; seed++) {
      const { violation } = runSchedule(seed);
      if (violation !== undefined) violations.push(`seed ${seed}: ${violation}`);
    }
    expect(violations).toEqual([]);
  });

  test('runs the same schedule again from the same seed, and from its text', () => {
    const told: string[][] = [[], [], []];
    runPlay(drawPlay(42), (line) => told[0]!.push(line));
    runPlay(parsePlay(formatPlay(drawPlay(42))), (line) => told[1]!.push(line));
    runPlay(drawPlay(43), (line) => told[2]!.push(line));
    expect(told[0]!.length).toBeGreaterThan(50);
    expect(told[1]).toEqual(told[0]);
    expect(told[2]).not.toEqual(told[0]);
  });

  test('says which line of a play it does not understand', () => {
    expect(() => parsePlay('seed 1\nat 5 sing backend-1\n')).toThrow('at 5 sing backend-1');
    expect(() => parsePlay('seed 1\nat 5 strike * nowhere dies\n')).toThrow('nowhere');
    expect(() => parsePlay('at 5 crash backend-1\n')).toThrow('"seed"');
  });

  test('draws every kind of fault', () => {
    const drawn = new Set<string>();
    for (let seed = 1; seed <= 400; seed++) for (const act of drawPlay(seed).acts) drawn.add(act.do);
    expect([...drawn].sort().join(' ')).toBe(
      'crash cut drain drain-once lag lossy move pause pin registry strike undrain unmove unpin vanish',
    );
  });

  test('keeps of a failing play what makes it fail', () => {
    const play = parsePlay(readFileSync(path.join(plays, 'slow-clock.play'), 'utf8'));
    const noisy = {
      ...play,
      acts: [{ at: 10, do: 'crash', who: 'backend-1' } as const, ...play.acts],
    };
    // Whatever pauses somebody counts as failing here.
    const short = shrink(noisy, (one) => ({
      steps: 0,
      violation: one.acts.some((act) => act.do === 'pause') ? 'at 1 ms: pause: seen' : undefined,
    }));
    expect(short!.play.acts.map((act) => act.do)).toEqual(['pause']);
    expect(shrink(play, () => ({ steps: 0, violation: undefined }))).toBeUndefined();
  });
});

describe('plays that were kept', () => {
  test.each(readdirSync(plays))('%s breaks nothing, however chance falls', (name) => {
    const text = readFileSync(path.join(plays, name), 'utf8');
    const breaks = /^# breaks: (\S+) \(.+\)$/m.exec(text)?.[1];
    expect(mutants.map((mutant) => mutant.name)).toContain(breaks);
    const play = parsePlay(text);
    for (let draw = 0; draw < 30; draw++)
      expect(runPlay({ ...play, seed: play.seed + draw }).violation).toBeUndefined();
  });
});

describe('defects put in on purpose', () => {
  const lines = run('--mutants', '--known', '--schedules', '3000').trim().split('\n');

  test('are at least 25, each with a name of its own', () => {
    expect(new Set(mutants.map(({ name }) => name)).size).toBeGreaterThanOrEqual(25);
    expect(lines).toHaveLength(mutants.length + 1);
  });

  test.each(mutants.map(({ name }) => name))('%s is found', (name) => {
    const line = lines.find((one) => one.startsWith(`${name}: `));
    expect(line).toMatch(/: (seed|play) .+: at \d+ ms: /);
  });

  test.each(mutants.map((mutant) => mutant.name))('%s stands in the internals page', (name) => {
    const page = readFileSync(path.join(import.meta.dirname, '../../docs/internals/cluster.md'), 'utf8');
    expect(page).toContain(`| \`${name}\` |`);
  });
});
