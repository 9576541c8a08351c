/** What the store remembers of expunged messages, for clients that come back (RFC 7162 QRESYNC). */
import { readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Folder, Store } from '../../../backend/store/store.ts';
import { type Bench, makeBench, put } from './store-fixture.ts';

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

async function filled(count: number): Promise<Folder> {
  const inbox = await store.folder('INBOX');
  for (let index = 0; index < count; index++) await put(inbox, `m${index}`);
  return inbox;
}

test('expunged UIDs are told since a modseq, and after a clean restart too', async () => {
  let inbox = await filled(6);
  const start = inbox.highestModseq;
  await inbox.expunge([2, 3]);
  const middle = inbox.highestModseq;
  await inbox.moveTo(await store.createFolder('Away'), [5]);
  const check = () => {
    expect(inbox.expungedSince(start)).toEqual([
      [2, 3],
      [5, 5],
    ]);
    expect(inbox.expungedSince(middle)).toEqual([[5, 5]]);
    expect(inbox.expungedSince(inbox.highestModseq)).toEqual([]);
    expect(inbox.modseqOf(5)).toBeUndefined();
    expect(inbox.modseqOf(6)).toBe(inbox.facts(6)?.modseq);
  };
  check();
  await store.close();
  store = await bench.open();
  inbox = await store.folder('INBOX');
  check();
});

test('hundreds of expunges are joined, and none is forgotten', async () => {
  const inbox = await filled(300);
  const start = inbox.highestModseq;
  for (let uid = 1; uid <= 300; uid += 1) await inbox.expunge([uid]);
  expect(inbox.expungedSince(start)).toEqual([[1, 300]]);
  const late = inbox.expungedSince(inbox.highestModseq - 3)!;
  expect(late.at(-1)).toEqual([298, 300]);
});

test('files that went while nobody looked raise HIGHESTMODSEQ, and what was expunged is unknown before it', async () => {
  let inbox = await filled(4);
  const before = inbox.highestModseq;
  await store.close();
  const cur = path.join(bench.directory, 'Maildir/cur');
  const name = (await readdir(cur)).find((text) => text.includes('.U2_'))!;
  await unlink(path.join(cur, name));
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect([...inbox.uids()]).toEqual([1, 3, 4]);
  expect(inbox.highestModseq).toBeGreaterThan(before);
  expect(inbox.expungedSince(before)).toBeUndefined();
  expect(inbox.expungedSince(inbox.highestModseq)).toEqual([]);
});

test('UNCHANGEDSINCE leaves what is newer alone', async () => {
  const inbox = await filled(2);
  const modseq = inbox.modseqOf(2)!;
  await inbox.changeFlags([1], { how: 'add', flags: 1, keywords: [] });
  expect(
    await inbox.changeFlags([1, 2], { how: 'add', flags: 4, keywords: [], unchangedSince: modseq }),
  ).toEqual([2]);
  expect(inbox.flagsOf(1)).toBe(1);
});
