/** Conversations with a session, command by command, against the store in memory. */
import { describe, expect, test } from '@jest/globals';
import { MemoryStore } from '../../support/memory-store.ts';
import { ImapClient } from './imap-client.ts';

const plain = [
  'Date: Mon, 5 Feb 2024 10:00:00 +0100',
  'From: Ann <ann@example.org>',
  'To: Bob <bob@example.org>, group: c@example.org, d@example.org;',
  'Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=',
  'Message-ID: <1@example.org>',
  '',
  'Hello Bob,',
  'how are you?',
  '',
].join('\r\n');

const multi = [
  'From: Eve <eve@example.org>',
  'Subject: parts',
  'MIME-Version: 1.0',
  'Content-Type: multipart/mixed; boundary="xx"',
  '',
  'preamble',
  '--xx',
  'Content-Type: text/plain; charset=utf-8',
  'Content-Transfer-Encoding: base64',
  '',
  'R3LDvMOfZSBhdXMgS8O2bG4=',
  '--xx',
  'Content-Type: message/rfc822',
  '',
  'Subject: inner',
  'From: inner@example.org',
  '',
  'inner body',
  '--xx--',
  'epilogue',
  '',
].join('\r\n');

/** A store with two messages in INBOX and a folder Work. */
async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  inbox.add(plain);
  inbox.add(multi, { flags: 1, keywords: ['$Work'] });
  await store.createFolder('Work');
  return store;
}

/** Command lines, and what the answer to the last of them must and must not be. */
interface Row {
  readonly says: string;
  readonly send: readonly string[];
  readonly gives: readonly (string | RegExp)[];
  readonly not?: readonly (string | RegExp)[];
}

async function check(rows: Row): Promise<void> {
  const client = new ImapClient(await sample());
  let answer = '';
  for (const line of rows.send) answer = await client.run(line);
  for (const wanted of rows.gives) {
    if (typeof wanted === 'string') expect(answer).toContain(wanted);
    else expect(answer).toMatch(wanted);
  }
  for (const unwanted of rows.not ?? []) {
    if (typeof unwanted === 'string') expect(answer).not.toContain(unwanted);
    else expect(answer).not.toMatch(unwanted);
  }
}

