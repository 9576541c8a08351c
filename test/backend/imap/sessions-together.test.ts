/** What one session sees of another's changes, and what a client that misbehaves costs. */
import { describe, expect, test } from '@jest/globals';
import { Fault } from '../../../base/fault.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { ImapClient, tagged } from './imap-client.ts';

async function two(): Promise<{ store: MemoryStore; ann: ImapClient; bob: ImapClient }> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  for (let count = 0; count < 4; count++) inbox.add(`Subject: ${count}\r\n\r\nbody ${count}\r\n`);
  const ann = new ImapClient(store);
  const bob = new ImapClient(store);
  await ann.run('a SELECT INBOX');
  await bob.run('a SELECT INBOX');
  return { store, ann, bob };
}

describe('two sessions in one mailbox', () => {
  test('a new message is told with the next NOOP', async () => {
    const { store, ann } = await two();
    (await store.folder('INBOX')).add('x\r\n');
    expect(await ann.run('b NOOP')).toBe('* 5 EXISTS\r\nb OK NOOP completed\r\n');
    expect(await ann.run('c NOOP')).toBe('c OK NOOP completed\r\n');
  });

  test('flags of another session are told, own ones not twice', async () => {
    const { ann, bob } = await two();
    expect(await bob.run('b STORE 2 +FLAGS (\\Flagged)')).toBe(
      '* 2 FETCH (FLAGS (\\Flagged))\r\nb OK STORE completed\r\n',
    );
    expect(await bob.run('c NOOP')).toBe('c OK NOOP completed\r\n');
    expect(await ann.run('c NOOP')).toBe('* 2 FETCH (UID 2 FLAGS (\\Flagged))\r\nc OK NOOP completed\r\n');
  });

  test('EXPUNGE is not told during FETCH, STORE or SEARCH, and sequence numbers stand still until it is', async () => {
    const { ann, bob } = await two();
    await bob.run('b STORE 1,3 +FLAGS.SILENT (\\Deleted)');
    await bob.run('c EXPUNGE');
    expect(await ann.run('b FETCH 4 UID')).toBe('* 4 FETCH (UID 4)\r\nb OK FETCH completed\r\n');
    expect(await ann.run('c SEARCH ALL')).toBe('* SEARCH 2 4\r\nc OK SEARCH completed\r\n');
    // What the client still counts has a UID; anything else of it is gone.
    expect(await ann.run('d FETCH 1 UID')).toBe('* 1 FETCH (UID 1)\r\nd OK FETCH completed\r\n');
    expect(await ann.run('d FETCH 1:4 (UID FLAGS)')).toBe(
      '* 2 FETCH (UID 2 FLAGS ())\r\n* 4 FETCH (UID 4 FLAGS ())\r\nd NO [EXPUNGEISSUED] Some of the messages no longer exist\r\n',
    );
    expect(await ann.run('e STORE 4 +FLAGS.SILENT (\\Seen)')).toBe('e OK STORE completed\r\n');
    expect(await ann.run('f NOOP')).toBe('* 3 EXPUNGE\r\n* 1 EXPUNGE\r\nf OK NOOP completed\r\n');
    expect(await ann.run('g FETCH 1:2 UID')).toContain('* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 4)\r\ng OK');
  });

  test('messages that come and go between two looks', async () => {
    const { store, ann } = await two();
    const inbox = await store.folder('INBOX');
    inbox.add('new\r\n');
    await inbox.expunge([2, 5]);
    inbox.add('newer\r\n');
    expect(await ann.run('b NOOP')).toBe('* 2 EXPUNGE\r\n* 4 EXISTS\r\nb OK NOOP completed\r\n');
    expect(await ann.run('c FETCH 4 UID')).toContain('(UID 6)');
  });

  test('an idling session hears of it at once', async () => {
    const { ann, bob } = await two();
    ann.send('b IDLE\r\n');
    expect(await ann.settled()).toBe('+ idling\r\n');
    await bob.run('b STORE 1 +FLAGS (\\Deleted)');
    await bob.run('c EXPUNGE');
    // Whether the flag is told first depends on how close together the two were.
    expect(await ann.settled()).toMatch(/^(\* 1 FETCH .*\r\n)?\* 1 EXPUNGE\r\n$/);
    ann.send('DONE\r\n');
    expect(await ann.settled()).toBe('b OK IDLE completed\r\n');
    ann.send('c IDLE\r\nd NOOP\r\n');
    expect(await ann.settled()).toMatch(/^\+ idling\r\nc BAD/);
  });

  test('more changed messages than are kept one by one are all told', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let count = 0; count < 3000; count++) inbox.add('x');
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    for (let uid = 1; uid <= 3000; uid += 2)
      await inbox.changeFlags([uid], { how: 'add', flags: 1, keywords: [] });
    const told = (await ann.run('b NOOP')).match(/^\* \d+ FETCH .*\\Seen/gm);
    expect(told).toHaveLength(1500);
  });

  test('the mailbox is deleted under a session', async () => {
    const { store, ann, bob } = await two();
    await store.createFolder('Work');
    await ann.run('b SELECT Work');
    expect(await bob.run('c DELETE Work')).toContain('c OK');
    expect(await ann.run('c FETCH 1:* FLAGS')).toMatch(/^c NO /);
    expect(await ann.until(() => 0)).toBe('* BYE Mailbox was deleted\r\n');
  });
});

