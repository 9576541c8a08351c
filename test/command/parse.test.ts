/** What is typed, and what is said about it. */
import { describe, expect, test } from '@jest/globals';
import { isFault } from '../../base/fault.ts';
import { commands } from '../../command/commands.ts';
import { parseCommand } from '../../command/parse.ts';
import { afterDeath, restartAtFirst, restartDelayMsMax } from '../../command/restart-policy.ts';

const mistakes = [
  { typed: 'strat', said: 'there is no command "strat"; did you mean "start"?' },
  { typed: 'frobnicate', said: 'there is no command "frobnicate"; see "postern --help"' },
  { typed: 'account', said: /^"account" needs one more word: add, list, show, passwd, remove\b/ },
  { typed: 'account lst', said: 'there is no command "account lst"; did you mean "account list"?' },
  { typed: 'account add', said: /^account add: ADDRESS is missing/ },
  { typed: 'account add a@b c@d', said: /"c@d" is one word too many/ },
  { typed: 'account add a@b --quotas 1GiB', said: /there is no option --quotas; did you mean --quota\?/ },
  { typed: 'account add a@b --quota', said: /--quota needs a value; write --quota SIZE/ },
  { typed: 'start --data --json', said: /--data needs a value; write --data DIR/ },
  { typed: 'start --json=yes', said: /--json takes no value/ },
  { typed: 'start --data a --data b', said: /--data is there twice/ },
  { typed: 'start --constructor', said: /there is no option --constructor/ },
  { typed: '--data x', said: 'there is no command; see "postern --help"' },
] as const;

describe('what is typed wrong', () => {
  test.each(mistakes)('"$typed" is answered with one line and the nearest word', ({ typed, said }) => {
    try {
      parseCommand(typed.split(' '), commands);
    } catch (error) {
      if (!isFault(error, 'bad-argument')) throw error;
      expect(error.message).not.toContain('\n');
      if (typeof said === 'string') expect(error.message).toBe(said);
      else expect(error.message).toMatch(said);
      return;
    }
    throw new Error('it was taken');
  });
});

describe('what is typed right', () => {
  test.each([
    ['start --data d --config c', ['start'], [], { data: 'd', config: 'c' }],
    [
      '--data d account add a@b --password-stdin',
      ['account', 'add'],
      ['a@b'],
      { data: 'd', 'password-stdin': true },
    ],
    ['account list example.org --json', ['account', 'list'], ['example.org'], { json: true }],
    ['cluster status --data=d', ['cluster', 'status'], [], { data: 'd' }],
  ] as const)('"%s" is taken apart', (typed, words, positionals, values) => {
    expect(parseCommand(typed.split(' '), commands)).toMatchObject({
      kind: 'run',
      command: { words },
      positionals,
      values,
    });
  });

  test.each(['--help', 'account --help', 'account add --help', 'help account', ''])(
    '"%s" asks for help',
    (typed) => {
      expect(parseCommand(typed.split(' ').filter(Boolean), commands).kind).toBe('help');
    },
  );
});

describe('a member that has died', () => {
  test('is started at once when it had served, however often', () => {
    let state = restartAtFirst;
    for (let death = 0; death < 20; death++) {
      const next = afterDeath(state, { wasReady: true, servedMs: 1500, wasKilled: false });
      expect(next.delayMs).toBe(0);
      state = next.state;
    }
  });

  test('waits longer and longer, to a limit, while it never becomes ready', () => {
    const delays: number[] = [];
    let state = restartAtFirst;
    for (let death = 0; death < 9; death++) {
      const next = afterDeath(state, { wasReady: false, servedMs: 0, wasKilled: false });
      delays.push(next.delayMs);
      state = next.state;
    }
    expect(delays[0]).toBe(0);
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    expect(delays.at(-1)).toBe(restartDelayMsMax);
  });

  test.each([
    ['was ready', { wasReady: true, servedMs: 10, wasKilled: false }],
    ['was killed while it started', { wasReady: false, servedMs: 0, wasKilled: true }],
  ])('never waits long when it %s, so that a kill by hand costs under two seconds', (_what, life) => {
    let state = restartAtFirst;
    for (let death = 0; death < 9; death++) {
      const next = afterDeath(state, life);
      expect(next.delayMs).toBeLessThanOrEqual(500);
      state = next.state;
    }
  });
});
