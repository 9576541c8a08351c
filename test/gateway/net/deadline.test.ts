import { expect, test } from '@jest/globals';
import { Deadlines } from '../../../gateway/net/deadline.ts';

test('deadlines pass in order, never early, once, and not when cancelled', () => {
  let nowMs = 1000;
  const passed: string[] = [];
  const deadlines = new Deadlines(100, () => nowMs);
  deadlines.start(500, () => passed.push(`b at ${nowMs}`));
  deadlines.start(100, () => passed.push(`a at ${nowMs}`));
  const cancelled = deadlines.start(200, () => passed.push('never'));
  cancelled.cancel();
  cancelled.cancel();
  for (; nowMs <= 2000; nowMs += 50) deadlines.turn();
  expect(passed.map((text) => text[0])).toEqual(['a', 'b']);
  const [a, b] = passed.map((text) => Number(text.split(' at ')[1]));
  expect(a).toBeGreaterThanOrEqual(1100);
  expect(a).toBeLessThanOrEqual(1300);
  expect(b).toBeGreaterThanOrEqual(1500);
  expect(b).toBeLessThanOrEqual(1700);
  expect(deadlines.size).toBe(0);
  deadlines.close();
});

test('after a stall everything that is due passes at once', () => {
  let nowMs = 0;
  let count = 0;
  const deadlines = new Deadlines(100, () => nowMs);
  for (let ms = 100; ms <= 1000; ms += 100) deadlines.start(ms, () => count++);
  nowMs = 60_000;
  deadlines.turn();
  expect(count).toBe(10);
  deadlines.close();
});

test('a deadline that starts another one while passing keeps both promises', () => {
  let nowMs = 0;
  const passed: number[] = [];
  const deadlines = new Deadlines(100, () => nowMs);
  deadlines.start(100, () => {
    passed.push(nowMs);
    deadlines.start(300, () => passed.push(nowMs));
  });
  for (; nowMs < 1000; nowMs += 100) deadlines.turn();
  expect(passed).toHaveLength(2);
  expect(passed[1]! - passed[0]!).toBeGreaterThanOrEqual(300);
  deadlines.close();
});

test('ten thousand deadlines that come and go leave nothing', () => {
  const deadlines = new Deadlines(100, () => 0);
  const held = Array.from({ length: 10_000 }, (_, index) => deadlines.start(index, () => {}));
  expect(deadlines.size).toBe(10_000);
  for (const deadline of held) deadline.cancel();
  expect(deadlines.size).toBe(0);
  deadlines.close();
});
