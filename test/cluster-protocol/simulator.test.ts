/** Thousands of schedules of the ownership machine, and proof that the simulator sees what it should. */
import { describe, expect, test } from '@jest/globals';
import { mutants } from '../../cluster-protocol/simulator/mutant.ts';
import { runSchedule } from '../../cluster-protocol/simulator/schedule.ts';

describe('the simulator', () => {
  test('finds no violation in 2,000 schedules', () => {
    const violations: string[] = [];
    for (let seed = 1; seed <= 2000; seed++) {
      const { violation } = runSchedule(seed);
      if (violation !== undefined) violations.push(`seed ${seed}: ${violation}`);
    }
    expect(violations).toEqual([]);
  });

  test('runs the same schedule again from the same seed', () => {
    expect(runSchedule(42)).toEqual(runSchedule(42));
    expect(runSchedule(42).steps).not.toBe(runSchedule(43).steps);
  });

  test.each(mutants)('finds the defect "%s"', (mutant) => {
    let found: string | undefined;
    for (let seed = 1; seed <= 300 && found === undefined; seed++)
      found = runSchedule(seed, mutant).violation;
    expect(found).toMatch(/one owner|no grant over a live one|epochs grow/);
  });
});
