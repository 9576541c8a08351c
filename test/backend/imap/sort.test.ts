/** SORT and THREAD, command by command (RFC 5256, RFC 5267, RFC 5957). */
import { describe, expect, test } from '@jest/globals';
import { MemoryStore } from '../../support/memory-store.ts';
import { type Dialog, play } from './dialog-table.ts';
import { ImapClient } from './imap-client.ts';

const message = (from: string, to: string, subject: string, date: string, extra = '', body = 'x') =>
  `From: ${from}\r\nTo: ${to}\r\nSubject: ${subject}\r\n${date === '' ? '' : `Date: ${date}\r\n`}${extra}\r\n${body}\r\n`;

async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  const arrived = (day: number) => ({ internalDateMs: Date.UTC(2024, 0, day) });
  inbox.add(
    message('Zoe <carl@x.org>', 'b@x.org', 'pear', 'Wed, 3 Jan 2024 12:00:00 +0000', 'Message-ID: <1@x>\r\n'),
    arrived(5),
  );
  inbox.add(
    message(
      'anna@x.org',
      'a@x.org',
      'Re: [list] APPLE',
      'Wed, 3 Jan 2024 12:30:00 +0200',
      'Message-ID: <2@x>\r\nReferences: <1@x>\r\n',
      'xxxx',
    ),
    arrived(4),
  );
  inbox.add(
    message(
      '=?utf-8?q?=C3=84rger?= <bert@x.org>',
      'c@x.org',
      'apple',
      '',
      'Cc: d@x.org\r\nMessage-ID: <3@x>\r\nIn-Reply-To: <1@x>\r\n',
    ),
    arrived(2),
  );
  return store;
}

describe('bad input', () => {
  const rows: Dialog[] = [
    { says: 'no criteria', send: ['a SELECT INBOX', 'b SORT () UTF-8 ALL'], gives: [/^b BAD/] },
    { says: 'an unknown criterion', send: ['a SELECT INBOX', 'b SORT (FROB) UTF-8 ALL'], gives: [/^b BAD/] },
    { says: 'REVERSE alone', send: ['a SELECT INBOX', 'b SORT (REVERSE) UTF-8 ALL'], gives: [/^b BAD/] },
    { says: 'no charset', send: ['a SELECT INBOX', 'b SORT (DATE) ALL'], gives: [/^b (BAD|NO)/] },
    {
      says: 'an unknown charset',
      send: ['a SELECT INBOX', 'b SORT (DATE) X-FROB ALL'],
      gives: [/^b NO \[BADCHARSET/],
    },
    { says: 'no search key', send: ['a SELECT INBOX', 'b SORT (DATE) UTF-8'], gives: [/^b BAD/] },
    {
      says: 'too many criteria',
      send: ['a SELECT INBOX', `b SORT (${'DATE '.repeat(50)}DATE) UTF-8 ALL`],
      gives: [/^b NO \[LIMIT\]/],
    },
    { says: 'nothing selected', send: ['a SORT (DATE) UTF-8 ALL'], gives: [/^a BAD/] },
    {
      says: 'an unknown algorithm',
      send: ['a SELECT INBOX', 'b THREAD FROB UTF-8 ALL'],
      gives: [/^b BAD/],
    },
    { says: 'THREAD without keys', send: ['a SELECT INBOX', 'b THREAD REFERENCES UTF-8'], gives: [/^b BAD/] },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('SORT', () => {
  test.each([
    ['(ARRIVAL)', '3 2 1'],
    ['(REVERSE ARRIVAL)', '1 2 3'],
    ['(DATE)', '3 2 1'],
    ['(SIZE)', '1 3 2'],
    ['(FROM)', '2 3 1'],
    ['(TO)', '2 1 3'],
    ['(CC)', '1 2 3'],
    ['(REVERSE CC)', '3 1 2'],
    ['(SUBJECT)', '2 3 1'],
    ['(SUBJECT DATE)', '3 2 1'],
    ['(SUBJECT REVERSE ARRIVAL)', '2 3 1'],
    ['(DISPLAYFROM)', '2 3 1'],
    ['(DISPLAYTO)', '2 1 3'],
  ])('%s', async (criteria, gives) => {
    const client = new ImapClient(await sample());
    await client.run('a SELECT INBOX');
    // Twice: from the messages, then from memory.
    for (const tag of ['b', 'c']) {
      expect(await client.run(`${tag} SORT ${criteria} UTF-8 ALL`)).toBe(
        `* SORT ${gives}\r\n${tag} OK SORT completed\r\n`,
      );
    }
  });
  const rows: Dialog[] = [
    {
      says: 'UID SORT of what is found',
      send: ['a SELECT INBOX', 'b UID SORT (ARRIVAL) US-ASCII TO x.org NOT CC d'],
      gives: ['* SORT 2 1\r\nb OK'],
    },
    {
      says: 'nothing found',
      send: ['a SELECT INBOX', 'b SORT (DATE) UTF-8 SEEN'],
      gives: ['* SORT\r\nb OK'],
    },
    {
      says: 'RETURN tells the ends of the order',
      send: ['a SELECT INBOX', 'b UID SORT RETURN (MIN MAX COUNT ALL) (ARRIVAL) UTF-8 ALL'],
      gives: ['* ESEARCH (TAG "b") UID MIN 3 MAX 1 ALL 3,2,1 COUNT 3\r\nb OK'],
    },
    {
      says: 'RETURN (SAVE) saves',
      send: ['a SELECT INBOX', 'b SORT RETURN (SAVE COUNT) (ARRIVAL) UTF-8 2:3', 'c UID SEARCH $'],
      gives: ['* SEARCH 2 3\r\n'],
    },
    {
      says: 'MODSEQ among the keys is told',
      send: ['a SELECT INBOX', 'b SORT (ARRIVAL) UTF-8 MODSEQ 3'],
      gives: ['* SORT 3 2 (MODSEQ 4)\r\nb OK'],
    },
    {
      says: 'THREAD REFERENCES',
      send: ['a SELECT INBOX', 'b THREAD REFERENCES UTF-8 ALL'],
      gives: ['* THREAD (1 (3)(2))\r\nb OK'],
    },
    {
      says: 'UID THREAD of what is found',
      send: ['a SELECT INBOX', 'b UID THREAD REFERENCES UTF-8 2:3'],
      gives: ['* THREAD ((3)(2))\r\nb OK'],
    },
    {
      says: 'THREAD ORDEREDSUBJECT',
      send: ['a SELECT INBOX', 'b THREAD ORDEREDSUBJECT UTF-8 ALL'],
      gives: ['* THREAD (3 2)(1)\r\nb OK'],
    },
    {
      says: 'THREAD that finds nothing',
      send: ['a SELECT INBOX', 'b THREAD REFERENCES UTF-8 SEEN'],
      gives: ['* THREAD\r\nb OK'],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });

  test('10,000 messages are sorted while another session is served', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let at = 0; at < 10_000; at++) {
      inbox.add(message('a@x.org', 'b@x.org', `s${(at * 7919) % 10_000}`.padStart(6, '0'), ''));
    }
    const client = new ImapClient(store);
    await client.run('a SELECT INBOX');
    const answer = await client.run('b UID SORT (SUBJECT) UTF-8 ALL');
    const uids = answer.slice(7, answer.indexOf('\r\n')).split(' ').map(Number);
    expect(uids).toHaveLength(10_000);
    expect(new Set(uids).size).toBe(10_000);
    expect(uids[0]).toBe(1);
  });
});
