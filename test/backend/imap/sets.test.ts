/** Sequence sets in every command that takes one: `*`, ranges that are swapped or end beyond the last message, `$`. */
import { test } from '@jest/globals';
import { MemoryStore } from '../../support/memory-store.ts';
import { type Dialog, play } from './dialog-table.ts';

/** Five messages with the UIDs 1, 3, 4, 5, 6. */
async function five(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  for (let count = 1; count <= 6; count++) inbox.add(`Subject: ${count}\r\n\r\nbody ${count}\r\n`);
  await inbox.expunge([2]);
  return store;
}

const searches: readonly (readonly [keys: string, found: string])[] = [
  ['1:3,5', ' 1 2 3 5'],
  ['4:2', ' 2 3 4'],
  ['UID 1:3,5', ' 1 2 4'],
  ['1:3 NOT UID 3', ' 1 3'],
  ['NOT 2,4', ' 1 3 5'],
  ['OR 1 UID 3', ' 1 2'],
  ['*', ' 5'],
  ['UID *', ' 5'],
  ['6:*', ' 5'],
  ['*:6', ' 5'],
  ['UID 7:*', ' 5'],
  ['*:3', ' 3 4 5'],
  ['1,4,*', ' 1 4 5'],
  // What is not there matches nothing.
  ['1000', ''],
  ['4:1000', ' 4 5'],
  ['NOT 1000', ' 1 2 3 4 5'],
];

test.each(searches)('SEARCH %s', async (keys, found) => {
  await play(await five(), {
    says: keys,
    send: ['a SELECT INBOX', `b SEARCH ${keys}`],
    gives: [`* SEARCH${found}\r\nb OK`],
  });
});

const rows: readonly Dialog[] = [
  {
    says: 'a range with * beyond the last message is the last one',
    send: ['a SELECT INBOX', 'b FETCH 9:* UID'],
    gives: ['* 5 FETCH (UID 6)\r\nb OK'],
  },
  {
    says: 'swapped, with *',
    send: ['a SELECT INBOX', 'b FETCH *:4 UID'],
    gives: ['* 4 FETCH (UID 5)\r\n* 5 FETCH (UID 6)\r\nb OK'],
  },
  { says: 'a number beyond is BAD', send: ['a SELECT INBOX', 'b FETCH 6 UID'], gives: [/^b BAD/] },
  { says: 'a range beyond is BAD', send: ['a SELECT INBOX', 'b FETCH 3:6 UID'], gives: [/^b BAD/] },
  { says: 'STORE beyond is BAD', send: ['a SELECT INBOX', 'b STORE 6 +FLAGS \\Seen'], gives: [/^b BAD/] },
  { says: 'a UID beyond is nothing', send: ['a SELECT INBOX', 'b UID FETCH 99 UID'], gives: [/^b OK/] },
  {
    says: 'a UID range with * is at least the last one',
    send: ['a SELECT INBOX', 'b UID FETCH 99:* UID'],
    gives: ['* 5 FETCH (UID 6)\r\nb OK'],
  },
  {
    says: '* in an empty mailbox is BAD',
    send: ['a CREATE e', 'a SELECT e', 'b FETCH * UID'],
    gives: [/^b BAD/],
  },
  {
    says: '1:* in an empty mailbox is BAD',
    send: ['a CREATE e', 'a SELECT e', 'b FETCH 1:* UID'],
    gives: [/^b BAD/],
  },
  {
    says: 'UID 1:* in an empty mailbox is nothing',
    send: ['a CREATE e', 'a SELECT e', 'b UID FETCH 1:* UID'],
    gives: [/^b OK/],
  },
  { says: '$ without a search is nothing', send: ['a SELECT INBOX', 'b FETCH $ UID'], gives: [/^b OK/] },
  {
    says: 'SAVE alone tells nothing',
    send: ['a SELECT INBOX', 'b SEARCH RETURN (SAVE) 2:3'],
    gives: [/^b OK/],
  },
  {
    says: 'what SAVE kept is named by $',
    send: ['a SELECT INBOX', 'b SEARCH RETURN (SAVE) 2:3', 'c UID FETCH $ UID'],
    gives: ['* 2 FETCH (UID 3)\r\n* 3 FETCH (UID 4)\r\nc OK'],
  },
  {
    says: 'a search with SAVE that is refused leaves nothing (RFC 5182 2.1)',
    send: [
      'a SELECT INBOX',
      'b SEARCH RETURN (SAVE) 2:3',
      'c SEARCH RETURN (SAVE) CHARSET frob ALL',
      'd FETCH $ UID',
    ],
    gives: [/^d OK/],
  },
  {
    says: 'one that is BAD leaves what was',
    send: ['a SELECT INBOX', 'b SEARCH RETURN (SAVE) 2:3', 'c SEARCH RETURN (SAVE) FROB', 'd FETCH $ UID'],
    gives: ['* 2 FETCH (UID 3)\r\n'],
  },
  {
    says: 'SELECT forgets it',
    send: ['a SELECT INBOX', 'b SEARCH RETURN (SAVE) 2:3', 'c SELECT INBOX', 'd FETCH $ UID'],
    gives: [/^d OK/],
  },
  {
    says: 'SEARCH RETURN of nothing',
    send: ['a SELECT INBOX', 'b UID SEARCH RETURN (MIN COUNT) 1000'],
    gives: ['* ESEARCH (TAG "b") UID COUNT 0\r\n'],
  },
  {
    says: 'an item asked for twice is told once',
    send: ['a SELECT INBOX', 'b FETCH 1 (UID FLAGS UID BODY.PEEK[]<0.3> BODY.PEEK[]<0.3>)'],
    gives: ['* 1 FETCH (UID 1 FLAGS () BODY[]<0> {3}\r\nSub)\r\nb OK'],
  },
  {
    says: 'THREADID is NIL, and none is found (RFC 8474 5.2)',
    send: ['a SELECT INBOX', 'b SEARCH THREADID T1'],
    gives: ['* SEARCH\r\nb OK'],
  },
  {
    says: 'flags behind a list are BAD',
    send: ['a SELECT INBOX', 'b STORE 1 FLAGS (\\Seen) \\Deleted'],
    gives: [/^b BAD/],
  },
];

test.each(rows)('$says', async (row) => {
  await play(await five(), row);
});
