import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type FolderEvent, flagBit, type Store } from '../../../backend/store/store.ts';
import { Fault } from '../../../base/fault.ts';
import { type Bench, contentsOf, filesMade, keyOf, makeBench, put, textOf } from './store-fixture.ts';

describe.each(['maildir', 'mbox'] as const)('%s', (format) => {
  let bench: Bench;
  let store: Store;

  beforeEach(async () => {
    bench = await makeBench(format);
    store = await bench.open();
  });

  afterEach(async () => {
    await store.close();
    await bench.remove();
  });

  async function reopen(): Promise<void> {
    await store.close();
    store = await bench.open();
  }

  /** In the directory of INBOX. */
  const inboxPath = (name: string): string =>
    path.join(bench.directory, format === 'maildir' ? 'Maildir' : 'mbox/INBOX', name);

  describe('messages', () => {
    test('a message is the same bytes and facts before and after the account is opened anew', async () => {
      const inbox = await store.folder('INBOX');
      const text = 'Subject: one\r\n\r\nbody \u00e9\r\n.\r\n';
      const { uid } = await put(inbox, text, {
        flags: flagBit.seen | flagBit.draft,
        keywords: ['$Forwarded'],
      });
      expect(uid).toBe(1);
      expect(inbox.facts(1)).toMatchObject({
        uid: 1,
        size: Buffer.byteLength(text),
        internalDateMs: 1_700_000_000_000,
        flags: flagBit.seen | flagBit.draft,
        keywords: ['$Forwarded'],
      });
      const before = await contentsOf(inbox);
      await reopen();
      expect(await contentsOf(await store.folder('INBOX'))).toEqual(before);
      expect(store.usage).toEqual({ bytes: Buffer.byteLength(text), messages: 1 });
    });

    test('a large message streams through tmp/ and is read back in parts and as a stream', async () => {
      const inbox = await store.folder('INBOX');
      const chunk = Buffer.alloc(100_000, 'abcdefghi\n');
      const incoming = await inbox.append({ flags: 0, keywords: [], internalDateMs: Date.now() }, undefined);
      for (let index = 0; index < 20; index++) await incoming.write(chunk);
      const { uid } = await incoming.commit();
      const message = await inbox.open(uid);
      expect(message.size).toBe(2_000_000);
      expect((await message.read(999_990, 1_000_010)).toString()).toBe('abcdefghi\nabcdefghi\n');
      expect((await message.read(1_999_995, 9_999_999)).length).toBe(5);
      const parts: Buffer[] = [];
      for await (const part of message.stream(5, 1_999_999)) parts.push(part as Buffer);
      expect(Buffer.concat(parts).equals(Buffer.concat(Array(20).fill(chunk)).subarray(5, 1_999_999))).toBe(
        true,
      );
      await message.close();
      expect(await readdir(inboxPath('tmp'))).toEqual([]);
    });

    test('an aborted message leaves nothing behind, small or large', async () => {
      const inbox = await store.folder('INBOX');
      for (const size of [10, 600_000]) {
        const incoming = await inbox.append({ flags: 0, keywords: [], internalDateMs: 0 }, undefined);
        await incoming.write(Buffer.alloc(size));
        await incoming.abort();
      }
      expect(inbox.count).toBe(0);
      expect(await readdir(inboxPath('tmp'))).toEqual([]);
      if (format === 'maildir') expect(await readdir(inboxPath('cur'))).toEqual([]);
      else expect((await stat(inboxPath('mbox'))).size).toBe(0);
    });

    test('many at once get UIDs in the order they become visible', async () => {
      const inbox = await store.folder('INBOX');
      const seen: number[] = [];
      inbox.watch((event) => event.kind === 'added' && seen.push(...event.uids));
      const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => put(inbox, `m${index}`)));
      expect(new Set(answers.map((answer) => answer.uid)).size).toBe(200);
      expect(seen).toEqual([...inbox.uids()]);
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
      for (const [index, { uid }] of answers.entries()) expect(await textOf(inbox, uid)).toBe(`m${index}`);
    });

    test('a message over the limit is refused, told in advance or not', async () => {
      await store.close();
      store = await bench.open({ limits: { messageBytesMax: 100 } });
      const inbox = await store.folder('INBOX');
      await expect(inbox.append({ flags: 0, keywords: [], internalDateMs: 0 }, 101)).rejects.toMatchObject({
        code: 'message-too-big',
      });
      const incoming = await inbox.append({ flags: 0, keywords: [], internalDateMs: 0 }, undefined);
      await expect(incoming.write(Buffer.alloc(101))).rejects.toMatchObject({ code: 'message-too-big' });
      await incoming.abort();
    });

    test('quota of bytes and of messages is kept, also by many at once', async () => {
      await store.close();
      store = await bench.open({ limits: { quotaBytes: 1000, quotaMessages: 5 } });
      const inbox = await store.folder('INBOX');
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => put(inbox, 'x'.repeat(150))));
      expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(5);
      for (const result of results) {
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'over-quota' });
      }
      expect(store.usage).toEqual({ bytes: 750, messages: 5 });
      await inbox.expunge([1]);
      await expect(put(inbox, 'x'.repeat(500))).rejects.toMatchObject({ code: 'over-quota' });
      expect((await put(inbox, 'x'.repeat(100))).uid).toBe(6);
      await filesMade(inbox);
      expect(await readdir(inboxPath('tmp'))).toEqual([]);
    });
  });

  describe('delivery keys', () => {
    test('a retry finds the first copy: at once, at the same time, after reopening, and after it was expunged', async () => {
      let inbox = await store.folder('INBOX');
      const both = await Promise.all([
        put(inbox, 'a', { key: keyOf(1) }),
        put(inbox, 'a', { key: keyOf(1) }),
      ]);
      expect(both.map((one) => one.already).sort()).toEqual([false, true]);
      const now = { internalDateMs: Date.now() };
      const first = await put(inbox, 'b', { key: keyOf(2), ...now });
      await reopen();
      inbox = await store.folder('INBOX');
      expect(await put(inbox, 'b', { key: keyOf(2), ...now })).toEqual({ uid: first.uid, already: true });
      await inbox.expunge([first.uid]);
      expect(await put(inbox, 'b', { key: keyOf(2), ...now })).toEqual({ uid: first.uid, already: true });
      await reopen();
      inbox = await store.folder('INBOX');
      expect(await put(inbox, 'b', { key: keyOf(2), ...now })).toEqual({ uid: first.uid, already: true });
      expect(inbox.count).toBe(1);
    });

    test('a settled key matches no more, now and after reopening', async () => {
      let inbox = await store.folder('INBOX');
      const now = { internalDateMs: Date.now() };
      for (let index = 0; index < 4; index++) await put(inbox, 'a', { key: keyOf(index), ...now });
      await store.settle(keyOf(1));
      await inbox.expunge([3]);
      await store.settle(keyOf(2));
      expect((await put(inbox, 'a', { key: keyOf(1), ...now })).already).toBe(false);
      await reopen();
      inbox = await store.folder('INBOX');
      await store.settle(keyOf(1));
      await reopen();
      inbox = await store.folder('INBOX');
      expect((await put(inbox, 'a', { key: keyOf(0), ...now })).already).toBe(true);
      expect((await put(inbox, 'a', { key: keyOf(1), ...now })).already).toBe(false);
      expect((await put(inbox, 'a', { key: keyOf(2), ...now })).already).toBe(false);
      expect((await put(inbox, 'a', { key: keyOf(3), ...now })).already).toBe(true);
    });
  });

  describe('flags and keywords', () => {
    test('set, add and remove change what they say, tell who really changed, and stay', async () => {
      const inbox = await store.folder('INBOX');
      for (let index = 0; index < 4; index++) await put(inbox, 'x');
      const events: FolderEvent[] = [];
      inbox.watch((event) => events.push(event));
      const { seen, flagged, deleted } = flagBit;
      expect(await inbox.changeFlags([1, 2, 9], { how: 'add', flags: seen, keywords: ['Work'] })).toEqual([
        1, 2,
      ]);
      expect(await inbox.changeFlags([2, 1], { how: 'add', flags: seen, keywords: ['WORK'] })).toEqual([]);
      expect(await inbox.changeFlags([2, 3], { how: 'set', flags: flagged, keywords: [] })).toEqual([2, 3]);
      expect(await inbox.changeFlags([1], { how: 'remove', flags: deleted, keywords: ['work'] })).toEqual([
        1,
      ]);
      expect(await inbox.changeFlags([4], { how: 'remove', flags: seen, keywords: ['none'] })).toEqual([]);
      expect([...inbox.uids()].map((uid) => [inbox.flagsOf(uid), inbox.facts(uid)!.keywords])).toEqual([
        [seen, []],
        [flagged, []],
        [flagged, []],
        [0, []],
      ]);
      expect(events.map((event) => event.kind)).toEqual(['flags', 'flags', 'flags']);
      expect(inbox.unseenCount).toBe(3);
      expect(inbox.keywords).toContain('Work');
      const before = await contentsOf(inbox);
      await reopen();
      expect(await contentsOf(await store.folder('INBOX'))).toEqual(before);
      if (format === 'mbox') return;
      const names = await readdir(inboxPath('cur'));
      expect(names.map((name) => name.slice(name.indexOf(':'))).sort()).toEqual([
        ':2,',
        ':2,F',
        ':2,F',
        ':2,S',
      ]);
    });

    test('sequences only grow, and every change has its own', async () => {
      const inbox = await store.folder('INBOX');
      await put(inbox, 'x');
      await put(inbox, 'y');
      const start = inbox.highestModseq;
      await inbox.changeFlags([1], { how: 'add', flags: 1, keywords: [] });
      expect(inbox.facts(1)!.modseq).toBe(start + 1);
      await inbox.expunge([2]);
      expect(inbox.highestModseq).toBe(start + 2);
      await reopen();
      expect((await store.folder('INBOX')).highestModseq).toBe(start + 2);
    });

    test('a keyword over the limit is refused and changes nothing', async () => {
      await store.close();
      store = await bench.open({ limits: { keywordsPerFolderMax: 2 } });
      const inbox = await store.folder('INBOX');
      await put(inbox, 'x', { keywords: ['a', 'b'] });
      await expect(inbox.changeFlags([1], { how: 'add', flags: 1, keywords: ['c'] })).rejects.toMatchObject({
        code: 'limit-reached',
      });
      await expect(put(inbox, 'y', { keywords: ['c'] })).rejects.toMatchObject({ code: 'limit-reached' });
      expect(inbox.facts(1)).toMatchObject({ flags: 0, keywords: ['a', 'b'] });
    });
  });

  describe('expunge, copy, move', () => {
    test('expunged messages are gone for good, their UIDs never come again', async () => {
      let inbox = await store.folder('INBOX');
      for (let index = 0; index < 5; index++) await put(inbox, `m${index}`);
      const held = inbox.uids();
      expect(await inbox.expunge([5, 2, 77])).toEqual([2, 5]);
      expect([...held]).toEqual([1, 2, 3, 4, 5]);
      await expect(inbox.open(2)).rejects.toMatchObject({ code: 'gone' });
      await reopen();
      inbox = await store.folder('INBOX');
      expect([...inbox.uids()]).toEqual([1, 3, 4]);
      expect((await put(inbox, 'new')).uid).toBeGreaterThan(5);
      await filesMade(inbox);
      if (format === 'maildir') expect(await readdir(inboxPath('cur'))).toHaveLength(4);
      else expect((await readFile(inboxPath('mbox'), 'latin1')).match(/^From /gm)).toHaveLength(4);
    });

    test('copy and move keep bytes, date, flags, keywords and email id', async () => {
      const inbox = await store.folder('INBOX');
      const other = await store.createFolder('Other');
      for (let index = 0; index < 3; index++) {
        await put(inbox, `m${index}`, { flags: index, keywords: index === 1 ? ['kept'] : [] });
      }
      const facts = [1, 2, 3].map((uid) => inbox.facts(uid)!);
      expect(await inbox.copyTo(other, [3, 2])).toEqual([
        [2, 1],
        [3, 2],
      ]);
      expect(await inbox.moveTo(other, [1])).toEqual([[1, 3]]);
      expect([...inbox.uids()]).toEqual([2, 3]);
      expect(await inbox.copyTo(inbox, [2])).toEqual([[2, 4]]);
      expect(await inbox.moveTo(inbox, [3])).toEqual([[3, 5]]);
      const check = async (): Promise<void> => {
        const there = await store.folder('Other');
        for (const [uid, of] of [
          [1, 1],
          [2, 2],
          [3, 0],
        ] as const) {
          const { modseq: _, uid: __, ...kept } = facts[of]!;
          expect(there.facts(uid)).toMatchObject(kept);
          expect(await textOf(there, uid)).toBe(`m${of}`);
        }
        expect([...(await store.folder('INBOX')).uids()]).toEqual([2, 4, 5]);
      };
      await check();
      await reopen();
      await check();
      expect(store.usage.messages).toBe(6);
    });

    test('a copy over the quota copies nothing', async () => {
      await store.close();
      store = await bench.open({ limits: { quotaMessages: 4 } });
      const inbox = await store.folder('INBOX');
      const other = await store.createFolder('Other');
      for (let index = 0; index < 3; index++) await put(inbox, 'x');
      await expect(inbox.copyTo(other, [1, 2, 3])).rejects.toMatchObject({ code: 'over-quota' });
      expect(other.count).toBe(0);
      expect((await inbox.moveTo(other, [1, 2, 3])).length).toBe(3);
    });
  });

  describe('folders', () => {
    test('folders are made with their use, listed in order, and found again', async () => {
      await store.createFolder('b/c');
      await store.createFolder('Sent');
      await store.createFolder('Archiv', 'archive');
      await store.setSubscribed('b', true);
      await store.setSubscribed('INBOX', true);
      await expect(store.createFolder('Other', 'archive')).rejects.toMatchObject({ code: 'already-exists' });
      await expect(store.createFolder('Sent')).rejects.toMatchObject({ code: 'already-exists' });
      await expect(store.createFolder('inbox')).rejects.toMatchObject({ code: 'already-exists' });
      const expected = [
        { name: 'INBOX', specialUse: undefined, subscribed: true, selectable: true, format },
        { name: 'Archiv', specialUse: 'archive', subscribed: false, selectable: true, format },
        { name: 'Sent', specialUse: 'sent', subscribed: false, selectable: true, format },
        { name: 'b', specialUse: undefined, subscribed: true, selectable: false },
        { name: 'b/c', specialUse: undefined, subscribed: false, selectable: true, format },
      ];
      expect(store.listFolders()).toEqual(expected);
      await reopen();
      expect(store.listFolders()).toEqual(expected);
      await expect(store.folder('b')).rejects.toMatchObject({ code: 'no-such-folder' });
      await expect(store.setSubscribed('none', true)).rejects.toMatchObject({ code: 'no-such-folder' });
    });

    test('a deleted folder tells its sessions, and one made again has another UIDVALIDITY', async () => {
      const folder = await store.createFolder('Old');
      await put(folder, 'x');
      const events: FolderEvent[] = [];
      folder.watch((event) => events.push(event));
      await store.deleteFolder('Old');
      expect(events).toEqual([{ kind: 'gone' }]);
      await expect(folder.open(1)).rejects.toMatchObject({ code: 'gone' });
      expect(store.usage).toEqual({ bytes: 0, messages: 0 });
      await reopen();
      const again = await store.createFolder('Old');
      expect(again.uidValidity).toBeGreaterThan(folder.uidValidity);
      expect(again.mailboxId).not.toBe(folder.mailboxId);
      await expect(store.deleteFolder('INBOX')).rejects.toMatchObject({ code: 'not-allowed' });
      await expect(store.deleteFolder('None')).rejects.toMatchObject({ code: 'no-such-folder' });
    });

    test('a renamed folder takes its children and its messages along', async () => {
      const folder = await store.createFolder('a');
      const child = await store.createFolder('a/b');
      await store.createFolder('ab');
      await put(child, 'x');
      const before = await contentsOf(child);
      await store.renameFolder('a', 'z/y');
      expect(store.listFolders().map((info) => info.name)).toEqual(['INBOX', 'ab', 'z', 'z/y', 'z/y/b']);
      expect(child.name).toBe('z/y/b');
      expect(folder.name).toBe('z/y');
      expect(await contentsOf(child)).toEqual(before);
      await reopen();
      expect(await contentsOf(await store.folder('z/y/b'))).toEqual(before);
      await expect(store.renameFolder('z/y', 'ab')).rejects.toMatchObject({ code: 'already-exists' });
      await expect(store.renameFolder('z/y', 'z/y/x')).rejects.toMatchObject({ code: 'not-allowed' });
      await expect(store.renameFolder('none', 'x')).rejects.toMatchObject({ code: 'no-such-folder' });
    });

    test('renaming INBOX moves its messages and leaves it empty', async () => {
      const inbox = await store.folder('INBOX');
      await put(inbox, 'x');
      await put(inbox, 'y');
      await store.renameFolder('INBOX', 'Kept');
      expect(inbox.count).toBe(0);
      expect((await store.folder('Kept')).count).toBe(2);
      expect((await put(inbox, 'z')).uid).toBe(3);
    });

    test('there may be so many folders and no more', async () => {
      await store.close();
      store = await bench.open({ limits: { foldersMax: 3 } });
      await store.createFolder('a');
      await store.createFolder('b');
      await expect(store.createFolder('c')).rejects.toMatchObject({ code: 'limit-reached' });
    });

    const badNames = [
      '../x',
      'a/../../u2',
      '/abs',
      'a//b',
      'a/',
      '',
      '.',
      '..',
      'a/./b',
      'nul\0',
      'cr\r',
      '\u0085',
      '\ud800',
      'x'.repeat(401),
      `${'é'.repeat(190)}`,
      Array(60).fill('a').join('/'),
    ];
    test.each(badNames)('%j is no name of a folder and touches nothing', async (name) => {
      const before = await readdir(bench.directory);
      for (const attempt of [
        () => store.createFolder(name),
        () => store.folder(name),
        () => store.renameFolder('INBOX', name),
        () => store.setSubscribed(name, true),
      ]) {
        await expect(attempt()).rejects.toMatchObject({ code: 'bad-name' });
      }
      expect(await readdir(bench.directory)).toEqual(before);
      expect(
        (await readdir(path.join(bench.directory, 'Maildir'))).filter((entry) => entry[0] === '.'),
      ).toEqual([]);
    });

    test('a name has one folder, however it is spelled', async () => {
      await store.createFolder('caf\u00e9');
      await expect(store.createFolder('cafe\u0301')).rejects.toMatchObject({ code: 'already-exists' });
      expect((await store.folder('cafe\u0301')).name).toBe('caf\u00e9');
      expect((await store.folder('inBox')).name).toBe('INBOX');
      expect((await store.createFolder('inbox/x')).name).toBe('INBOX/x');
      const dotted = await store.createFolder('v1.2/&~');
      expect(dotted.name).toBe('v1.2/&~');
      await reopen();
      expect(store.listFolders().map((info) => info.name)).toEqual([
        'INBOX',
        'INBOX/x',
        'caf\u00e9',
        'v1.2',
        'v1.2/&~',
      ]);
      const place = format === 'maildir' ? 'Maildir/.v1&AC4-2.&-~/cur' : 'mbox/.v1&AC4-2.&-~/tmp';
      expect((await stat(path.join(bench.directory, place))).isDirectory()).toBe(true);
    });
  });

  describe('the right to act', () => {
    test('a lease lost before a change refuses it; lost while it became durable, nobody gets an answer', async () => {
      await store.close();
      let asked = 0;
      let failAfter = Number.POSITIVE_INFINITY;
      const guard = {
        epoch: 50,
        assert: () => {
          if (++asked > failAfter) throw new Fault('lease-lost', 'the lease ran out');
        },
      };
      store = await bench.open({ guard });
      const inbox = await store.folder('INBOX');
      await put(inbox, 'x');
      for (let allowed = 0; allowed < 3; allowed++) {
        failAfter = asked + allowed;
        await expect(inbox.changeFlags([1], { how: 'add', flags: 1, keywords: [] })).rejects.toMatchObject({
          code: 'lease-lost',
        });
      }
      expect(inbox.flagsOf(1)).toBe(0);
    });

    test('an owner that fell between its journal and its fence leaves nothing to the next but what was there', async () => {
      const inbox = await store.folder('INBOX');
      await put(inbox, 'one');
      await inbox.changeFlags([1], { how: 'add', flags: flagBit.flagged, keywords: ['$Label1'] });
      await store.close();
      const before = await readFile(path.join(bench.directory, 'journal.1'));
      // its journal was there, and the old fence as well: a cut of power before the directory was synced
      await writeFile(path.join(bench.directory, 'journal.5'), before);
      store = await bench.open({ epoch: 9 });
      const again = await store.folder('INBOX');
      expect(again.facts(1)).toMatchObject({ flags: flagBit.flagged, keywords: ['$Label1'] });
      expect((await put(again, 'two')).uid).toBe(2);
      expect((await readdir(bench.directory)).filter((name) => name.startsWith('journal.'))).toEqual([
        'journal.9',
      ]);
      await expect(bench.open({ epoch: 5 })).rejects.toMatchObject({ code: 'not-owner' });
    });

    test('a greater epoch in the owner file keeps this backend out; a former owner writes where nobody reads', async () => {
      const inbox = await store.folder('INBOX');
      await put(inbox, 'x');
      await put(inbox, 'y');
      // The former owner is still alive and does not know that it lost the account.
      const next = await bench.open({ epoch: 9 });
      await inbox.changeFlags([1, 2], { how: 'add', flags: flagBit.deleted, keywords: [] }).catch(() => {});
      await expect(bench.open({ epoch: 8 })).rejects.toMatchObject({ code: 'not-owner' });
      const theirs = await next.folder('INBOX');
      expect([...theirs.uids()].map((uid) => theirs.flagsOf(uid))).toEqual([0, 0]);
      await next.close();
      const later = await bench.open({ epoch: 10 });
      expect((await later.folder('INBOX')).count).toBe(2);
      await later.close();
    });
  });
});
