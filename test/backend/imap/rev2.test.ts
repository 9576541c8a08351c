/** IMAP4rev2 and UTF8=ACCEPT once enabled, BINARY, MULTIAPPEND, REPLACE and quotas, command by command. */
import { describe, expect, test } from '@jest/globals';
import { MemoryStore } from '../../support/memory-store.ts';
import { type Dialog, play } from './dialog-table.ts';
import { ImapClient } from './imap-client.ts';

const utf8 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

const eightBit = utf8('From: Käthe <k@example.org>\r\nSubject: Grüße\r\n\r\nhi\r\n');
const parts = [
  'Subject: parts',
  'Content-Type: multipart/mixed; boundary=xx',
  '',
  '--xx',
  'Content-Type: text/plain; charset=utf-8',
  'Content-Transfer-Encoding: quoted-printable',
  '',
  'Gr=C3=BC=C3=9Fe=',
  ' an alle',
  '--xx',
  'Content-Type: application/octet-stream',
  'Content-Transfer-Encoding: base64',
  '',
  'AAECAwQ=',
  '--xx',
  'Content-Type: text/plain',
  'Content-Transfer-Encoding: x-uuencode',
  '',
  'begin 644 x',
  '--xx--',
  '',
].join('\r\n');

async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  inbox.add(Buffer.from(eightBit, 'latin1'));
  inbox.add(parts);
  await store.createFolder('Entwürfe');
  return store;
}