describe('bad input', () => {
  const rows: Row[] = [
    { says: 'an unknown command is BAD', send: ['a FROB'], gives: [/^a BAD/] },
    { says: 'a prototype name is no command', send: ['a constructor'], gives: [/^a BAD/] },
    { says: 'LOGIN again is BAD', send: ['a LOGIN x y'], gives: [/^a BAD/] },
    { says: 'STARTTLS after login is BAD', send: ['a STARTTLS'], gives: [/^a BAD/] },
    { says: 'FETCH without a mailbox is BAD', send: ['a FETCH 1 FLAGS'], gives: [/^a BAD/] },
    {
      says: 'UID of a command without UID form is BAD',
      send: ['a SELECT INBOX', 'b UID CLOSE'],
      gives: [/^b BAD/],
    },
    { says: 'arguments too many are BAD', send: ['a NOOP x'], gives: [/^a BAD/] },
    { says: 'two spaces are BAD', send: ['a SELECT  INBOX'], gives: [/^a BAD/] },
    { says: 'an unclosed quoted string is BAD', send: ['a SELECT "INBOX'], gives: [/^a BAD/] },
    { says: 'a quoted string with NUL is BAD', send: ['a SELECT "IN\0BOX"'], gives: [/^a BAD/] },
    {
      says: 'a sequence number that is not there is BAD',
      send: ['a SELECT INBOX', 'b FETCH 3 FLAGS'],
      gives: [/^b BAD/],
    },
    { says: 'number 0 is BAD', send: ['a SELECT INBOX', 'b FETCH 0 FLAGS'], gives: [/^b BAD/] },
    {
      says: 'a number over 32 bits is BAD',
      send: ['a SELECT INBOX', 'b UID FETCH 4294967296 FLAGS'],
      gives: [/^b BAD/],
    },
    {
      says: '\\Recent cannot be stored',
      send: ['a SELECT INBOX', 'b STORE 1 FLAGS (\\Recent)'],
      gives: [/^b BAD/],
    },
    {
      says: 'an unknown flag with backslash is BAD',
      send: ['a SELECT INBOX', 'b STORE 1 +FLAGS (\\Frob)'],
      gives: [/^b BAD/],
    },
    {
      says: 'an unknown FETCH item is BAD',
      send: ['a SELECT INBOX', 'b FETCH 1 (FLAGS FROB)'],
      gives: [/^b BAD/],
    },
    { says: 'a macro in a list is BAD', send: ['a SELECT INBOX', 'b FETCH 1 (ALL)'], gives: [/^b BAD/] },
    { says: 'an unknown search key is BAD', send: ['a SELECT INBOX', 'b SEARCH FROB'], gives: [/^b BAD/] },
    {
      says: 'an unknown charset is told',
      send: ['a SELECT INBOX', 'b SEARCH CHARSET frob ALL'],
      gives: [/^b NO \[BADCHARSET/],
    },
    {
      says: 'too many search keys',
      send: ['a SELECT INBOX', `b SEARCH${' ALL'.repeat(5000)}`],
      gives: [/^b NO \[LIMIT\]/],
    },
    {
      says: 'a search 4,000 deep',
      send: ['a SELECT INBOX', `b SEARCH ${'('.repeat(4000)}`],
      gives: [/^b NO \[LIMIT\]/],
    },
    {
      says: 'NOT 4,000 times',
      send: ['a SELECT INBOX', `b SEARCH ${'NOT '.repeat(4000)}ALL`],
      gives: [/^b NO \[LIMIT\]/],
    },
    {
      says: 'too many FETCH items',
      send: ['a SELECT INBOX', `b FETCH 1 (${'BODY[] '.repeat(2000)}UID)`],
      gives: [/^b NO \[LIMIT\]/],
    },
    {
      says: 'a day that is none',
      send: ['a SELECT INBOX', 'b SEARCH BEFORE 31-Feb-2024'],
      gives: [/^b BAD/],
    },
    { says: 'a mailbox that is not there', send: ['a SELECT Nope'], gives: [/^a NO \[NONEXISTENT\]/] },
    {
      says: 'COPY to a mailbox that is not there',
      send: ['a SELECT INBOX', 'b COPY 1 Nope'],
      gives: [/^b NO \[TRYCREATE\]/],
    },
    { says: 'STORE after EXAMINE', send: ['a EXAMINE INBOX', 'b STORE 1 +FLAGS (\\Seen)'], gives: [/^b NO/] },
    { says: 'EXPUNGE after EXAMINE', send: ['a EXAMINE INBOX', 'b EXPUNGE'], gives: [/^b NO/] },
    { says: 'a literal over the limit', send: [`a SELECT {300000}`], gives: [/^a BAD/] },
    { says: 'a literal of 2^32', send: [`a SELECT {4294967296}`], gives: [/^a BAD/] },
    { says: 'a negative literal', send: [`a SELECT {-1}`], gives: [/^a BAD/] },
  ];
  test.each(rows)('$says', check);

  const names = [
    '../x',
    'a/../../u2',
    '/etc',
    'a//b',
    'a/./b',
    '&AC8-',
    '&AC4ALg-',
    '&AAA-',
    '&Jjo',
    '&AEE-',
    '&2D0-',
    'a&b',
    '"a\\\\..\\\\b/.."',
    '"&AGEALwBi-"',
    '""',
  ];
  test.each(names)('mailbox name %s is refused by CREATE, SELECT, RENAME and APPEND', async (name) => {
    const client = new ImapClient(await sample());
    for (const command of [`CREATE ${name}`, `SELECT ${name}`, `RENAME Work ${name}`, `DELETE ${name}`]) {
      expect(await client.run(`a ${command}`)).toMatch(/^a (NO|BAD)/);
    }
    expect(await client.run(`a APPEND ${name} {3+}\r\nabc`)).toMatch(/^a (NO|BAD)/);
  });

  test('a name in modified UTF-7 comes back as it was sent', async () => {
    const client = new ImapClient(await sample());
    expect(await client.run('a CREATE "Entw&APw-rfe &- mehr"')).toMatch(/^a OK/);
    expect(await client.run('b LIST "" Entw*')).toContain(
      '* LIST (\\HasNoChildren) "/" "Entw&APw-rfe &- mehr"',
    );
  });

  test('a command without tag is BAD', async () => {
    const client = new ImapClient(await sample());
    client.send(' NOOP\r\n+ NOOP\r\nx\r\n\r\n');
    expect((await client.settled()).match(/^(\S+) BAD/gm)).toEqual(['* BAD', '* BAD', 'x BAD', '* BAD']);
  });

  test('a bare LF ends the session', async () => {
    const client = new ImapClient(await sample());
    client.send('a NOOP\nb NOOP\r\n');
    expect(await client.until(() => 0)).toMatch(/^a BAD .*\r\n\* BYE /);
    expect(client.ended).toBe(true);
    expect(client.released).toBe(1);
  });

  test('a line without end ends the session, and little of it is kept', async () => {
    const client = new ImapClient(await sample(), { limits: { lineBytesMax: 8192 } });
    client.send(`a NOOP ${'x'.repeat(10_000)}`);
    expect(await client.until(() => 0)).toMatch(/^a BAD .*\r\n\* BYE /);
  });

  test('fifty errors end the session', async () => {
    const client = new ImapClient(await sample());
    client.send('a FROB\r\n'.repeat(60));
    const answer = await client.until(() => 0);
    expect(answer.match(/^a BAD/gm)).toHaveLength(50);
    expect(answer).toMatch(/\* BYE Too many errors\r\n$/);
  });

  test('a LITERAL+ that is too large is thrown away and the next command served', async () => {
    const client = new ImapClient(await sample());
    client.send(`a SELECT {300000+}\r\n${'x'.repeat(300_000)}\r\nb NOOP\r\n`);
    expect(await client.until((text) => text.indexOf('b OK'))).toMatch(/^a BAD/);
  });
});

test.each([1, 2, 3, 7])(
  'a command that comes in chunks of %i bytes in one turn of the loop is answered',
  async (size) => {
    const client = new ImapClient(await sample());
    const command = Buffer.from('a SELECT INBOX\r\nb SEARCH SUBJECT "parts"\r\n');
    for (let at = 0; at < command.length; at += size) client.send(command.subarray(at, at + size));
    expect(await client.until((received) => received.lastIndexOf('b OK SEARCH completed\r\n') + 1)).toContain(
      '* ',
    );
  },
);

describe('commands', () => {
  const rows: Row[] = [
    { says: 'CAPABILITY', send: ['a CAPABILITY'], gives: [/^\* CAPABILITY IMAP4rev1 .*UIDPLUS/, 'a OK'] },
    { says: 'ID', send: ['a ID ("name" "test" "version" NIL)'], gives: ['* ID ("name" "Postern")', 'a OK'] },
    { says: 'ID NIL', send: ['a ID NIL'], gives: ['a OK'] },
    {
      says: 'ENABLE of something unknown',
      send: ['a ENABLE X-FROB'],
      gives: ['* ENABLED\r\na OK'],
    },
    { says: 'NAMESPACE', send: ['a NAMESPACE'], gives: ['* NAMESPACE (("" "/")) NIL NIL'] },
    { says: 'LOGOUT', send: ['a LOGOUT'], gives: [/^\* BYE .*\r\na OK/] },
    {
      says: 'SELECT tells all it must',
      send: ['a SELECT inbox'],
      gives: [
        '* FLAGS (',
        '[PERMANENTFLAGS (',
        '* 2 EXISTS',
        '* 0 RECENT',
        '[UNSEEN 1]',
        '[UIDVALIDITY ',
        '[UIDNEXT 3]',
        'a OK [READ-WRITE]',
        '$Work',
      ],
    },
    {
      says: 'EXAMINE is read-only',
      send: ['a EXAMINE INBOX'],
      gives: ['a OK [READ-ONLY]', '[PERMANENTFLAGS ()]'],
    },
    { says: 'SELECT of a literal name', send: ['a SELECT {5+}\r\nINBOX'], gives: ['a OK'] },
    {
      says: 'a failed SELECT leaves the mailbox before',
      send: ['a SELECT INBOX', 'b SELECT Nope', 'c FETCH 1 FLAGS'],
      gives: [/^c BAD/],
    },
    {
      says: 'STATUS',
      send: ['a STATUS INBOX (MESSAGES UIDNEXT UNSEEN RECENT SIZE DELETED)'],
      gives: [
        `* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UNSEEN 1 RECENT 0 SIZE ${plain.length + multi.length} DELETED 0)`,
      ],
    },
    {
      says: 'LIST all',
      send: ['a LIST "" *'],
      gives: ['* LIST (\\HasNoChildren) "/" INBOX', '* LIST (\\HasNoChildren) "/" Work'],
    },
    { says: 'LIST of the separator', send: ['a LIST "" ""'], gives: ['* LIST (\\Noselect) "/" ""'] },
    {
      says: 'LIST % stays in a level',
      send: ['a CREATE Work/deep', 'b LIST "" %'],
      gives: ['* LIST (\\HasChildren) "/" Work\r\n'],
      not: ['deep'],
    },
    {
      says: 'LIST with a reference',
      send: ['a CREATE Work/deep', 'b LIST Work/ %'],
      gives: ['Work/deep'],
      not: ['INBOX'],
    },
    {
      says: 'a parent that is only a level',
      send: ['a CREATE x/y', 'b LIST "" x*'],
      gives: ['* LIST (\\Noselect \\HasChildren) "/" x\r\n', '"/" x/y'],
    },
    { says: 'LIST inbox in small letters', send: ['a LIST "" inbox'], gives: ['"/" INBOX'] },
    {
      says: 'LIST RETURN (STATUS)',
      send: ['a LIST "" INBOX RETURN (STATUS (MESSAGES))'],
      gives: ['* STATUS INBOX (MESSAGES 2)'],
    },
    {
      says: 'LIST (SUBSCRIBED)',
      send: ['a LIST (SUBSCRIBED) "" *'],
      gives: ['* LIST (\\Subscribed \\HasNoChildren) "/" INBOX'],
      not: ['Work'],
    },
    {
      says: 'LIST (SUBSCRIBED RECURSIVEMATCH)',
      send: ['a CREATE Work/deep', 'b SUBSCRIBE Work/deep', 'c LIST (SUBSCRIBED RECURSIVEMATCH) "" %'],
      gives: ['"/" Work ("CHILDINFO" ("SUBSCRIBED"))'],
      not: ['Work/deep'],
    },
    { says: 'RECURSIVEMATCH alone is BAD', send: ['a LIST (RECURSIVEMATCH) "" *'], gives: [/^a BAD/] },
    { says: 'LIST with several patterns', send: ['a LIST "" (INBOX Work)'], gives: ['INBOX', 'Work'] },
    {
      says: 'CREATE with USE is listed by SPECIAL-USE',
      send: ['a CREATE Sent (USE (\\Sent))', 'b LIST (SPECIAL-USE) "" *'],
      gives: ['* LIST (\\HasNoChildren \\Sent) "/" Sent'],
      not: ['INBOX'],
    },
    { says: 'CREATE with an unknown USE', send: ['a CREATE X (USE (\\Frob))'], gives: [/^a NO \[USEATTR\]/] },
    { says: 'CREATE of INBOX', send: ['a CREATE inbox'], gives: [/^a NO \[ALREADYEXISTS\]/] },
    { says: 'CREATE twice', send: ['a CREATE x/', 'b CREATE x'], gives: [/^b NO \[ALREADYEXISTS\]/] },
    { says: 'DELETE of INBOX', send: ['a DELETE INBOX'], gives: [/^a NO/] },
    { says: 'RENAME into itself', send: ['a RENAME Work Work/x'], gives: [/^a NO/] },
    { says: 'RENAME', send: ['a RENAME Work Play', 'b LIST "" *'], gives: ['Play'], not: ['Work'] },
    {
      says: 'RENAME of INBOX moves its messages',
      send: ['a RENAME INBOX Old', 'b STATUS Old (MESSAGES)'],
      gives: ['Old (MESSAGES 2)'],
    },
    {
      says: 'LSUB',
      send: ['a SUBSCRIBE Work', 'b LSUB "" *'],
      gives: ['* LSUB () "/" INBOX', '* LSUB () "/" Work'],
    },
    {
      says: 'LSUB % tells the level above',
      send: ['a CREATE x/y', 'a SUBSCRIBE x/y', 'b LSUB "" %'],
      gives: ['* LSUB (\\Noselect) "/" x\r\n'],
      not: ['x/y'],
    },
    { says: 'UNSUBSCRIBE', send: ['a UNSUBSCRIBE INBOX', 'b LSUB "" *'], gives: [/^b OK/] },

    {
      says: 'FETCH FAST',
      send: ['a SELECT INBOX', 'b FETCH 2 FAST'],
      gives: [
        `* 2 FETCH (FLAGS (\\Seen $Work) INTERNALDATE "03-Feb-2024 04:05:06 +0000" RFC822.SIZE ${multi.length})\r\nb OK`,
      ],
    },
    {
      says: 'UID FETCH adds the UID',
      send: ['a SELECT INBOX', 'b UID FETCH 1:* FLAGS'],
      gives: ['* 1 FETCH (UID 1 FLAGS ())', '* 2 FETCH (UID 2 FLAGS'],
    },
    {
      says: 'UID FETCH beyond the last gives the last',
      send: ['a SELECT INBOX', 'b UID FETCH 900:* UID'],
      gives: ['* 2 FETCH (UID 2)\r\nb OK'],
      not: ['* 1 '],
    },
    {
      says: 'FETCH of sets that overlap answers once',
      send: ['a SELECT INBOX', 'b FETCH 2,1:2,*,2 UID'],
      gives: [/^\* 1 FETCH \(UID 1\)\r\n\* 2 FETCH \(UID 2\)\r\nb OK/],
    },
    {
      says: 'ENVELOPE',
      send: ['a SELECT INBOX', 'b FETCH 1 ENVELOPE'],
      gives: [
        'ENVELOPE ("Mon, 5 Feb 2024 10:00:00 +0100" "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) (("Bob" NIL "bob" "example.org")(NIL NIL "group" NIL)(NIL NIL "c" "example.org")(NIL NIL "d" "example.org")(NIL NIL NIL NIL)) NIL NIL NIL "<1@example.org>")',
      ],
    },
    {
      says: 'BODYSTRUCTURE of a plain message',
      send: ['a SELECT INBOX', 'b FETCH 1 BODYSTRUCTURE'],
      gives: ['BODYSTRUCTURE ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 26 2 NIL NIL NIL NIL)'],
    },
    {
      says: 'BODYSTRUCTURE of a multipart',
      send: ['a SELECT INBOX', 'b FETCH 2 BODYSTRUCTURE'],
      gives: [
        '(("text" "plain" ("charset" "utf-8") NIL NIL "base64" 24 0 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 53 (NIL "inner" ((NIL NIL "inner" "example.org")) ((NIL NIL "inner" "example.org")) ((NIL NIL "inner" "example.org")) NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL) "mixed" ("boundary" "xx") NIL NIL NIL)',
      ],
    },
    {
      says: 'BODY without extension data',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY'],
      gives: ['BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 26 2)'],
    },
    {
      says: 'BODY.PEEK[] is the message',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[]'],
      gives: [`* 1 FETCH (BODY[] {${plain.length}}\r\n${plain})\r\nb OK`],
      not: ['FLAGS'],
    },
    {
      says: 'BODY[] sets \\Seen and tells it',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY[]'],
      gives: [`BODY[] {${plain.length}}\r\n${plain})`, '* 1 FETCH (FLAGS (\\Seen))\r\nb OK'],
    },
    {
      says: 'BODY[] after EXAMINE sets nothing',
      send: ['a EXAMINE INBOX', 'b FETCH 1 BODY[]'],
      gives: ['b OK'],
      not: ['\\Seen'],
    },
    {
      says: 'RFC822.HEADER',
      send: ['a SELECT INBOX', 'b FETCH 1 RFC822.HEADER'],
      gives: [`RFC822.HEADER {${plain.indexOf('\r\n\r\n') + 4}}\r\nDate:`],
      not: ['Hello'],
    },
    {
      says: 'RFC822.TEXT',
      send: ['a SELECT INBOX', 'b FETCH 1 RFC822.TEXT'],
      gives: ['RFC822.TEXT {26}\r\nHello Bob,\r\nhow are you?\r\n)'],
    },
    {
      says: 'HEADER.FIELDS',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT "X-No")]'],
      gives: ['BODY[HEADER.FIELDS (SUBJECT X-No)] {40}\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n)'],
    },
    {
      says: 'HEADER.FIELDS.NOT',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (date from to subject)]'],
      gives: ['Message-ID: <1@example.org>\r\n\r\n)'],
      not: ['Subject:'],
    },
    {
      says: 'BODY[1]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[1]'],
      gives: ['BODY[1] {24}\r\nR3LDvMOfZSBhdXMgS8O2bG4=)'],
    },
    {
      says: 'BODY[1.MIME]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[1.MIME]'],
      gives: ['Content-Transfer-Encoding: base64\r\n\r\n)'],
    },
    {
      says: 'BODY[2.HEADER]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[2.HEADER]'],
      gives: ['Subject: inner\r\nFrom: inner@example.org\r\n\r\n)'],
    },
    {
      says: 'BODY[2.HEADER.FIELDS]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[2.HEADER.FIELDS (subject)]'],
      gives: ['{18}\r\nSubject: inner\r\n\r\n)'],
    },
    {
      says: 'BODY[2.TEXT]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[2.TEXT]'],
      gives: ['BODY[2.TEXT] {10}\r\ninner body)'],
    },
    {
      says: 'BODY[2.1]',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[2.1]'],
      gives: ['{10}\r\ninner body)'],
    },
    {
      says: 'BODY[1] of a plain message',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[1]'],
      gives: ['BODY[1] {26}\r\nHello'],
    },
    {
      says: 'a part that is not there',
      send: ['a SELECT INBOX', 'b FETCH 2 BODY.PEEK[7.1]'],
      gives: ['BODY[7.1] NIL)'],
    },
    {
      says: 'a partial',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[TEXT]<6.3>'],
      gives: ['BODY[TEXT]<6> {3}\r\nBob)'],
    },
    {
      says: 'a partial beyond the end',
      send: ['a SELECT INBOX', 'b FETCH 1 BODY.PEEK[TEXT]<600.3>'],
      gives: ['BODY[TEXT]<600> {0}\r\n)'],
    },
    {
      says: 'several items',
      send: ['a SELECT INBOX', 'b FETCH 1 (UID BODY.PEEK[TEXT]<0.5> FLAGS)'],
      gives: ['* 1 FETCH (UID 1 BODY[TEXT]<0> {5}\r\nHello FLAGS ())'],
    },

    {
      says: 'STORE +FLAGS',
      send: ['a SELECT INBOX', 'b STORE 1 +FLAGS (\\Flagged foo)'],
      gives: ['* 1 FETCH (FLAGS (\\Flagged foo))\r\nb OK', '* FLAGS ('],
    },
    {
      says: 'STORE -FLAGS.SILENT',
      send: ['a SELECT INBOX', 'b STORE 2 -FLAGS.SILENT (\\Seen)', 'c FETCH 2 FLAGS'],
      gives: ['FLAGS ($Work)'],
    },
    {
      says: 'STORE .SILENT says nothing',
      send: ['a SELECT INBOX', 'b STORE 1:2 +FLAGS.SILENT \\Deleted'],
      gives: [/^b OK/],
    },
    {
      says: 'STORE FLAGS replaces',
      send: ['a SELECT INBOX', 'b UID STORE 2 FLAGS ()'],
      gives: ['* 2 FETCH (UID 2 FLAGS ())'],
    },
    { says: 'COPY', send: ['a SELECT INBOX', 'b COPY 1:2 Work'], gives: [/^b OK \[COPYUID \d+ 1:2 1:2\]/] },
    {
      says: 'MOVE',
      send: ['a SELECT INBOX', 'b MOVE 1 Work'],
      gives: [/^\* OK \[COPYUID \d+ 1 1\].*\r\n\* 1 EXPUNGE\r\nb OK/],
    },
    {
      says: 'EXPUNGE',
      send: ['a SELECT INBOX', 'b STORE 1:2 +FLAGS.SILENT (\\Deleted)', 'c EXPUNGE'],
      gives: [/^\* 2 EXPUNGE\r\n\* 1 EXPUNGE\r\nc OK/],
    },
    {
      says: 'UID EXPUNGE',
      send: ['a SELECT INBOX', 'b STORE 1:2 +FLAGS.SILENT (\\Deleted)', 'c UID EXPUNGE 2'],
      gives: [/^\* 2 EXPUNGE\r\nc OK/],
    },
    {
      says: 'CLOSE expunges without a word',
      send: ['a SELECT INBOX', 'b STORE 1 +FLAGS.SILENT (\\Deleted)', 'c CLOSE', 'd STATUS INBOX (MESSAGES)'],
      gives: ['MESSAGES 1'],
    },
    {
      says: 'UNSELECT does not',
      send: [
        'a SELECT INBOX',
        'b STORE 1 +FLAGS.SILENT (\\Deleted)',
        'c UNSELECT',
        'd STATUS INBOX (MESSAGES)',
      ],
      gives: ['MESSAGES 2'],
    },
    { says: 'CHECK', send: ['a SELECT INBOX', 'b CHECK'], gives: ['b OK'] },
  ];
  test.each(rows)('$says', check);
});