describe('APPEND', () => {
  test('stores the very bytes, and says under which UID', async () => {
    const { store, ann, bob } = await two();
    const body = Buffer.from(
      `Subject: x\r\n\r\n${'y'.repeat(100_000)}\r\n\x80\xff\t\x01.\r\n.\r\n`,
      'latin1',
    );
    ann.send(`b APPEND INBOX (\\Seen $Mine) "24-Dec-2023 18:00:00 +0100" {${body.length}}\r\n`);
    expect(await ann.settled()).toBe('+ OK\r\n');
    for (let at = 0; at < body.length; at += 7777) ann.send(body.subarray(at, at + 7777));
    ann.send('\r\n');
    expect(await ann.settled()).toMatch(/\* 5 EXISTS\r\nb OK \[APPENDUID \d+ 5\]/);
    expect(await bob.run('b NOOP')).toContain('* 5 EXISTS');
    const answer = await bob.run('c FETCH 5 (FLAGS INTERNALDATE BODY.PEEK[])');
    expect(answer).toContain('FLAGS (\\Seen $Mine) INTERNALDATE "24-Dec-2023 17:00:00 +0000"');
    expect(answer).toContain(`BODY[] {${body.length}}\r\n${body.toString('latin1')})`);
    expect((await store.folder('INBOX')).incomingCount).toBe(0);
  });

  test('comes byte by byte', async () => {
    const { ann } = await two();
    for (const char of 'b APPEND {5+}\r\nINBOX (\\Seen) {5+}\r\na\r\nb\n\r\n') {
      ann.send(char);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await ann.settled()).toMatch(/b OK \[APPENDUID/);
    expect(await ann.run('c FETCH 5 (FLAGS BODY.PEEK[])')).toBe(
      '* 5 FETCH (FLAGS (\\Seen) BODY[] {5}\r\na\r\nb\n)\r\nc OK FETCH completed\r\n',
    );
  });

  test('LITERAL+ and the mailbox as a literal', async () => {
    const { ann } = await two();
    expect(await ann.run('b APPEND {5+}\r\nINBOX {3+}\r\nabc')).toMatch(/b OK \[APPENDUID/);
  });

  const refused: [string, string, RegExp][] = [
    ['no such mailbox', 'b APPEND Nope {3}', /^b NO \[TRYCREATE\]/],
    ['too large', 'b APPEND INBOX {99999999}', /^b NO \[TOOBIG\]/],
    ['4 GiB', 'b APPEND INBOX {4294967296}', /^b BAD/],
    ['empty', 'b APPEND INBOX {0}', /^b NO/],
    ['a flag that cannot be set', 'b APPEND INBOX (\\Recent) {3}', /^b BAD/],
    ['a date that is none', 'b APPEND INBOX "99-Dec-2023 18:00:00 +0100" {3}', /^b BAD/],
    ['no message', 'b APPEND INBOX', /^b BAD/],
    ['no space', 'b APPEND INBOX{3}', /^b BAD/],
  ];
  test.each(refused)('is refused before the bytes come: %s', async (_, command, answer) => {
    const { store, ann } = await two();
    expect(await ann.run(command)).toMatch(answer);
    expect(await ann.run('c NOOP')).toMatch(/^c OK/);
    expect((await store.folder('INBOX')).incomingCount).toBe(0);
  });

  test('over quota', async () => {
    const store = new MemoryStore({ quotaBytes: 10 });
    const ann = new ImapClient(store);
    expect(await ann.run('b APPEND INBOX {11}')).toMatch(/^b NO \[OVERQUOTA\]/);
    expect(await ann.run(`c APPEND INBOX {11+}\r\n${'x'.repeat(11)}`)).toMatch(/^c NO \[OVERQUOTA\]/);
    expect(await ann.run('d NOOP')).toMatch(/^d OK/);
  });

  test('NUL in the message is refused and nothing stays', async () => {
    const { store, ann } = await two();
    expect(await ann.run('b APPEND INBOX {5+}\r\nab\0cd')).toMatch(/^b BAD/);
    expect(await ann.run('c NOOP')).toMatch(/^c OK/);
    expect((await store.folder('INBOX')).incomingCount).toBe(0);
    expect((await store.folder('INBOX')).count).toBe(4);
  });

  test('broken off in the literal: nothing stays', async () => {
    const { store, ann } = await two();
    ann.send('b APPEND INBOX {1000000}\r\n');
    await ann.settled();
    ann.send('x'.repeat(5000));
    await ann.settled();
    expect((await store.folder('INBOX')).incomingCount).toBe(1);
    ann.closed = true;
    ann.session.connectionLost();
    await ann.settled();
    expect((await store.folder('INBOX')).incomingCount).toBe(0);
    expect((await store.folder('INBOX')).count).toBe(4);
    expect(ann.released).toBe(1);
  });

  test('text after the message: nothing stays', async () => {
    const { store, ann } = await two();
    expect(await ann.run('b APPEND INBOX {3+}\r\nabc (\\Seen)')).toMatch(/^b BAD/);
    expect(await ann.run('c APPEND INBOX {3+}\r\nabc {3+}\r\ndef x')).toMatch(/^c BAD/);
    expect(await ann.run('d NOOP')).toMatch(/^d OK/);
    expect((await store.folder('INBOX')).count).toBe(4);
    expect((await store.folder('INBOX')).incomingCount).toBe(0);
  });
});

describe('limits', () => {
  test('a session over its rate of commands is slowed down, and all are answered', async () => {
    const { store } = await two();
    const ann = new ImapClient(store, { limits: { commandsPerSecondMax: 5 } });
    const startedAt = performance.now();
    ann.send(Array.from({ length: 12 }, (_, at) => `a${at} NOOP\r\n`).join(''));
    const answer = await ann.until((text) => tagged(text, 'a11'));
    expect(answer.match(/^a\d+ OK/gm)).toHaveLength(12);
    // The first second may have begun before.
    expect(performance.now() - startedAt).toBeGreaterThan(950);
  });

  test('a client that reads nothing stops the answers, not the memory', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let count = 0; count < 200; count++) inbox.add(`Subject: x\r\n\r\n${'z'.repeat(200_000)}\r\n`);
    inbox.add(Buffer.alloc(20_000_000, 'q'));
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    const before = ann.writtenBytes;
    ann.reads = false;
    ann.send('b FETCH 1:* BODY.PEEK[]\r\n');
    await ann.settled();
    await ann.settled();
    expect(ann.writtenBytes - before).toBeLessThan(1_000_000);
    expect(inbox.openCount).toBeLessThan(20);
    // Input behind it is bounded too.
    for (let count = 0; count < 100; count++) ann.send(`c NOOP ${'x'.repeat(1000)}\r\n`);
    expect(ann.paused).toBe(true);
    ann.clock.tick(performance.now() + 6 * 60_000);
    await ann.settled();
    expect(ann.closed).toBe(true);
    expect(ann.released).toBe(1);
    expect(inbox.openCount).toBe(0);
    expect(inbox.watcherCount).toBe(0);
  });

  test('the answers go on when the client reads on', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    const big = Buffer.alloc(3_000_000, 'q');
    inbox.add(big);
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    ann.send('b FETCH 1 BODY.PEEK[]\r\n');
    ann.reads = true;
    expect((await ann.until((text) => text.indexOf('b OK') + 1)).length).toBeGreaterThan(3_000_000);
    expect(inbox.openCount).toBe(0);
  });

  test('a silent client is told BYE after the idle time', async () => {
    const { ann } = await two();
    ann.clock.tick(performance.now() + 31 * 60_000);
    expect(await ann.until(() => 0)).toMatch(/^\* BYE Autologout/);
    expect(ann.released).toBe(1);
  });

  test('an idling client hears something now and then', async () => {
    const { ann } = await two();
    ann.send('b IDLE\r\n');
    await ann.settled();
    ann.clock.tick(performance.now() + 5 * 60_000);
    expect(await ann.settled()).toBe('* OK Still here\r\n');
  });

  test('an account that leaves ends its sessions with BYE', async () => {
    const ended = new AbortController();
    const store = new MemoryStore();
    const ann = new ImapClient(store, { ended: ended.signal });
    await ann.run('a SELECT INBOX');
    ended.abort(new Fault('unavailable', 'Account is moving'));
    expect(await ann.until(() => 0)).toBe('* BYE [UNAVAILABLE] Account is moving\r\n');
    expect(ann.released).toBe(1);
    expect((await store.folder('INBOX')).watcherCount).toBe(0);
  });

  test('a lost lease is not answered but with BYE', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    inbox.add('x');
    inbox.changeFlags = async () => {
      throw new Fault('lease-lost', 'lease lost');
    };
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    ann.send('b STORE 1 +FLAGS (\\Seen)\r\nc NOOP\r\n');
    expect(await ann.until(() => 0)).toMatch(/^\* BYE \[UNAVAILABLE\] [^\n]*\n$/);
  });

  test('1:* ten thousand times costs what 1:* costs', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let count = 0; count < 2000; count++) inbox.add('x');
    const ann = new ImapClient(store, { limits: { lineBytesMax: 256 * 1024 } });
    await ann.run('a SELECT INBOX');
    const startedAt = performance.now();
    const answer = await ann.run(`b FETCH ${'1:*,'.repeat(9999)}1:* UID`);
    expect(answer.match(/FETCH/g)).toHaveLength(2001);
    expect(performance.now() - startedAt).toBeLessThan(1000);
  });

  test('a thousand search keys over text let others run', async () => {
    const store = new MemoryStore();
    const inbox = await store.folder('INBOX');
    for (let count = 0; count < 300; count++)
      inbox.add(`Subject: ${count}\r\n\r\n${'word '.repeat(1000)}\r\n`);
    const ann = new ImapClient(store);
    await ann.run('a SELECT INBOX');
    let longest = 0;
    let last = performance.now();
    let watching = true;
    const watch = () => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
      if (watching) setImmediate(watch);
    };
    setImmediate(watch);
    const keys = Array.from({ length: 200 }, (_, index) => `NOT BODY no${index}`).join(' ');
    expect(await ann.run(`b SEARCH ${keys}`)).toContain('* SEARCH 1 2 3');
    watching = false;
    expect(longest).toBeLessThan(1500);
  });

  test('many pipelined commands are all answered, in order', async () => {
    const { ann } = await two();
    ann.send(Array.from({ length: 5000 }, (_, index) => `t${index} NOOP\r\n`).join(''));
    const answer = await ann.until((text) => {
      const at = text.indexOf('t4999 OK');
      return at < 0 ? 0 : text.indexOf('\r\n', at) + 2;
    });
    expect(answer.split('\r\n').filter((line) => line !== '')).toEqual(
      Array.from({ length: 5000 }, (_, index) => `t${index} OK NOOP completed`),
    );
  });
});
