/** Threads from references and subjects (RFC 5256 3). */
import { describe, expect, test } from '@jest/globals';
import { atOnce, type Steps, sorted } from '../../../backend/serve/imap/steps.ts';
import {
  type ThreadMessage,
  type ThreadNode,
  threadByReferences,
  threadBySubject,
  threadText,
} from '../../../backend/serve/imap/threading.ts';
import { randomSource } from '../../support/random.ts';

/** `id < ref ref | subject`, one message per line; `Re: ` makes a reply. Dates ascend. */
function messages(...lines: string[]): ThreadMessage[] {
  return lines.map((line, index) => {
    const [ids = '', subject = ''] = line.split('|').map((part) => part.trim());
    const [id = '', references = ''] = ids.split('<').map((part) => part.trim());
    const isReply = subject.startsWith('Re: ');
    return {
      number: index + 1,
      sentMs: index,
      subject: isReply ? subject.slice(4) : subject,
      isReply,
      messageId: id,
      references: references === '' ? [] : references.split(' '),
    };
  });
}

const text = (steps: Steps<ThreadNode[]>) => atOnce(steps).map(threadText).join('');

describe('REFERENCES', () => {
  test.each<[string, string[], string]>([
    ['nothing', [], ''],
    ['one', ['a | x'], '(1)'],
    ['a chain', ['a | x', 'b < a | Re: x', 'c < a b | Re: x'], '(1 2 3)'],
    ['two replies', ['a | x', 'b < a | Re: x', 'c < a | Re: x'], '(1 (2)(3))'],
    ['a reply before its parent', ['b < a | Re: x', 'a | x'], '(2 1)'],
    ['a message that is not there, one child', ['b < a | x'], '(1)'],
    ['a message that is not there, two children', ['b < a | x', 'c < a | y'], '((1)(2))'],
    ['missing ones in the middle are left out', ['a | x', 'd < a b c | Re: x'], '(1 2)'],
    ['one subject without references', ['a | x', 'b | Re: x'], '(1 2)'],
    ['one subject, two starts', ['a | x', 'b | x'], '((1)(2))'],
    ['one subject, three starts', ['a | x', 'b | x', 'c | x'], '((1)(2)(3))'],
    ['a reply first, then its start', ['a | Re: x', 'b | x'], '(2 1)'],
    ['empty subjects stay apart', ['a |', 'b |'], '(1)(2)'],
    ['two messages with one id', ['a | x', 'a | y'], '(1)(2)'],
    ['a message that refers to itself', ['a < a | x'], '(1)'],
    ['two that refer to each other', ['a < b | x', 'b < a | y'], '(2 1)'],
    ['a loop of three', ['a < c | x', 'b < a | y', 'c < b | z'], '(3 1 2)'],
    ['references link those that name no parent themselves', ['a | x', 'b | y', 'c < a b | z'], '(1 2 3)'],
    ['siblings by date', ['a | x', 'c < a | Re: x', 'b < a | Re: x', 'd < c | Re: x'], '(1 (2 4)(3))'],
  ])('%s', (_, lines, gives) => {
    expect(text(threadByReferences(messages(...lines)))).toBe(gives);
  });

  test('a chain of 50,000 and a fan of 50,000 cost seconds at most, and lose nobody', () => {
    const chain = Array.from(
      { length: 50_000 },
      (_, at) => `m${at} ${at > 0 ? `< m${at - 1}` : ''} | s${at}`,
    );
    const fan = Array.from({ length: 50_000 }, (_, at) => `f${at} ${at > 0 ? '< f0' : ''} | t${at}`);
    for (const lines of [chain, [...chain].reverse(), fan]) {
      const told = text(threadByReferences(messages(...lines))).match(/\d+/g)!;
      expect(new Set(told).size).toBe(50_000);
    }
  }, 30_000);

  test('every message is told exactly once, whatever the references say', () => {
    const source = randomSource(5256);
    const random = () => source.next();
    for (let round = 0; round < 300; round++) {
      const count = 1 + Math.floor(random() * 12);
      const pick = () => `m${Math.floor(random() * 14)}`;
      const lines = Array.from({ length: count }, () => {
        const references = Array.from({ length: Math.floor(random() * 4) }, pick).join(' ');
        return `${pick()} < ${references} | ${random() < 0.5 ? 'Re: ' : ''}s${Math.floor(random() * 3)}`;
      });
      const told = text(threadByReferences(messages(...lines))).match(/\d+/g)!;
      expect(told.map(Number).sort((a, b) => a - b)).toEqual(lines.map((_, at) => at + 1));
    }
  });
});

test('ORDEREDSUBJECT: the first message of a subject has the others below it', () => {
  expect(text(threadBySubject(messages('a | x', 'b | y', 'c | Re: x', 'd | x', 'e | Re: y')))).toBe(
    '(1 (3)(4))(2 5)',
  );
});

test('sorting in steps is sorting, and stable', () => {
  const random = randomSource(2);
  for (const count of [0, 1, 2, 499, 500, 501, 1000, 3333]) {
    const rows = Array.from({ length: count }, (_, at) => [random.between(0, 50), at] as const);
    const byFirst = (a: readonly [number, number], b: readonly [number, number]) => a[0] - b[0];
    expect(atOnce(sorted(rows, byFirst))).toEqual([...rows].sort(byFirst));
  }
});
