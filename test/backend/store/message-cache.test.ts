/** The cache of small messages: bounded, never stale, never another message's bytes. */
import { appendFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { MessageCache, messageCache } from '../../../backend/store/message-cache.ts';
import { type Bench, filesMade, makeBench, put, textOf } from './store-fixture.ts';

let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
});

afterEach(async () => {
  await bench.remove();
});

describe('the cache', () => {
  test('holds no more than its bound, and keeps what is asked for', () => {
    const cache = new MessageCache(100_000);
    for (let index = 0; index < 1000; index++) {
      cache.put(`k${index}`, Buffer.alloc(1000, index));
      expect(cache.bytes).toBeLessThanOrEqual(100_000);
      expect(cache.get('k0')).toEqual(Buffer.alloc(1000, 0));
    }
    expect(cache.get('k500')).toBeUndefined();
    expect(cache.get('k999')![0]).toBe(999 & 255);
  });

  test('does not take what would push everything else out', () => {
    const cache = new MessageCache(10_000);
    cache.put('large', Buffer.alloc(6000));
    expect(cache.get('large')).toBeUndefined();
    expect(cache.bytes).toBe(0);
  });
});

describe('a message read twice', () => {
  test('comes from memory the second time, with the same bytes', async () => {
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    await put(inbox, 'one\r\ntwo\r\n');
    await filesMade(inbox);
    expect(inbox.held!(1)).toBeUndefined();
    expect(await textOf(inbox, 1)).toBe('one\r\ntwo\r\n');
    expect(inbox.held!(1)!.toString()).toBe('one\r\ntwo\r\n');
    const [name] = await readdir(path.join(bench.directory, 'Maildir/cur'));
    // No program may do this; it shows that the file is not read again.
    await appendFile(path.join(bench.directory, 'Maildir/cur', name!), 'x');
    expect(await textOf(inbox, 1)).toBe('one\r\ntwo\r\n');
    await store.close();
  });

  test('is gone when it was expunged meanwhile', async () => {
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    await put(inbox, 'one');
    await filesMade(inbox);
    await textOf(inbox, 1);
    await inbox.expunge([1]);
    expect(inbox.held!(1)).toBeUndefined();
    await expect(inbox.open(1)).rejects.toMatchObject({ code: 'gone' });
    await store.close();
  });

  test('is read anew by the next opening of the account, and never taken for that of another folder', async () => {
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    const other = await store.createFolder('Other');
    await put(inbox, 'in inbox');
    await filesMade(inbox);
    await put(other, 'in other');
    expect([await textOf(inbox, 1), await textOf(other, 1)]).toEqual(['in inbox', 'in other']);
    expect([await textOf(inbox, 1), await textOf(other, 1)]).toEqual(['in inbox', 'in other']);
    await store.close();
    const again = await bench.open();
    const folder = await again.folder('INBOX');
    expect(folder.held!(1)).toBeUndefined();
    await again.close();
  });

  test('has CRLF line ends although its file has not', async () => {
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    await writeFile(path.join(bench.directory, 'Maildir/new/1.foreign'), 'a\nb\r\nc\n');
    await inbox.refresh();
    for (let round = 0; round < 2; round++) {
      const message = await inbox.open(1);
      expect(message.size).toBe(9);
      expect((await message.read(0, 100)).toString()).toBe('a\r\nb\r\nc\r\n');
      expect((await message.read(3, 4)).toString()).toBe('b');
      expect((await message.read(9, 3)).length).toBe(0);
      const streamed: Buffer[] = [];
      for await (const chunk of message.stream(2, 8)) streamed.push(chunk as Buffer);
      expect(Buffer.concat(streamed).toString()).toBe('\nb\r\nc\r');
      await message.close();
    }
    await store.close();
  });
});

test('what all accounts hold together stays within 64 MiB', () => {
  for (let index = 0; index < 400; index++) messageCache.put(`test:${index}`, Buffer.allocUnsafe(256 * 1024));
  expect(messageCache.bytes).toBeLessThanOrEqual(64 * 1024 * 1024);
});
