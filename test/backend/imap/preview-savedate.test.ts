/** PREVIEW (RFC 8970) and SAVEDATE (RFC 8514), command by command; save dates through the real store. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Store } from '../../../backend/store/store.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { type Bench, makeBench, put } from '../store/store-fixture.ts';
import { type Dialog, play } from './dialog-table.ts';
import { ImapClient } from './imap-client.ts';

const html = [
  'Subject: h',
  'Content-Type: multipart/alternative; boundary=xx',
  '',
  '--xx',
  'Content-Type: text/html; charset=utf-8',
  '',
  '<style>p { color: red }</style><p>Hello &amp; <b>good</b> morning</p>',
  '--xx--',
  '',
].join('\r\n');

async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  inbox.add('Subject: s\r\n\r\nThe first\r\n  words.\r\n');
  inbox.add(html);
  inbox.add('Content-Type: image/png\r\n\r\nxxxx\r\n');
  inbox.add(`Content-Type: text/plain; charset=utf-8\r\n\r\n${'ä'.repeat(400)}\r\n`);
  return store;
}

describe('PREVIEW', () => {
  const rows: Dialog[] = [
    { says: 'an unknown modifier', send: ['a SELECT INBOX', 'b FETCH 1 PREVIEW (FROB)'], gives: [/^b BAD/] },
    {
      says: 'an unknown modifier in a list',
      send: ['a SELECT INBOX', 'b FETCH 1 (PREVIEW (FROB))'],
      gives: [/^b BAD/],
    },
    {
      says: 'plain text',
      send: ['a SELECT INBOX', 'b FETCH 1 PREVIEW'],
      gives: ['* 1 FETCH (PREVIEW "The first words.")\r\nb OK'],
    },
    {
      says: 'LAZY in a list',
      send: ['a SELECT INBOX', 'b FETCH 1 (UID PREVIEW (LAZY) FLAGS)'],
      gives: ['* 1 FETCH (UID 1 PREVIEW "The first words." FLAGS ())'],
    },
    {
      says: 'LAZY alone, and a modifier of FETCH behind it',
      send: ['a SELECT INBOX', 'b FETCH 1 PREVIEW (LAZY) (CHANGEDSINCE 1)'],
      gives: ['PREVIEW "The first words." MODSEQ (2))'],
    },
    {
      says: 'a modifier of FETCH right behind PREVIEW',
      send: ['a SELECT INBOX', 'b FETCH 1 PREVIEW (CHANGEDSINCE 1)'],
      gives: ['PREVIEW "The first words." MODSEQ (2))'],
    },
    {
      says: 'HTML without its markup',
      send: ['a SELECT INBOX', 'b FETCH 2 PREVIEW'],
      gives: ['PREVIEW "Hello & good morning")'],
    },
    { says: 'no text', send: ['a SELECT INBOX', 'b FETCH 3 PREVIEW'], gives: ['PREVIEW "")'] },
    {
      says: '200 characters at most, UTF-8 in a literal',
      send: ['a SELECT INBOX', 'b FETCH 4 PREVIEW'],
      gives: ['PREVIEW {400}\r\n'],
    },
    {
      says: 'PREVIEW does not set \\Seen',
      send: ['a SELECT INBOX', 'b FETCH 1 PREVIEW', 'c FETCH 1 FLAGS'],
      gives: ['FLAGS ())'],
    },
  ];
  test.each(rows)('$says', async (row) => {
    await play(await sample(), row);
  });
});

describe('SAVEDATE', () => {
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

  test('is when a message came into its folder, survives a restart, and is new in a copy', async () => {
    const inbox = await store.folder('INBOX');
    const before = Math.floor(Date.now() / 1000) * 1000;
    await put(inbox, 'old\r\n', { internalDateMs: Date.UTC(2001, 1, 3) });
    await put(inbox, 'new\r\n', { internalDateMs: Date.now() });
    const saved = inbox.savedDateMs(1)!;
    expect(saved).toBeGreaterThanOrEqual(before);
    expect(inbox.savedDateMs(2)! - saved).toBeLessThan(5000);
    expect(inbox.savedDateMs(9)).toBeUndefined();
    await inbox.copyTo(await store.createFolder('Copy'), [1]);
    await store.close();
    store = await bench.open();
    expect((await store.folder('INBOX')).savedDateMs(1)).toBe(saved);
    expect((await store.folder('Copy')).savedDateMs(1)).toBeGreaterThanOrEqual(saved);
    expect((await store.folder('Copy')).facts(1)?.internalDateMs).toBe(Date.UTC(2001, 1, 3));
  });

  test('is fetched and searched', async () => {
    await put(await store.folder('INBOX'), 'old\r\n', { internalDateMs: Date.UTC(2001, 1, 3) });
    const client = new ImapClient(store);
    await client.run('a SELECT INBOX');
    const year = new Date().getUTCFullYear();
    expect(await client.run('b FETCH 1 (INTERNALDATE SAVEDATE)')).toMatch(
      new RegExp(`INTERNALDATE "03-Feb-2001 [^"]*" SAVEDATE "\\d\\d-\\w{3}-${year} [^"]*"\\)`),
    );
    expect(await client.run('c SEARCH SAVEDSINCE 1-Jan-2002')).toContain('* SEARCH 1\r\n');
    expect(await client.run('d SEARCH SAVEDBEFORE 1-Jan-2002')).toContain('* SEARCH\r\n');
    expect(await client.run('e SEARCH SAVEDON 3-Feb-2001')).toContain('* SEARCH\r\n');
    expect(await client.run('f SEARCH SAVEDATESUPPORTED')).toContain('* SEARCH 1\r\n');
    expect(await client.run('g SEARCH SAVEDON x')).toMatch(/^g BAD/);
  });
});
