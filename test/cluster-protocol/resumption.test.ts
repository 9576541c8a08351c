/** What becomes of a session whose stream has ended, case by case; and the ticket that opens the next one. */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import {
  afterStreamEnd,
  formatTaking,
  parseTaking,
  type SessionFacts,
} from '../../cluster-protocol/resumption.ts';
import { makeTicket, ticketIsGood, ticketMs } from '../../cluster-protocol/session-ticket.ts';

const idle: SessionFacts = {
  end: 'lost',
  whole: true,
  reached: 'nothing',
  clientGone: false,
  stalledMs: 0,
  tries: 0,
};

describe('a session whose stream has ended', () => {
  test.each([
    ['lost while nothing was under way', {}, { do: 'resume' }],
    ['handed over', { end: 'moved' }, { do: 'resume' }],
    ['lost behind whole lines of an answer', { reached: 'line' }, { do: 'resume' }],
    ['lost in the middle of an answer', { reached: 'middle' }, { do: 'close', reason: 'mid-answer' }],
    [
      'with more client bytes than are kept',
      { whole: false },
      { do: 'say-goodbye', reason: 'no-checkpoint' },
    ],
    ['over', { end: 'over', reached: 'line' }, { do: 'close', reason: 'ended' }],
    ['whose client has gone', { clientGone: true }, { do: 'close', reason: 'ended' }],
    ['whose client reads nothing', { stalledMs: 100_000 }, { do: 'close', reason: 'stalled' }],
    ['that has ended so with three owners', { tries: 3 }, { do: 'say-goodbye', reason: 'no-progress' }],
  ] as const)('%s', (_, facts, next) => {
    expect(afterStreamEnd({ ...idle, ...facts })).toEqual(next);
  });

  test('what the next owner is told is read as it was written, and nothing else is', () => {
    const taking = { answered: true, continuations: 2, offset: 5_000_000_000, replayedBytes: 117 };
    expect(parseTaking(formatTaking(taking))).toEqual(taking);
    for (const text of ['', '1,2,3', '2,0,0,0', '1,0,0,-1', '1,0,0,0,0', '1,0,0,1e3'])
      expect(() => parseTaking(text)).toThrow(/malformed/);
  });
});

describe('a ticket', () => {
  const secret = randomBytes(32);
  const ticket = makeTicket(secret, 'ann@postern.test', '0123456789abcdef', 1_000_000);

  test('opens its own account, until it runs out', () => {
    expect(ticketIsGood(secret, 'ann@postern.test', ticket, 1_000_000 + ticketMs - 1)).toBe(true);
    expect(ticketIsGood(secret, 'ann@postern.test', ticket, 1_000_000 + ticketMs + 10 * 60_000)).toBe(false);
  });

  test.each([
    ['of another account', 'bob@postern.test', {}],
    ['of another session', 'ann@postern.test', { session: 'fedcba9876543210' }],
    ['that was made to last', 'ann@postern.test', { untilMs: ticket.untilMs + 1 }],
    ['without its mac', 'ann@postern.test', { mac: '' }],
    ['with another mac', 'ann@postern.test', { mac: '0'.repeat(32) }],
  ])('%s opens nothing', (_, account, change) => {
    expect(ticketIsGood(secret, account, { ...ticket, ...change }, 1_000_000)).toBe(false);
  });

  test('of another cluster opens nothing', () => {
    expect(ticketIsGood(randomBytes(32), 'ann@postern.test', ticket, 1_000_000)).toBe(false);
  });
});
