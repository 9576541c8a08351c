/** `\Recent` (RFC 3501 2.3.2): recent to the first session that is told, to nobody after it, and to no IMAP4rev2 client. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Store } from '../../../backend/store/store.ts';
import { type Bench, makeBench } from '../store/store-fixture.ts';
import { ImapClient } from './imap-client.ts';

let bench: Bench;
let store: Store;

beforeEach(async () => {
  bench = await makeBench();
  store = await bench.open();
});

afterEach(async () => {
  await store.close();
  await bench.remove();
});

const message = 'Subject: x\r\n\r\nbody\r\n';
const append = (client: ImapClient, flags = '') =>
  client.run(`z APPEND INBOX (${flags}) {${message.length}+}\r\n${message}`);

test('messages nobody was told of are recent to the session that selects, and to none after it', async () => {
  const [ann, bob, eve] = [new ImapClient(store), new ImapClient(store), new ImapClient(store)];
  await append(eve);
  await append(eve, '\\Seen');
  expect(await eve.run('a STATUS INBOX (MESSAGES RECENT)')).toContain('(MESSAGES 2 RECENT 2)');
  expect(await ann.run('a SELECT INBOX')).toContain('* 2 RECENT\r\n');
  expect(await ann.run('b FETCH 1:2 FLAGS')).toContain(
    '* 1 FETCH (FLAGS (\\Recent))\r\n* 2 FETCH (FLAGS (\\Seen \\Recent))\r\n',
  );
  expect(await ann.run('c SEARCH NEW')).toContain('* SEARCH 1\r\n');
  expect(await ann.run('c SEARCH RECENT')).toContain('* SEARCH 1 2\r\n');
  expect(await ann.run('c SEARCH OLD')).toContain('* SEARCH\r\n');
  expect(await ann.run('d STORE 1 +FLAGS (\\Seen)')).toContain('* 1 FETCH (FLAGS (\\Seen \\Recent))\r\n');
  expect(await bob.run('a SELECT INBOX')).toContain('* 0 RECENT\r\n');
  expect(await bob.run('b FETCH 1:2 FLAGS')).not.toContain('Recent');
  expect(await bob.run('c SEARCH OLD')).toContain('* SEARCH 1 2\r\n');
  expect(await eve.run('a STATUS INBOX (RECENT)')).toContain('(RECENT 0)');
});

test('EXAMINE tells it and takes it from nobody', async () => {
  const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
  await append(ann);
  expect(await ann.run('a EXAMINE INBOX')).toContain('* 1 RECENT\r\n');
  expect(await ann.run('b FETCH 1 FLAGS')).toContain('(FLAGS (\\Recent))');
  expect(await bob.run('a SELECT INBOX')).toContain('* 1 RECENT\r\n');
});

test('a message that comes is recent to the first of the sessions that hear of it', async () => {
  const [ann, bob, eve] = [new ImapClient(store), new ImapClient(store), new ImapClient(store)];
  await ann.run('a SELECT INBOX');
  await bob.run('a SELECT INBOX');
  await append(eve);
  expect(await bob.run('b NOOP')).toBe('* 1 EXISTS\r\n* 1 RECENT\r\nb OK NOOP completed\r\n');
  expect(await ann.run('b NOOP')).toBe('* 1 EXISTS\r\nb OK NOOP completed\r\n');
  await append(eve);
  expect(await ann.run('c NOOP')).toBe('* 2 EXISTS\r\n* 1 RECENT\r\nc OK NOOP completed\r\n');
  await bob.run('c NOOP');
  expect(await ann.run('d FETCH 1:2 FLAGS')).toContain('1 FETCH (FLAGS ())\r\n* 2 FETCH (FLAGS (\\Recent))');
  expect(await bob.run('d FETCH 1:2 FLAGS')).toContain('1 FETCH (FLAGS (\\Recent))\r\n* 2 FETCH (FLAGS ())');
});

test('a copy is recent in its new mailbox', async () => {
  const [ann, bob] = [new ImapClient(store), new ImapClient(store)];
  await ann.run('a CREATE other');
  await append(ann);
  await ann.run('b SELECT INBOX');
  await bob.run('b SELECT other');
  await ann.run('c COPY 1 other');
  expect(await bob.run('c NOOP')).toContain('* 1 EXISTS\r\n* 1 RECENT\r\n');
});

test('IMAP4rev2 knows neither flag nor answer', async () => {
  const ann = new ImapClient(store);
  await append(ann);
  await ann.run('a ENABLE IMAP4rev2');
  expect(await ann.run('b SELECT INBOX')).not.toMatch(/RECENT/);
  expect(await ann.run('c FETCH 1 FLAGS')).toContain('(FLAGS ())');
});

test('what was there when the account was opened is not recent', async () => {
  const ann = new ImapClient(store);
  await append(ann);
  await store.close();
  store = await bench.open();
  const bob = new ImapClient(store);
  expect(await bob.run('a SELECT INBOX')).toContain('* 0 RECENT\r\n');
});

test('no client may set it', async () => {
  const ann = new ImapClient(store);
  await append(ann);
  await ann.run('a SELECT INBOX');
  expect(await ann.run('b STORE 1 +FLAGS (\\Recent)')).toMatch(/^b BAD/);
  expect(await ann.run('b SEARCH KEYWORD \\Recent')).toMatch(/^b BAD/);
});