describe('bad input', () => {
  const rows: Dialog[] = [
    {
      says: 'a name that is not UTF-8',
      send: ['a ENABLE IMAP4rev2', 'b SELECT "\xff"'],
      gives: [/^b NO \[CANNOT\]/],
    },
    {
      says: 'a name that is not NFC is refused wherever it comes',
      send: ['a ENABLE IMAP4rev2', `b CREATE "${utf8('a\u0308')}"`],
      gives: [/^b NO \[CANNOT\]/],
    },
    { says: 'BINARY of a header', send: ['a SELECT INBOX', 'b FETCH 1 BINARY[HEADER]'], gives: [/^b BAD/] },
    {
      says: 'BINARY.SIZE with a partial',
      send: ['a SELECT INBOX', 'b FETCH 1 BINARY.SIZE[1]<0.1>'],
      gives: [/^b BAD/],
    },
    {
      says: 'an encoding nobody knows',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[3]'],
      gives: ['b NO [UNKNOWN-CTE]'],
    },
    {
      says: 'and the command after it is served',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[3]', 'c FETCH 2 BINARY.PEEK[1]'],
      gives: ['c OK'],
    },
    { says: 'NUL in a literal', send: ['a APPEND INBOX {3+}\r\na\0b'], gives: [/^a BAD/] },
    { says: 'NUL in a literal8', send: ['a APPEND INBOX ~{3+}\r\na\0b'], gives: [/^a NO \[UNKNOWN-CTE\]/] },
    {
      says: 'UTF8 that is not enabled',
      send: ['a APPEND INBOX UTF8 (~{3+}\r\nabc)'],
      gives: [/^a BAD/],
    },
    {
      says: 'UTF8 without its parenthesis',
      send: ['a ENABLE UTF8=ACCEPT', 'b APPEND INBOX UTF8 (~{3+}\r\nabc'],
      gives: [/^b BAD/],
    },
    { says: 'text behind a message', send: ['a APPEND INBOX {3+}\r\nabc x'], gives: [/^a BAD/] },
    {
      says: 'a bad flag of a second message',
      send: ['a APPEND INBOX {3+}\r\nabc (\\Frob) {3+}\r\ndef', 'b STATUS INBOX (MESSAGES)'],
      gives: ['MESSAGES 2'],
    },
    {
      says: 'an empty second message',
      send: ['a APPEND INBOX {3+}\r\nabc {0+}\r\n', 'b STATUS INBOX (MESSAGES)'],
      gives: ['MESSAGES 2'],
    },
    {
      says: 'REPLACE without a mailbox selected',
      send: ['a REPLACE 1 INBOX {3+}\r\nabc'],
      gives: [/^a BAD/],
    },
    {
      says: 'REPLACE of a message that is not there',
      send: ['a SELECT INBOX', 'b REPLACE 9 INBOX {3+}\r\nabc'],
      gives: [/^b BAD/],
    },
    {
      says: 'UID REPLACE of a UID that is not there',
      send: ['a SELECT INBOX', 'b UID REPLACE 9 INBOX {3+}\r\nabc'],
      gives: [/^b NO \[EXPUNGEISSUED\]/],
    },
    {
      says: 'REPLACE after EXAMINE',
      send: ['a EXAMINE INBOX', 'b REPLACE 1 INBOX {3+}\r\nabc'],
      gives: [/^b NO/],
    },
    {
      says: 'REPLACE with two messages',
      send: ['a SELECT INBOX', 'b REPLACE 1 INBOX {3+}\r\nabc {3+}\r\ndef', 'c STATUS INBOX (MESSAGES)'],
      gives: ['MESSAGES 2'],
    },
    {
      says: 'REPLACE into a mailbox that is not there',
      send: ['a SELECT INBOX', 'b REPLACE 1 Nope {3+}\r\nabc'],
      gives: [/^b NO \[TRYCREATE\]/],
    },
    { says: 'REPLACE without a message', send: ['a SELECT INBOX', 'b REPLACE 1 INBOX'], gives: [/^b BAD/] },
    { says: 'GETQUOTA of another root', send: ['a GETQUOTA x'], gives: [/^a NO \[NONEXISTENT\]/] },
    { says: 'GETQUOTAROOT of a mailbox that is not there', send: ['a GETQUOTAROOT x'], gives: [/^a NO/] },
    { says: 'SETQUOTA', send: ['a SETQUOTA "" (STORAGE 5)'], gives: [/^a NO \[NOPERM\]/] },
    {
      says: 'SEARCH CHARSET after UTF8=ACCEPT',
      send: ['a ENABLE UTF8=ACCEPT', 'b SELECT INBOX', 'c SEARCH CHARSET UTF-8 ALL'],
      gives: [/^c BAD/],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('IMAP4rev2', () => {
  const rev2 = 'x ENABLE IMAP4rev2';
  const rows: Dialog[] = [
    { says: 'ENABLE', send: ['a ENABLE imap4REV2'], gives: ['* ENABLED IMAP4rev2\r\na OK'] },
    {
      says: 'SELECT tells LIST, and neither RECENT nor UNSEEN',
      send: [rev2, 'a SELECT inbox'],
      gives: ['* LIST () "/" INBOX\r\n', '* 2 EXISTS', 'a OK [READ-WRITE]'],
      not: ['RECENT', 'UNSEEN'],
    },
    {
      says: 'SEARCH answers ESEARCH',
      send: [rev2, 'a SELECT INBOX', 'b SEARCH ALL'],
      gives: [/^\* ESEARCH \(TAG "b"\) ALL 1:2\r\nb OK/],
    },
    {
      says: 'SEARCH that finds nothing answers ESEARCH',
      send: [rev2, 'a SELECT INBOX', 'b UID SEARCH SEEN'],
      gives: [/^\* ESEARCH \(TAG "b"\) UID\r\nb OK/],
    },
    {
      says: 'SEARCH with CHARSET UTF-8',
      send: [rev2, 'a SELECT INBOX', `b SEARCH CHARSET UTF-8 SUBJECT "${utf8('grüße')}"`],
      gives: ['ALL 1\r\n'],
    },
    {
      says: 'mailbox names are UTF-8 in quoted strings',
      send: [rev2, `a LIST "" "${utf8('Entwü')}*"`],
      gives: [`* LIST (\\HasNoChildren) "/" "${utf8('Entwürfe')}"\r\n`],
    },
    {
      says: 'and in STATUS',
      send: [rev2, `a STATUS "${utf8('Entwürfe')}" (MESSAGES SIZE DELETED)`],
      gives: [`* STATUS "${utf8('Entwürfe')}" (MESSAGES 0 SIZE 0 DELETED 0)`],
    },
    {
      says: 'an ampersand is an ampersand',
      send: [rev2, 'a CREATE "R&D"', 'b LIST "" R*'],
      gives: ['"/" R&D\r\n'],
    },
    {
      says: 'ENVELOPE holds UTF-8 in quoted strings',
      send: [rev2, 'a SELECT INBOX', 'b FETCH 1 ENVELOPE'],
      gives: [`NIL "${utf8('Grüße')}" (("${utf8('Käthe')}" NIL "k" "example.org"))`],
    },
    {
      says: 'RENAME tells the old name',
      send: [rev2, 'a CREATE Old', 'b RENAME Old New'],
      gives: ['* LIST () "/" New ("OLDNAME" (Old))\r\nb OK'],
    },
    {
      says: 'CREATE under inbox tells how the name is spelled',
      send: [rev2, 'a CREATE inbox/x'],
      gives: ['* LIST () "/" INBOX/x ("OLDNAME" (inbox/x))\r\na OK'],
    },
    {
      says: 'CREATE of a name as it is spelled tells nothing',
      send: [rev2, `a CREATE "${utf8('Ärger')}"`],
      gives: [/^a OK/],
    },
    {
      says: 'before ENABLE names are modified UTF-7',
      send: ['a LIST "" Entw*'],
      gives: ['"/" Entw&APw-rfe\r\n'],
    },
    {
      says: 'before ENABLE 8-bit is a literal',
      send: ['a SELECT INBOX', 'b FETCH 1 ENVELOPE'],
      gives: [`NIL {7}\r\n${utf8('Grüße')} (({6}\r\n${utf8('Käthe')} NIL`],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('UTF8=ACCEPT', () => {
  const rows: Dialog[] = [
    { says: 'ENABLE', send: ['a ENABLE UTF8=ACCEPT'], gives: ['* ENABLED UTF8=ACCEPT\r\n'] },
    {
      says: 'names and APPEND UTF8',
      send: [
        'a ENABLE UTF8=ACCEPT',
        `b APPEND "${utf8('Entwürfe')}" (\\Seen) UTF8 (~{${eightBit.length}+}\r\n${eightBit})`,
        `c STATUS "${utf8('Entwürfe')}" (MESSAGES UNSEEN)`,
      ],
      gives: ['(MESSAGES 1 UNSEEN 0)'],
    },
    {
      says: 'SEARCH still answers SEARCH',
      send: ['a ENABLE UTF8=ACCEPT', 'b SELECT INBOX', `c SEARCH SUBJECT "${utf8('GRÜ')}"`],
      gives: ['* SEARCH 1\r\n'],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('BINARY', () => {
  const rows: Dialog[] = [
    {
      says: 'quoted-printable is decoded',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[1]'],
      gives: [`* 2 FETCH (BINARY[1] {15}\r\n${utf8('Grüße an alle')})\r\nb OK`],
    },
    {
      says: 'what holds NUL is a literal8',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[2]'],
      gives: ['* 2 FETCH (BINARY[2] ~{5}\r\n\0\x01\x02\x03\x04)\r\nb OK'],
    },
    {
      says: 'partial counts decoded bytes',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[2]<1.2>'],
      gives: ['BINARY[2]<1> {2}\r\n\x01\x02)'],
    },
    {
      says: 'BINARY.SIZE',
      send: ['a SELECT INBOX', 'b FETCH 2 (BINARY.SIZE[1] BINARY.SIZE[2])'],
      gives: ['* 2 FETCH (BINARY.SIZE[1] 15 BINARY.SIZE[2] 5)\r\nb OK'],
    },
    {
      says: 'BINARY sets \\Seen',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY[2]'],
      gives: ['* 2 FETCH (FLAGS (\\Seen))'],
    },
    {
      says: 'BINARY[] is the message',
      send: ['a SELECT INBOX', 'b FETCH 1 BINARY.PEEK[]'],
      gives: [`BINARY[] {${eightBit.length}}\r\n${eightBit})`],
    },
    {
      says: 'a part that is not there',
      send: ['a SELECT INBOX', 'b FETCH 2 BINARY.PEEK[9]'],
      gives: ['BINARY[9] NIL)\r\nb OK'],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });

  test('a large part is decoded in windows, byte for byte', async () => {
    const store = new MemoryStore();
    const bytes = Buffer.alloc(3_000_000, 0).map((_, at) => at % 251);
    const lines = Buffer.from(bytes).toString('base64').replace(/.{76}/g, '$&\r\n');
    (await store.folder('INBOX')).add(
      `Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n${lines}\r\n`,
    );
    const client = new ImapClient(store);
    await client.run('a SELECT INBOX');
    const answer = await client.run('b FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1])');
    expect(answer).toContain('BINARY.SIZE[1] 3000000 BINARY[1] ~{3000000}\r\n');
    const at = answer.indexOf('~{3000000}\r\n') + 12;
    expect(Buffer.from(answer.slice(at, at + 3_000_000), 'latin1').equals(bytes)).toBe(true);
  });
});

describe('APPEND and REPLACE', () => {
  test('several messages in one command, told as one set of UIDs', async () => {
    const store = await sample();
    const client = new ImapClient(store);
    await client.run('a SELECT INBOX');
    const answer = await client.run(
      'b APPEND INBOX (\\Seen) {3+}\r\nabc "01-Feb-2020 10:00:00 +0000" {4+}\r\ndefg ~{2+}\r\nhi',
    );
    expect(answer).toMatch(/^\* 5 EXISTS\r\nb OK \[APPENDUID \d+ 3:5\] APPEND completed\r\n$/);
    expect(await client.run('c FETCH 3:5 (FLAGS INTERNALDATE RFC822.SIZE)')).toMatch(
      /3 FETCH \(FLAGS \(\\Seen\).*SIZE 3\)\r\n.*01-Feb-2020 10:00:00 \+0000" RFC822.SIZE 4\)\r\n.*SIZE 2\)/,
    );
  });

  test('each literal is asked for when the client waits', async () => {
    const client = new ImapClient(await sample());
    client.send('a APPEND INBOX {3}\r\n');
    expect(await client.settled()).toBe('+ OK\r\n');
    client.send('abc {2}\r\n');
    expect(await client.settled()).toBe('+ OK\r\n');
    client.send('de\r\n');
    expect(await client.settled()).toMatch(/^a OK \[APPENDUID \d+ 3:4\]/);
  });

  test('a second message over the limit takes the first one with it', async () => {
    const store = new MemoryStore({ messageBytesMax: 10 });
    const client = new ImapClient(store);
    expect(await client.run(`a APPEND INBOX {3+}\r\nabc {20+}\r\n${'x'.repeat(20)}`)).toMatch(
      /^a NO \[TOOBIG\]/,
    );
    const inbox = await store.folder('INBOX');
    expect(inbox.count).toBe(0);
    expect(inbox.incomingCount).toBe(0);
    expect(await client.run('b NOOP')).toMatch(/^b OK/);
  });

  test('a connection that goes in the second message leaves nothing', async () => {
    const store = await sample();
    const client = new ImapClient(store);
    client.send('a APPEND INBOX {3+}\r\nabc {20+}\r\nxx');
    await client.settled();
    client.session.connectionLost();
    await client.settled();
    const inbox = await store.folder('INBOX');
    expect(inbox.count).toBe(2);
    expect(inbox.incomingCount).toBe(0);
  });

  test('more messages than one command may bring are refused', async () => {
    const store = new MemoryStore();
    const client = new ImapClient(store);
    expect(await client.run(`a APPEND INBOX${' {1+}\r\nx'.repeat(300)}`)).toMatch(/^a NO \[LIMIT\]/);
    expect((await store.folder('INBOX')).count).toBe(0);
  });

  test('REPLACE stores the new message and expunges the old one, seen by another session', async () => {
    const store = await sample();
    const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
    await ann.run('a SELECT INBOX');
    await bob.run('a SELECT INBOX');
    expect(await ann.run('b REPLACE 1 INBOX (\\Draft) {3+}\r\nnew')).toMatch(
      /^\* OK \[APPENDUID \d+ 3\].*\r\n\* 1 EXPUNGE\r\n\* 2 EXISTS\r\nb OK REPLACE completed\r\n$/,
    );
    expect(await bob.run('b NOOP')).toMatch(/^\* 1 EXPUNGE\r\n\* 2 EXISTS\r\nb OK/);
    expect(await ann.run('c UID REPLACE 3 Entw&APw-rfe {3+}\r\nyet')).toMatch(
      /^\* OK \[APPENDUID \d+ 1\].*\r\n\* 2 EXPUNGE\r\nc OK/,
    );
  });

  test('REPLACE of a message that goes while the new one comes stores nothing', async () => {
    const store = await sample();
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    ann.send('b REPLACE 1 INBOX {3+}\r\nne');
    await ann.settled();
    await (await store.folder('INBOX')).expunge([1]);
    ann.send('w\r\n');
    expect(await ann.settled()).toMatch(/b NO \[EXPUNGEISSUED\]/);
    expect((await store.folder('INBOX')).count).toBe(1);
  });
});

describe('QUOTA and APPENDLIMIT', () => {
  test('limits and usage are told', async () => {
    const store = new MemoryStore({ quotaBytes: 10_240, quotaMessages: 7, messageBytesMax: 5000 });
    (await store.folder('INBOX')).add('x'.repeat(1025));
    const client = new ImapClient(store);
    const quota = '* QUOTA "" (STORAGE 2 10 MESSAGE 1 7)\r\n';
    expect(await client.run('a GETQUOTA ""')).toBe(`${quota}a OK GETQUOTA completed\r\n`);
    expect(await client.run('b GETQUOTAROOT inbox')).toBe(
      `* QUOTAROOT INBOX ""\r\n${quota}b OK GETQUOTAROOT completed\r\n`,
    );
    expect(await client.run('c STATUS INBOX (APPENDLIMIT)')).toContain('(APPENDLIMIT 5000)');
    expect(await client.run('d CAPABILITY')).toContain(' APPENDLIMIT=5000');
    await client.run('e SELECT INBOX');
    await client.run('f STORE 1 +FLAGS (\\Deleted)');
    expect(await client.run('g STATUS INBOX (DELETED DELETED-STORAGE)')).toContain(
      '(DELETED 1 DELETED-STORAGE 1025)',
    );
  });

  test('an account without limits has no root', async () => {
    const client = new ImapClient(await sample());
    expect(await client.run('a GETQUOTAROOT INBOX')).toBe(
      '* QUOTAROOT INBOX\r\na OK GETQUOTAROOT completed\r\n',
    );
    expect(await client.run('b GETQUOTA ""')).toMatch(/^b NO \[NONEXISTENT\]/);
  });
});
