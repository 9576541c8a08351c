import { describe, expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { clientOf } from '../../../gateway/net/address.ts';
import { goodForMs, KnownGood } from '../../../gateway/net/known-good.ts';
import { Shield } from '../../../gateway/net/shield.ts';
import { calm, calmReadings, isSpent, nextStress, type StressState } from '../../../gateway/net/stress.ts';
import { gatewaySettings } from '../../../gateway/settings.ts';

const quiet = { share: 0.1, shareMark: 0.7, lagMs: 5 };
const crowded = { ...quiet, share: 0.7 };
const late = { ...quiet, lagMs: 400 };
const through = (state: StressState, ...readings: (typeof quiet)[]): StressState =>
  readings.reduce(nextStress, state);

describe('stress', () => {
  test('begins with the reading that reaches the share', () => {
    expect(nextStress(calm, { ...crowded, share: 0.69 }).stressed).toBe(false);
    expect(nextStress(calm, crowded).stressed).toBe(true);
  });

  test('begins when the event loop stays late, not when it was late once', () => {
    expect(through(calm, late, late, quiet, late, late).stressed).toBe(false);
    expect(through(calm, late, late, late).stressed).toBe(true);
  });

  test('ends by itself after calm readings in a row, and a reading between the marks starts the count anew', () => {
    const almost = Array(calmReadings - 1).fill(quiet);
    const stressed = nextStress(calm, crowded);
    const between = { ...quiet, share: 0.6 };
    expect(through(stressed, ...almost, between, ...almost).stressed).toBe(true);
    expect(through(stressed, ...almost, between, ...almost, quiet).stressed).toBe(false);
  });
});

test.each([
  [false, 63, 1, true],
  [false, 64, 1, false],
  [true, 127, 1, true],
  [true, 128, 1, false],
  [false, 9999, 100, true],
  [false, 9999, 99, false],
  [true, 9999, 96, true],
  [true, 9999, 95, false],
])('spent %p with %p descriptors and %p %% of the memory: %p', (was, descriptorsLeft, memoryBytes, spent) => {
  expect(isSpent(was, { descriptorsLeft, memoryBytes, memoryBytesMark: 100 })).toBe(spent);
});

test('known networks are bounded, the longest ago forgotten first, and not known for ever', () => {
  const known = new KnownGood(2);
  known.add('a', 0);
  known.add('b', 1);
  known.add('a', 2);
  known.add('c', 3);
  expect(known.size).toBe(2);
  expect(['a', 'b', 'c'].map((network) => known.has(network, 4))).toEqual([true, false, true]);
  expect(known.has('a', 2 + goodForMs)).toBe(false);
});

describe('the shield', () => {
  const reserve = { descriptorsLeft: 9999, memoryBytes: 1, memoryBytesMark: 100 };
  const open = (connections: number) => {
    const settings = { ...defaultsOf(gatewaySettings), 'net.connections_max': 100 };
    return new Shield({ settings, connections: () => connections, descriptorsMax: 1000, log: silentLog });
  };
  const stranger = clientOf('192.0.2.1', 1);
  const friend = clientOf('2001:db8::1', 1);

  test('keeps the last places for known networks, and only under stress', () => {
    const shield = open(91);
    shield.wasGood(friend);
    expect(shield.admits(stranger)).toBe(true);
    shield.judge({ ...crowded, share: 0.91 }, reserve);
    expect(shield.admits(stranger)).toBe(false);
    expect(shield.admits(friend)).toBe(true);
  });

  test('leaves newcomers nine places in ten under stress', () => {
    const shield = open(90);
    shield.judge(crowded, reserve);
    expect(shield.admits(stranger)).toBe(true);
  });

  test('shortens waits under stress and gives them back after it', () => {
    const shield = open(0);
    const settings = shield.settings();
    expect(settings['net.greeting_timeout']).toBe(30_000);
    shield.judge(crowded, reserve);
    expect(settings['net.greeting_timeout']).toBe(10_000);
    expect(settings['smtp.errors_max']).toBe(3);
    expect(settings['smtp.data_timeout']).toBe(900_000);
    for (let reading = 0; reading < calmReadings; reading++) shield.judge(quiet, reserve);
    expect(settings['net.greeting_timeout']).toBe(30_000);
  });
});
