/** A short campaign in every test run; the long ones are `npm run fuzz -- --minutes N`. */
import { describe, expect, test } from '@jest/globals';
import { campaign } from './campaign.ts';
import { fuzzTargets } from './targets.ts';

describe('hostile bytes', () => {
  test.each(fuzzTargets.map((target) => [target.name, target] as const))(
    '%s throws nothing but faults and stays linear',
    (_, target) => {
      const report = campaign([target], { seed: 1, done: (runs) => runs >= 2000 });
      expect(report.findings).toEqual([]);
    },
  );

  test('a parser that breaks its promise is found', () => {
    const careless = {
      name: 'careless',
      seeds: ['a"b'],
      run: (input: Buffer) => void (input.includes('\0') && JSON.parse('{')),
    };
    expect(campaign([careless], { seed: 1, done: (runs) => runs >= 5000 }).findings[0]?.reason).toMatch(
      /SyntaxError/,
    );
  });
});