describe('SEARCH', () => {
  const rows: [string, string][] = [
    ['ALL', '1 2'],
    ['UNSEEN', '1'],
    ['SEEN', '2'],
    ['KEYWORD $work', '2'],
    ['UNKEYWORD $Work', '1'],
    ['NEW', ''],
    ['OLD', '1 2'],
    ['NOT SEEN', '1'],
    ['OR SEEN UNSEEN', '1 2'],
    ['(SEEN KEYWORD $Work)', '2'],
    ['2', '2'],
    ['UID 1', '1'],
    ['UID 7:*', '2'],
    ['NOT UID 1', '2'],
    ['FROM ann', '1'],
    ['FROM ANN@EXAMPLE', '1'],
    ['SUBJECT "grüße"', '1'],
    ['CHARSET UTF-8 SUBJECT GRÜSSE', ''],
    ['HEADER message-id ""', '1'],
    ['HEADER X-None ""', ''],
    ['BODY "how are you"', '1'],
    ['BODY köln', '2'],
    ['BODY Subject', '2'],
    ['TEXT inner', '2'],
    ['TEXT bob@example', '1'],
    ['BODY bob@example', ''],
    ['LARGER 300', '2'],
    ['SMALLER 300', '1'],
    ['ON 3-Feb-2024', '1 2'],
    ['BEFORE 3-Feb-2024', ''],
    ['SINCE "3-Feb-2024"', '1 2'],
    ['SENTON 5-Feb-2024', '1'],
    ['SENTBEFORE 5-Feb-2024', ''],
    ['OLDER 60', '1 2'],
    ['YOUNGER 60', ''],
    ['NOT BODY köln', '1'],
    ['OR BODY köln SUBJECT grü', '1 2'],
    ['UNSEEN BODY köln', ''],
  ];
  test.each(rows)('%s finds %j', async (keys, found) => {
    const client = new ImapClient(await sample());
    await client.run('a SELECT INBOX');
    const bytes = Buffer.from(`b SEARCH ${keys}`, 'utf8');
    // 8-bit words travel as literals.
    const text = bytes
      .toString('latin1')
      .replace(/"?([^\s"]*[\u0080-\u00ff][^\s"]*)"?/g, (_, word: string) => `{${word.length}+}\r\n${word}`);
    expect(await client.run(text)).toBe(
      `* SEARCH${found === '' ? '' : ` ${found}`}\r\nb OK SEARCH completed\r\n`,
    );
  });

  test('RETURN options', async () => {
    const client = new ImapClient(await sample());
    await client.run('a SELECT INBOX');
    expect(await client.run('b SEARCH RETURN (MIN MAX COUNT) ALL')).toContain(
      '* ESEARCH (TAG "b") MIN 1 MAX 2 COUNT 2\r\n',
    );
    expect(await client.run('c UID SEARCH RETURN () ALL')).toContain('* ESEARCH (TAG "c") UID ALL 1:2\r\n');
    expect(await client.run('d SEARCH RETURN (SAVE) SEEN')).toContain('d OK');
    expect(await client.run('e FETCH $ UID')).toContain('* 2 FETCH (UID 2)\r\ne OK');
    expect(await client.run('f SEARCH RETURN (COUNT) NEW')).toContain('* ESEARCH (TAG "f") COUNT 0\r\n');
  });
});
