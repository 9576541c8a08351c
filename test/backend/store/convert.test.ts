/** Folders between the formats: everything a client or a sender knows stays. Crashes in between: `crash-matrix.test.ts`. */
import { appendFile, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { checkAccount } from '../../../backend/store/check/check-account.ts';
import { type Folder, type FolderFormat, flagBit, type Store } from '../../../backend/store/store.ts';
import { type Bench, contentsOf, keyOf, limits, makeBench, put, textOf } from './store-fixture.ts';

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

async function reopen(): Promise<void> {
  await store.close();
  store = await bench.open();
}

const formatOf = (name: string): FolderFormat | undefined =>
  store.listFolders().find((folder) => folder.name === name)?.format;

async function seenOf(name: string): Promise<unknown> {
  const folder: Folder = await store.folder(name);
  const saved = [...folder.uids()].map((uid) => folder.savedDateMs(uid));
  const { highestModseq, ...others } = (await contentsOf(folder)) as { highestModseq: number };
  return [others, highestModseq, saved, folder.expungedSince(3), folder.keywords.toSorted()];
}

describe.each(['INBOX', 'Work', 'Work/deep'])('%s', (name) => {
  test('keeps UIDs, UIDVALIDITY, flags, keywords, dates, sequences, email ids, expunges and delivery keys', async () => {
    if (name !== 'INBOX') await store.createFolder(name);
    const folder = await store.folder(name);
    const bodies = [
      'a\r\n\r\nFrom x\r\n',
      'bare\nlf\n',
      '',
      'open end',
      'Status: RO\r\n\r\nx\r\n',
      'x'.repeat(400_000),
    ];
    for (const [index, body] of bodies.entries()) {
      await put(folder, body, {
        flags: index,
        keywords: index % 2 ? [`k${index}`] : [],
        key: keyOf(index + 1),
        internalDateMs: index % 2 ? Date.now() - 1000 : 1_700_000_000_000,
      });
    }
    await put(folder, 'expunged');
    await folder.expunge([3, 7]);
    await folder.changeFlags([2], { how: 'set', flags: flagBit.flagged, keywords: ['Later'] });
    const before = await seenOf(name);
    const { usage } = store;
    const counted = { ...usage };
    for (const to of ['mbox', 'maildir', 'mbox'] as const) {
      const events: string[] = [];
      (await store.folder(name)).watch((event) => events.push(event.kind));
      await store.convertFolder!(name, to);
      expect(events).toEqual(['gone']);
      expect(formatOf(name)).toBe(to);
      expect(await seenOf(name)).toEqual(before);
      expect(store.usage).toEqual(counted);
      await reopen();
      expect(formatOf(name)).toBe(to);
      expect(await seenOf(name)).toEqual(before);
      expect(store.usage).toEqual(counted);
      // A sender that comes again is answered with the first copy's UID.
      expect(await put(await store.folder(name), 'bare\nlf\n', { key: keyOf(2) })).toEqual({
        uid: 2,
        already: true,
      });
    }
    await store.close();
    const guard = { epoch: 1000, assert: () => {} };
    const open = () => bench.open({ epoch: 1000 });
    const report = await checkAccount(
      { directory: bench.directory, guard, limits, open },
      { deep: true, repair: false },
      new Date(),
    );
    expect(report.findings.filter(({ kind }) => kind === 'damage')).toEqual([]);
    expect(report.messages).toBe(5);
    store = await bench.open({ epoch: 1001 });
    const uid = (await put(await store.folder(name), 'next')).uid;
    expect(uid).toBeGreaterThanOrEqual(8);
  });
});

test('mail of other programs gets its UID before a folder is converted', async () => {
  await store.folder('INBOX');
  await writeFile(path.join(bench.directory, 'Maildir/new/1.M1P1.x'), 'Subject: theirs\n\nbody\n');
  await store.convertFolder!('INBOX', 'mbox');
  const inbox = await store.folder('INBOX');
  expect(await textOf(inbox, 1)).toBe('Subject: theirs\r\n\r\nbody\r\n');
  await appendFile(
    path.join(bench.directory, 'mbox/INBOX/mbox'),
    'From a Mon Jan  1 00:00:00 2024\nSubject: more\n\n\n',
  );
  await store.convertFolder!('INBOX', 'maildir');
  const again = await store.folder('INBOX');
  expect([...again.uids()]).toEqual([1, 2]);
  expect(await textOf(again, 2)).toBe('Subject: more\r\n\r\n');
  await reopen();
  expect((await readdir(bench.directory)).filter((entry) => /folder-|left-/.test(entry))).toEqual([]);
});

test('what was put into the Maildir of an INBOX that is an mbox comes when it is a Maildir again', async () => {
  await put(await store.folder('INBOX'), 'one');
  await store.convertFolder!('INBOX', 'mbox');
  await writeFile(path.join(bench.directory, 'Maildir/new/1.M1P1.x'), 'Subject: late\n\n');
  await reopen();
  expect((await store.folder('INBOX')).count).toBe(1);
  await store.convertFolder!('INBOX', 'maildir');
  await reopen();
  const inbox = await store.folder('INBOX');
  await inbox.refresh();
  expect(inbox.count).toBe(2);
});

test('messages that came through the intake log do not come again when the process ends after a conversion', async () => {
  const inbox = await store.folder('INBOX');
  for (const text of ['one', 'two', 'three']) await put(inbox, text);
  await store.convertFolder!('INBOX', 'mbox');
  const before = await seenOf('INBOX');
  // Never closed: the next owner finds the log as a killed process leaves it.
  const killed = store;
  store = await bench.open();
  expect(await seenOf('INBOX')).toEqual(before);
  expect(await readdir(path.join(bench.directory, 'Maildir/cur'))).toEqual([]);
  await store.convertFolder!('INBOX', 'maildir');
  await reopen();
  expect(await seenOf('INBOX')).toEqual(before);
  await killed.close().catch(() => {});
});

test('another program that delivers into an mbox waits while that is converted', async () => {
  const inbox = await store.folder('INBOX');
  for (let count = 0; count < 50; count++) await put(inbox, `Subject: ${count}\r\n\r\n`);
  await store.convertFolder!('INBOX', 'mbox');
  const lock = path.join(bench.directory, 'mbox/INBOX/mbox.lock');
  const converting = store.convertFolder!('INBOX', 'maildir');
  let seen = false;
  let done = false;
  void converting.finally(() => {
    done = true;
  });
  while (!done && !seen) {
    seen = await readFile(lock).then(
      () => true,
      () => false,
    );
  }
  await converting;
  expect(seen).toBe(true);
  expect((await store.folder('INBOX')).count).toBe(50);
});

test('copies and moves go between folders of both formats, and keep what a copy keeps', async () => {
  const inbox = await store.folder('INBOX');
  await store.createFolder('Box');
  await store.convertFolder!('Box', 'mbox');
  const box = await store.folder('Box');
  await put(inbox, 'one\r\nFrom x\r\n', { flags: 5, keywords: ['Work'] });
  await put(inbox, 'two'.repeat(200_000));
  const { emailId } = inbox.facts(1)!;
  expect(await inbox.copyTo(box, [1, 2])).toEqual([
    [1, 1],
    [2, 2],
  ]);
  expect(box.facts(1)).toMatchObject({ flags: 5, keywords: ['Work'], emailId });
  expect(await box.moveTo(box, [2])).toEqual([[2, 3]]);
  expect(await box.moveTo(inbox, [1, 3])).toEqual([
    [1, 3],
    [3, 4],
  ]);
  expect(box.count).toBe(0);
  expect(await textOf(inbox, 3)).toBe('one\r\nFrom x\r\n');
  expect(await textOf(inbox, 4)).toBe('two'.repeat(200_000));
  expect(inbox.facts(3)).toMatchObject({ flags: 5, keywords: ['Work'], emailId });
  await reopen();
  expect([...(await store.folder('INBOX')).uids()]).toEqual([1, 2, 3, 4]);
  expect((await store.folder('Box')).count).toBe(0);
});
