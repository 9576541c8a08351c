/** CONDSTORE and QRESYNC (RFC 7162), command by command, and what a second session sees. */
import { describe, expect, test } from '@jest/globals';
import { MemoryStore } from '../../support/memory-store.ts';
import { type Dialog, play } from './dialog-table.ts';
import { ImapClient } from './imap-client.ts';

/** INBOX with messages 1 to 5 at modseqs 2 to 6, then 2 flagged at 7, then 4 expunged at 8. */
async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  for (let count = 1; count <= 5; count++) inbox.add(`Subject: ${count}\r\n\r\nbody\r\n`);
  await inbox.changeFlags([2], { how: 'add', flags: 4, keywords: [] });
  await inbox.expunge([4]);
  return store;
}

const validity = async (store: MemoryStore) => (await store.folder('INBOX')).uidValidity;

describe('bad input', () => {
  const rows: Dialog[] = [
    { says: 'an unknown SELECT parameter', send: ['a SELECT INBOX (FROB)'], gives: [/^a BAD/] },
    { says: 'an empty SELECT parameter list', send: ['a SELECT INBOX ()'], gives: [/^a BAD/] },
    {
      says: 'QRESYNC that is not enabled',
      send: ['a SELECT INBOX (QRESYNC (1 1))'],
      gives: [/^a BAD/],
    },
    {
      says: 'QRESYNC with a modseq of 0',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX (QRESYNC (1 0))'],
      gives: [/^b BAD/],
    },
    {
      says: 'QRESYNC without a modseq',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX (QRESYNC (1))'],
      gives: [/^b BAD/],
    },
    {
      says: 'QRESYNC with * among the known UIDs',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX (QRESYNC (1 1 1:*))'],
      gives: [/^b BAD/],
    },
    {
      says: 'QRESYNC twice',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX (QRESYNC (1 1) QRESYNC (1 1))'],
      gives: [/^b BAD/],
    },
    {
      says: 'a modseq over what can be counted',
      send: ['a SELECT INBOX', 'b FETCH 1 FLAGS (CHANGEDSINCE 99999999999999999999)'],
      gives: [/^b BAD/],
    },
    {
      says: 'CHANGEDSINCE 0',
      send: ['a SELECT INBOX', 'b FETCH 1 FLAGS (CHANGEDSINCE 0)'],
      gives: [/^b BAD/],
    },
    {
      says: 'an unknown FETCH modifier',
      send: ['a SELECT INBOX', 'b FETCH 1 FLAGS (FROB 1)'],
      gives: [/^b BAD/],
    },
    {
      says: 'VANISHED without CHANGEDSINCE',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX', 'c UID FETCH 1:* FLAGS (VANISHED)'],
      gives: [/^c BAD/],
    },
    {
      says: 'VANISHED without QRESYNC',
      send: ['a SELECT INBOX', 'b UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)'],
      gives: [/^b BAD/],
    },
    {
      says: 'VANISHED without UID',
      send: ['a ENABLE QRESYNC', 'b SELECT INBOX', 'c FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)'],
      gives: [/^c BAD/],
    },
    {
      says: 'an unknown STORE modifier',
      send: ['a SELECT INBOX', 'b STORE 1 (FROB 1) +FLAGS (\\Seen)'],
      gives: [/^b BAD/],
    },
    {
      says: 'UNCHANGEDSINCE without a number',
      send: ['a SELECT INBOX', 'b STORE 1 (UNCHANGEDSINCE) +FLAGS (\\Seen)'],
      gives: [/^b BAD/],
    },
    { says: 'SEARCH MODSEQ of a word', send: ['a SELECT INBOX', 'b SEARCH MODSEQ x'], gives: [/^b BAD/] },
    {
      says: 'SEARCH MODSEQ with an unknown entry type',
      send: ['a SELECT INBOX', 'b SEARCH MODSEQ "/flags/\\\\seen" frob 1'],
      gives: [/^b BAD/],
    },
    { says: 'ENABLE without a name', send: ['a ENABLE'], gives: [/^a BAD/] },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('CONDSTORE', () => {
  const rows: Dialog[] = [
    { says: 'ENABLE', send: ['a ENABLE CONDSTORE X-FROB'], gives: [/^\* ENABLED CONDSTORE\r\na OK/] },
    {
      says: 'ENABLE again enables nothing',
      send: ['a ENABLE CONDSTORE', 'b ENABLE condstore'],
      gives: [/^\* ENABLED\r\nb OK/],
    },
    { says: 'SELECT tells HIGHESTMODSEQ', send: ['a SELECT INBOX'], gives: ['* OK [HIGHESTMODSEQ 8]'] },
    {
      says: 'ENABLE with a mailbox selected tells it again',
      send: ['a SELECT INBOX', 'b ENABLE CONDSTORE'],
      gives: ['* OK [HIGHESTMODSEQ 8]', '* ENABLED CONDSTORE'],
    },
    {
      says: 'STATUS HIGHESTMODSEQ',
      send: ['a STATUS INBOX (HIGHESTMODSEQ)'],
      gives: ['* STATUS INBOX (HIGHESTMODSEQ 8)'],
    },
    {
      says: 'FETCH MODSEQ',
      send: ['a SELECT INBOX', 'b FETCH 1:2 MODSEQ'],
      gives: ['* 1 FETCH (MODSEQ (2))\r\n* 2 FETCH (MODSEQ (7))\r\nb OK'],
    },
    {
      says: 'FETCH CHANGEDSINCE tells what is newer, with its modseq',
      send: ['a SELECT INBOX', 'b FETCH 1:* FLAGS (CHANGEDSINCE 5)'],
      gives: ['* 2 FETCH (FLAGS (\\Flagged) MODSEQ (7))\r\n* 4 FETCH (FLAGS () MODSEQ (6))\r\nb OK'],
      not: ['* 1 FETCH', '* 3 FETCH'],
    },
    {
      says: 'STORE without CONDSTORE tells no modseq',
      send: ['a SELECT INBOX', 'b STORE 1 +FLAGS (\\Seen)'],
      gives: ['* 1 FETCH (FLAGS (\\Seen))\r\nb OK'],
    },
    {
      says: 'STORE after SELECT (CONDSTORE) tells the modseq',
      send: ['a SELECT INBOX (CONDSTORE)', 'b STORE 1 +FLAGS (\\Seen)'],
      gives: ['* 1 FETCH (MODSEQ (9) FLAGS (\\Seen))\r\nb OK'],
    },
    {
      says: 'STORE .SILENT tells the modseq alone',
      send: ['a SELECT INBOX (CONDSTORE)', 'b UID STORE 1 +FLAGS.SILENT (\\Seen)'],
      gives: [/^\* 1 FETCH \(UID 1 MODSEQ \(9\)\)\r\nb OK/],
    },
    {
      says: 'UNCHANGEDSINCE changes what is old enough',
      send: ['a SELECT INBOX', 'b STORE 1:3 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen)'],
      gives: ['* 1 FETCH (MODSEQ (9))\r\n* 3 FETCH (MODSEQ (9))\r\nb OK [MODIFIED 2]'],
      not: ['* 2 FETCH'],
    },
    {
      says: 'UID STORE tells UIDs in MODIFIED',
      send: ['a SELECT INBOX', 'b UID STORE 2,5 (UNCHANGEDSINCE 4) +FLAGS (\\Seen)'],
      gives: ['b OK [MODIFIED 2,5]'],
      not: ['\\Seen)'],
    },
    {
      says: 'UNCHANGEDSINCE 0 changes nothing',
      send: ['a SELECT INBOX', 'b STORE 1:4 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)'],
      gives: ['b OK [MODIFIED 1:4]'],
    },
    {
      says: 'a flag that is set already is no failure',
      send: ['a SELECT INBOX', 'b STORE 2 (UNCHANGEDSINCE 7) +FLAGS (\\Flagged)'],
      gives: ['* 2 FETCH (MODSEQ (7) FLAGS (\\Flagged))\r\nb OK STORE'],
    },
    {
      says: 'SEARCH MODSEQ',
      send: ['a SELECT INBOX', 'b SEARCH MODSEQ 6'],
      gives: ['* SEARCH 2 4 (MODSEQ 7)\r\nb OK'],
    },
    {
      says: 'SEARCH MODSEQ with an entry',
      send: ['a SELECT INBOX', 'b SEARCH MODSEQ "/flags/\\\\Seen" all 7'],
      gives: ['* SEARCH 2 (MODSEQ 7)\r\nb OK'],
    },
    {
      says: 'SEARCH MODSEQ that finds nothing',
      send: ['a SELECT INBOX', 'b SEARCH MODSEQ 70'],
      gives: [/^\* SEARCH\r\nb OK/m],
    },
    {
      says: 'ESEARCH MODSEQ of all',
      send: ['a SELECT INBOX', 'b SEARCH RETURN (ALL) MODSEQ 4'],
      gives: ['* ESEARCH (TAG "b") ALL 2:4 MODSEQ 7\r\nb OK'],
    },
    {
      says: 'ESEARCH MODSEQ of the one that MAX means',
      send: ['a SELECT INBOX', 'b UID SEARCH RETURN (MAX) MODSEQ 4'],
      gives: ['* ESEARCH (TAG "b") UID MAX 5 MODSEQ 6\r\nb OK'],
    },
    {
      says: 'EXPUNGE tells HIGHESTMODSEQ to who counts by it',
      send: ['a SELECT INBOX (CONDSTORE)', 'b STORE 1 +FLAGS.SILENT (\\Deleted)', 'c EXPUNGE'],
      gives: [/^\* 1 EXPUNGE\r\nc OK \[HIGHESTMODSEQ 10\]/],
    },
    {
      says: 'FETCH that sets \\Seen tells the modseq',
      send: ['a SELECT INBOX (CONDSTORE)', 'b FETCH 1 BODY[TEXT]'],
      gives: ['* 1 FETCH (MODSEQ (9) FLAGS (\\Seen))\r\nb OK'],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });

  test("another session's change is told with its modseq", async () => {
    const store = await sample();
    const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
    await ann.run('a SELECT INBOX (CONDSTORE)');
    await bob.run('a SELECT INBOX');
    await bob.run('b STORE 3 +FLAGS (\\Seen)');
    expect(await ann.run('b NOOP')).toMatch(/^\* 3 FETCH \(UID 3 MODSEQ \(9\) FLAGS \(\\Seen\)\)\r\nb OK/);
  });

  test('of two conditional stores of one modseq one wins', async () => {
    const store = await sample();
    const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
    await ann.run('a SELECT INBOX');
    await bob.run('a SELECT INBOX');
    const answers = await Promise.all([
      ann.run('b STORE 1 (UNCHANGEDSINCE 2) FLAGS.SILENT (a)'),
      bob.run('b STORE 1 (UNCHANGEDSINCE 2) FLAGS.SILENT (b)'),
    ]);
    expect(answers.filter((answer) => answer.includes('[MODIFIED 1]'))).toHaveLength(1);
    expect((await store.folder('INBOX')).facts(1)?.keywords).toHaveLength(1);
  });

  test('a message that went meanwhile is told beside what was modified', async () => {
    const store = await sample();
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    await (await store.folder('INBOX')).expunge([3]);
    expect(await ann.run('b STORE 2:3 (UNCHANGEDSINCE 3) +FLAGS.SILENT (\\Seen)')).toMatch(
      /b NO \[MODIFIED 2\]/,
    );
  });
});

describe('QRESYNC', () => {
  test('ENABLE QRESYNC enables CONDSTORE with it', async () => {
    const client = new ImapClient(await sample());
    expect(await client.run('a ENABLE QRESYNC')).toBe('* ENABLED QRESYNC\r\na OK ENABLE completed\r\n');
    expect(await client.run('b ENABLE CONDSTORE')).toContain('* ENABLED\r\n');
  });

  test.each<[string, string, string]>([
    ['since the start', '1', '* VANISHED (EARLIER) 4\r\n* 1 FETCH (UID 1 MODSEQ (2) FLAGS ())\r\n'],
    [
      'since the flag',
      '6',
      '* VANISHED (EARLIER) 4\r\n* 2 FETCH (UID 2 MODSEQ (7) FLAGS (\\Flagged))\r\na OK',
    ],
    ['of what nothing is newer than', '8', '[MAILBOXID (F'],
    ['with known UIDs', '1 4:5', '* VANISHED (EARLIER) 4\r\n* 4 FETCH (UID 5 MODSEQ (6) FLAGS ())\r\na OK'],
    ['with other known UIDs', '6 1:3', '* 2 FETCH (UID 2 MODSEQ (7) FLAGS (\\Flagged))\r\na OK'],
    ['with message numbers', '6 1:5 (1:3 1:3)', '* VANISHED (EARLIER) 4\r\n* 2 FETCH'],
    ['with message numbers alone', '6 (1:3 1:3)', '* VANISHED (EARLIER) 4\r\n* 2 FETCH'],
  ])('SELECT %s', async (_, since, gives) => {
    const store = await sample();
    const client = new ImapClient(store);
    await client.run('x ENABLE QRESYNC');
    const answer = await client.run(`a SELECT INBOX (QRESYNC (${await validity(store)} ${since}))`);
    expect(answer).toContain(gives);
    expect(answer).toContain('a OK [READ-WRITE]');
    if (since === '8') expect(answer).not.toMatch(/VANISHED|FETCH/);
    if (since === '6 1:3') expect(answer).not.toContain('VANISHED');
  });

  test('another UIDVALIDITY is answered as if nothing was known', async () => {
    const client = new ImapClient(await sample());
    await client.run('x ENABLE QRESYNC');
    const answer = await client.run('a SELECT INBOX (QRESYNC (1 1))');
    expect(answer).not.toMatch(/VANISHED|FETCH/);
    expect(answer).toContain('a OK');
  });

  test('a store that forgot what was expunged names every UID no message has', async () => {
    const store = await sample();
    const inbox = await store.folder('INBOX');
    inbox.add('x');
    await inbox.expunge([6, 1]);
    inbox.forgetful = true;
    const client = new ImapClient(store);
    await client.run('x ENABLE QRESYNC');
    const answer = await client.run(`a SELECT INBOX (QRESYNC (${await validity(store)} 8))`);
    expect(answer).toContain('* VANISHED (EARLIER) 1,4,6\r\n');
  });

  test('numbers the client has under the same UIDs say that nothing below them went', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let count = 1; count <= 8; count++) inbox.add(`Subject: ${count}\r\n\r\nx\r\n`);
    await inbox.expunge([2]);
    await inbox.expunge([6]);
    inbox.forgetful = true;
    const vanishedWith = async (match: string): Promise<string | undefined> => {
      const client = new ImapClient(store);
      await client.run('a ENABLE QRESYNC');
      const answer = await client.run(`a SELECT INBOX (QRESYNC (${await validity(store)} 8${match}))`);
      expect(answer).toMatch(/^a OK/m);
      return /VANISHED \(EARLIER\) (\S+)/.exec(answer)?.[1];
    };
    expect(await vanishedWith('')).toBe('2,6');
    // The client knows that 2 went: its third message is the fourth, UID 4.
    expect(await vanishedWith(' (1:3 1,3:4)')).toBe('6');
    expect(await vanishedWith(' 1:8 (3 4)')).toBe('6');
    // It does not: its numbers are others.
    expect(await vanishedWith(' (1:8 1:8)')).toBe('2,6');
    // Numbers far beyond what there is.
    expect(await vanishedWith(' (4000000000:4294967295 4000000000:4294967295)')).toBe('2,6');
  });

  test('UID FETCH VANISHED tells those of the set', async () => {
    const client = new ImapClient(await sample());
    await client.run('x ENABLE QRESYNC');
    await client.run('y SELECT INBOX');
    expect(await client.run('a UID FETCH 1:* FLAGS (CHANGEDSINCE 6 VANISHED)')).toBe(
      '* VANISHED (EARLIER) 4\r\n* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (7))\r\na OK FETCH completed\r\n',
    );
    expect(await client.run('b UID FETCH 1:3 FLAGS (CHANGEDSINCE 7 VANISHED)')).toBe(
      'b OK FETCH completed\r\n',
    );
  });

  test('expunged messages are told by UID: own ones, those of others, and in IDLE', async () => {
    const store = await sample();
    const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
    await ann.run('x ENABLE QRESYNC');
    await ann.run('y SELECT INBOX');
    await bob.run('y SELECT INBOX');
    await ann.run('a STORE 1:2 +FLAGS.SILENT (\\Deleted)');
    expect(await ann.run('b EXPUNGE')).toBe(
      '* VANISHED 1:2\r\nb OK [HIGHESTMODSEQ 10] EXPUNGE completed\r\n',
    );
    expect(await bob.run('b NOOP')).toBe('* 2 EXPUNGE\r\n* 1 EXPUNGE\r\nb OK NOOP completed\r\n');
    ann.send('c IDLE\r\n');
    await ann.settled();
    await bob.run('c STORE 1 +FLAGS.SILENT (\\Deleted)');
    await bob.run('d EXPUNGE');
    expect(await ann.settled()).toMatch(/^(\* 1 FETCH .*\r\n)?\* VANISHED 3\r\n$/);
    ann.send('DONE\r\n');
    await ann.settled();
    await store.createFolder('Away');
    expect(await ann.run('e MOVE 1 Away')).toMatch(
      /^\* OK \[COPYUID .*\r\n\* VANISHED 5\r\ne OK \[HIGHESTMODSEQ \d+\] MOVE completed\r\n$/,
    );
  });

  test('a mailbox left for another is told to be closed', async () => {
    const client = new ImapClient(await sample());
    await client.run('x ENABLE QRESYNC');
    await client.run('y SELECT INBOX');
    expect(await client.run('a SELECT INBOX')).toMatch(/^\* OK \[CLOSED\]/);
  });
});
