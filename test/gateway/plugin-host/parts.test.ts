/** The pure parts of the chain: counters, queue, breaker, verdicts and header fields. */
import { describe, expect, test } from '@jest/globals';
import {
  afterAnswer,
  closedBreaker,
  failuresToOpen,
  mayAsk,
  openMs,
} from '../../../gateway/plugin-host/breaker.ts';
import { gauge, windowCounter } from '../../../gateway/plugin-host/counters.ts';
import { openQueue } from '../../../gateway/plugin-host/queue.ts';
import { foldHeaderValue, readVerdict } from '../../../gateway/plugin-host/verdict.ts';

describe('a window counter', () => {
  test('forgets within an eighth of the window', () => {
    let nowMs = 0;
    const counter = windowCounter(8000, () => nowMs);
    const seen: number[] = [];
    for (nowMs = 0; nowMs <= 16_000; nowMs += 1000) {
      if (nowMs <= 4000) counter.add('a');
      seen.push(counter.of('a'));
    }
    expect(seen).toEqual([1, 2, 3, 4, 5, 5, 5, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0]);
  });

  test('keeps a bounded number of keys: the one added to longest ago goes', () => {
    const counter = windowCounter(1000, () => 0, 3);
    for (const key of ['a', 'b', 'c', 'a', 'd']) counter.add(key);
    expect(['a', 'b', 'c', 'd'].map((key) => counter.of(key))).toEqual([2, 0, 1, 1]);
  });

  test('cuts keys, so that a client cannot fill memory with one', () => {
    const counter = windowCounter(1000, () => 0);
    counter.add('x'.repeat(1_000_000));
    expect(counter.of(`${'x'.repeat(512)}other`)).toBe(1);
  });
});

test('a gauge counts what is held, and never below nothing', () => {
  const held = gauge(2);
  held.leave('a');
  held.enter('a');
  held.enter('a');
  held.enter('b');
  held.enter('c');
  held.leave('a');
  expect([held.of('a'), held.of('b'), held.of('c')]).toEqual([1, 1, 0]);
  held.leave('a');
  held.enter('c');
  expect([held.of('a'), held.of('c')]).toEqual([0, 1]);
});

test('a queue runs so many at a time, in order, and refuses what does not fit', async () => {
  const queue = openQueue(2, 2);
  const order: string[] = [];
  const gates = new Map<string, () => void>();
  const run = (name: string): Promise<void> =>
    queue(
      () =>
        new Promise((resolve) => {
          order.push(name);
          gates.set(name, resolve);
        }),
    );
  const all = ['a', 'b', 'c', 'd'].map(run);
  await expect(run('e')).rejects.toMatchObject({ code: 'busy' });
  expect(order).toEqual(['a', 'b']);
  gates.get('b')!();
  await all[1];
  await new Promise(setImmediate);
  expect(order).toEqual(['a', 'b', 'c']);
  gates.get('a')!();
  gates.get('c')!();
  await Promise.all([all[0], all[2]]);
  await new Promise(setImmediate);
  gates.get('d')!();
  await all[3];
  expect(await queue(async () => 7)).toBe(7);
});

test('a breaker opens after failures in a row, tries one at a time, and closes on the first answer', () => {
  let breaker = closedBreaker;
  for (let i = 1; i <= failuresToOpen; i++) {
    const after = afterAnswer(breaker, false, 0);
    breaker = after.breaker;
    expect(after.turned).toBe(i === failuresToOpen ? 'opened' : undefined);
  }
  expect(mayAsk(breaker, openMs - 1).ask).toBe(false);
  const trial = mayAsk(breaker, openMs);
  expect(trial.ask).toBe(true);
  expect(mayAsk(trial.breaker, openMs + 1).ask).toBe(false);
  expect(afterAnswer(trial.breaker, false, openMs + 5)).toMatchObject({ turned: undefined });
  expect(afterAnswer(trial.breaker, true, openMs + 5)).toEqual({ breaker: closedBreaker, turned: 'closed' });
  // a failure now and then opens nothing
  let mixed = closedBreaker;
  for (let i = 0; i < 100; i++) mixed = afterAnswer(mixed, i % 4 === 0, 0).breaker;
  expect(mayAsk(mixed, 0).ask).toBe(true);
});

describe('a header value', () => {
  const rows: readonly [what: string, name: string, value: string, folded: string][] = [
    ['is kept as it is when it fits', 'X-A', 'one two', 'one two'],
    ['loses CR, LF and NUL', 'X-A', 'a\r\nEvil: b\0c\nd\re', 'a Evil: b c d e'],
    ['loses other controls', 'X-A', 'a\x1b[31mb\x7f', 'a[31mb'],
    ['has only ASCII', 'X-A', 'grün', 'gr?n'],
    ['may be empty', 'X-A', '\r\n', ''],
    [
      'is folded at white space before column 78',
      'X-A',
      `${'a'.repeat(60)} ${'b'.repeat(60)}`,
      `${'a'.repeat(60)}\r\n ${'b'.repeat(60)}`,
    ],
  ];
  test.each(rows)('%s', (_, name, value, folded) => {
    expect(foldHeaderValue(name, value)).toBe(folded);
  });

  test('never has a line over 998 characters, and never an empty one', () => {
    const value = foldHeaderValue('X-Long', `${'x'.repeat(5000)} y ${'z'.repeat(997)}`);
    const lines = `X-Long: ${value}`.split('\r\n');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(998);
    expect(lines.slice(1).every((line) => /^ \S/.test(line))).toBe(true);
    expect(value.replaceAll(/[^xyz]/g, '')).toHaveLength(5998);
  });
});

test('a text for the client is one short line of ASCII', () => {
  const verdict = readVerdict({ word: 'reject', say: `no\r\n250 fine\0 ${'x'.repeat(500)}` });
  expect(verdict!.say).toMatch(/^no 250 fine x+$/);
  expect(verdict!.say!.length).toBeLessThanOrEqual(200);
});
