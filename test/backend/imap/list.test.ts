/** LIST in its plain and extended forms, and LSUB, over the store of the disk: what suites and RFC 5258's examples ask. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Store } from '../../../backend/store/store.ts';
import { type Bench, makeBench } from '../store/store-fixture.ts';
import { ImapClient } from './imap-client.ts';

let bench: Bench;
let store: Store;

beforeAll(async () => {
  bench = await makeBench();
  store = await bench.open();
  const ann = new ImapClient(store);
  const lines = [
    'CREATE t/',
    'CREATE t/test1',
    'CREATE t/test2/',
    'CREATE t/test2/test1',
    'CREATE t/test3',
    'CREATE t/test4/test5',
    'CREATE t/test4/test52',
    'CREATE t/test6',
    'CREATE t/test7/test7',
    'CREATE t/test8/test8',
    'CREATE t/test8/test9',
    'CREATE t/deep/er/est (USE (\\Archive))',
    ...['1', '2/test1', '6', '7/test7', '8/test8', '8/test9'].map((name) => `SUBSCRIBE t/test${name}`),
    'DELETE t/test6',
  ];
  for (const line of lines) expect(await ann.run(`a ${line}`)).toMatch(/^a OK/m);
});

afterAll(async () => {
  await store.close();
  await bench.remove();
});

/** A command and all its untagged answers, in any order. */
const rows: readonly (readonly [command: string, answers: readonly string[]])[] = [
  ['LIST "" ""', ['LIST (\\Noselect) "/" ""']],
  ['LIST t ""', ['LIST (\\Noselect) "/" ""']],
  ['LIST "" t/test7', ['LIST (\\Noselect \\HasChildren) "/" t/test7']],
  ['LIST "" inbox', ['LIST (\\HasNoChildren) "/" INBOX']],
  ['LIST t/ %3', ['LIST (\\HasNoChildren) "/" t/test3']],
  ['LIST "" t/%t*5', ['LIST (\\HasNoChildren) "/" t/test4/test5']],
  [
    'LIST "" (t/*2 t/test3)',
    [
      'LIST (\\HasChildren) "/" t/test2',
      'LIST (\\HasNoChildren) "/" t/test3',
      'LIST (\\HasNoChildren) "/" t/test4/test52',
    ],
  ],
  // A level above a mailbox is no mailbox that is missing (RFC 9051 7.3.1).
  [
    'LIST "" (t/test7 t/test7/test7)',
    ['LIST (\\Noselect \\HasChildren) "/" t/test7', 'LIST (\\HasNoChildren) "/" t/test7/test7'],
  ],
  // Deleting a mailbox ends no subscription (RFC 3501 6.3.6).
  [
    'LIST (SUBSCRIBED) "" t/*',
    [
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test1',
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test2/test1',
      'LIST (\\NonExistent \\Subscribed \\HasNoChildren) "/" t/test6',
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test7/test7',
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test8/test8',
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test8/test9',
    ],
  ],
  ['LIST "" t/test6', []],
  [
    'LIST (SUBSCRIBED RECURSIVEMATCH) "" t/test2% RETURN (CHILDREN)',
    ['LIST (\\HasChildren) "/" t/test2 ("CHILDINFO" ("SUBSCRIBED"))'],
  ],
  // CHILDINFO alone is not told where all those below are told themselves (RFC 5258 3.5).
  ['LIST (SUBSCRIBED RECURSIVEMATCH) "" *test7', ['LIST (\\Subscribed \\HasNoChildren) "/" t/test7/test7']],
  [
    'LIST (SUBSCRIBED RECURSIVEMATCH) "" *test8',
    [
      'LIST (\\NonExistent \\HasChildren) "/" t/test8 ("CHILDINFO" ("SUBSCRIBED"))',
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test8/test8',
    ],
  ],
  [
    'LIST (SUBSCRIBED RECURSIVEMATCH) "" (t/test2)',
    ['LIST (\\HasChildren) "/" t/test2 ("CHILDINFO" ("SUBSCRIBED"))'],
  ],
  [
    'LIST (SUBSCRIBED RECURSIVEMATCH) "" (t/test2 t/test2/test1)',
    ['LIST (\\Subscribed \\HasNoChildren) "/" t/test2/test1'],
  ],
  ['LIST (SPECIAL-USE) "" *', ['LIST (\\HasNoChildren \\Archive) "/" t/deep/er/est']],
  ['LIST (REMOTE) "" t/test3', ['LIST (\\HasNoChildren) "/" t/test3']],
  [
    'LIST "" t/test% RETURN (SUBSCRIBED STATUS (MESSAGES))',
    [
      'LIST (\\Subscribed \\HasNoChildren) "/" t/test1',
      'STATUS t/test1 (MESSAGES 0)',
      'LIST (\\HasChildren) "/" t/test2',
      'STATUS t/test2 (MESSAGES 0)',
      'LIST (\\HasNoChildren) "/" t/test3',
      'STATUS t/test3 (MESSAGES 0)',
      ...['4', '7', '8'].map((name) => `LIST (\\Noselect \\HasChildren) "/" t/test${name}`),
    ],
  ],
  [
    'LSUB "" t/%',
    [
      'LSUB () "/" t/test1',
      'LSUB (\\Noselect) "/" t/test6',
      ...['2', '7', '8'].map((name) => `LSUB (\\Noselect) "/" t/test${name}`),
    ],
  ],
  ['LSUB "" *test1', ['LSUB () "/" t/test1', 'LSUB () "/" t/test2/test1']],
];

test.each(rows)('%s', async (command, answers) => {
  const received = (await new ImapClient(store).run(`a ${command}`)).trimEnd().split('\r\n');
  expect(received.pop()).toMatch(/^a OK/);
  expect(received.sort()).toEqual(answers.map((answer) => `* ${answer}`).sort());
});

describe('bad input', () => {
  test.each([
    'LIST (RECURSIVEMATCH) "" *',
    'LIST (RECURSIVEMATCH REMOTE) "" *',
    'LIST (RECURSIVEMATCH SPECIAL-USE) "" *',
    'LIST (FROB) "" *',
    'LIST "" "" RETURN (FROB)',
    'LIST "" ()',
    'LIST ""',
    'LSUB "" (a b)',
  ])('%s', async (command) => {
    expect(await new ImapClient(store).run(`a ${command}`)).toMatch(/^a BAD/);
  });
});

test('a subscription that is ended is listed no more, mailbox or not', async () => {
  const ann = new ImapClient(store);
  await ann.run('a CREATE once');
  await ann.run('a SUBSCRIBE once');
  await ann.run('a DELETE once');
  expect(await ann.run('a LSUB "" once')).toContain('* LSUB (\\Noselect) "/" once');
  await ann.run('a UNSUBSCRIBE once');
  expect(await ann.run('a LSUB "" once')).toMatch(/^a OK/);
});
