/**
 * The index of a folder is a cache (invariant 8): believed when it shows the
 * state of now, and otherwise as good as deleted.
 */
import { mkdir, readdir, readFile, rename, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { indexName } from '../../../backend/store/folder-index.ts';
import type { MaildirFolder } from '../../../backend/store/maildir-folder.ts';
import { formatMessageName } from '../../../backend/store/message-name.ts';
import type { Folder } from '../../../backend/store/store.ts';
import { type Bench, keyOf, makeBench, put, textOf } from './store-fixture.ts';

const count = 1200;
let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
  const cur = path.join(bench.directory, 'Maildir/cur');
  await mkdir(cur, { recursive: true });
  for (let uid = 1; uid <= count; uid++) {
    const name = formatMessageName({
      seconds: 1_700_000_000 + uid,
      uid,
      emailId: uid.toString(16).padStart(16, '0'),
      modseq: uid,
      deliveryKey: undefined,
      host: 'h',
      fileBytes: 3,
      size: 3,
      flags: uid % 32,
      otherLetters: uid % 100 === 0 ? 'a' : '',
    });
    await writeFile(path.join(cur, name), 'a\r\n');
  }
});

afterEach(async () => {
  await bench.remove();
});

const indexFile = (): string => path.join(bench.directory, 'Maildir', indexName);
const cur = (name = ''): string => path.join(bench.directory, 'Maildir/cur', name);

function viewOf(folder: Folder): unknown {
  const { uidValidity, uidNext, highestModseq, unseenCount, sizeBytes, keywords, mailboxId } = folder;
  const messages = [...folder.uids()].map((uid) => folder.facts(uid));
  return { uidValidity, uidNext, highestModseq, unseenCount, sizeBytes, keywords, mailboxId, messages };
}

/** Opens, does `work`, closes. @returns what the folder showed before the close, and whether it came from the index. */
async function opened(work: (inbox: Folder) => Promise<unknown> = async () => {}) {
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  const fromIndex = (inbox as MaildirFolder).indexed !== undefined;
  await work(inbox);
  const view = viewOf(inbox);
  await store.close();
  return { fromIndex, view };
}

const changes = async (inbox: Folder): Promise<void> => {
  await inbox.changeFlags([5, 6, 7], { how: 'add', flags: 4, keywords: ['$Junk', 'b'] });
  await inbox.changeFlags([9], { how: 'set', flags: 0, keywords: ['b'] });
  await inbox.expunge([1, 100, 101, 1200]);
  await put(inbox, 'new', { key: keyOf(1), internalDateMs: Date.now() });
};

test('a folder read from its index is the folder read from its names', async () => {
  const before = await opened(changes);
  expect(before.fromIndex).toBe(false);
  const indexed = await opened();
  expect(indexed).toEqual({ fromIndex: true, view: before.view });
  await rm(indexFile());
  expect(await opened()).toEqual({ fromIndex: false, view: before.view });
  // Written again at that close.
  expect(await opened()).toEqual({ fromIndex: true, view: before.view });
});

test('a folder from its index goes on as any other', async () => {
  await opened(changes);
  const after = await opened(async (inbox) => {
    expect((await put(inbox, 'again', { key: keyOf(1), internalDateMs: Date.now() })).already).toBe(true);
    expect((await put(inbox, 'more', { keywords: ['c'] })).uid).toBe(1202);
    expect(await textOf(inbox, 1202)).toBe('more');
    await inbox.expunge([2, 3]);
    await inbox.changeFlags([4, 1201], { how: 'add', flags: 31, keywords: ['c'] });
  });
  expect(after.fromIndex).toBe(true);
  await rm(indexFile());
  expect((await opened()).view).toEqual(after.view);
});

const damages: Record<string, () => Promise<void>> = {
  deleted: () => rm(indexFile()),
  emptied: () => writeFile(indexFile(), ''),
  'cut to half': async () => {
    const data = await readFile(indexFile());
    await writeFile(indexFile(), data.subarray(0, data.length >> 1));
  },
  zeroed: async () => writeFile(indexFile(), Buffer.alloc((await stat(indexFile())).size)),
  'flipped in a column': async () => {
    const data = await readFile(indexFile());
    data[data.length >> 2]! ^= 1;
    await writeFile(indexFile(), data);
  },
  'flipped in a name': async () => {
    const data = await readFile(indexFile());
    data[data.length - 5]! ^= 1;
    await writeFile(indexFile(), data);
  },
  'flipped in its facts': async () => {
    const data = await readFile(indexFile());
    data[data.indexOf('"unseen":') + 9]! ^= 1;
    await writeFile(indexFile(), data);
  },
  'replaced by a directory': async () => {
    await rm(indexFile());
    await mkdir(indexFile());
  },
};

describe('an index that was', () => {
  test.each(Object.keys(damages))('%s is not believed', async (name) => {
    const before = await opened(changes);
    await damages[name]!();
    expect(await opened()).toEqual({ fromIndex: false, view: before.view });
  });

  test('left from before the last changes is not believed', async () => {
    await opened();
    const old = await readFile(indexFile());
    const times = await stat(cur());
    const before = await opened(changes);
    await writeFile(indexFile(), old);
    await utimes(cur(), times.atime, times.mtime);
    expect(await opened()).toEqual({ fromIndex: false, view: before.view });
  });

  test('written by an account whose process then died in the midst of a change is not believed', async () => {
    await opened();
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    await inbox.changeFlags([1], { how: 'set', flags: 9, keywords: ['k'] });
    const again = await bench.open();
    const folder = await again.folder('INBOX');
    expect((folder as MaildirFolder).indexed).toBeUndefined();
    expect(folder.facts(1)).toMatchObject({ flags: 9, keywords: ['k'] });
    await again.close();
    await store.close();
  });
});

describe('another program', () => {
  test('that removes, adds and renames while the account is closed is noticed at once', async () => {
    await opened();
    const names = (await readdir(cur())).sort();
    await unlink(cur(names[0]));
    await rename(cur(names[1]), cur(names[1]!.replace(/:2,.*/, ':2,F')));
    await writeFile(cur('123.other.host:2,S'), 'x');
    const { fromIndex, view } = await opened();
    expect(fromIndex).toBe(false);
    const messages = (view as { messages: { uid: number; flags: number }[] }).messages;
    expect(messages).toHaveLength(count);
    expect(messages[0]).toMatchObject({ uid: 2, flags: 4 });
    expect(messages.at(-1)).toMatchObject({ flags: 1 });
    expect((await opened()).fromIndex).toBe(true);
  });

  test('that delivers into new/ is noticed with the index', async () => {
    await opened();
    await writeFile(path.join(bench.directory, 'Maildir/new/123.other.host'), 'x');
    const { fromIndex, view } = await opened();
    expect(fromIndex).toBe(true);
    expect((view as { messages: unknown[] }).messages).toHaveLength(count + 1);
  });

  test('whose change hid behind ones of ours is noticed a little later', async () => {
    await opened(async (inbox) => {
      await inbox.changeFlags([1], { how: 'set', flags: 9, keywords: [] });
      await writeFile(cur('123.other.host:2,'), 'x');
    });
    const store = await bench.open();
    const inbox = (await store.folder('INBOX')) as MaildirFolder;
    expect(inbox.indexed).toMatchObject({ exact: false });
    expect(inbox.count).toBe(count);
    // As if the time had passed.
    inbox.lookedAtMs -= 1_000_000;
    await inbox.refresh();
    expect(inbox.count).toBe(count + 1);
    await store.close();
  });
});
