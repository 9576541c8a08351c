/** CASES 96: other programs add, rename and remove files in the Maildir. */
import { mkdir, readdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Folder, type FolderEvent, flagBit, type Store } from '../../../backend/store/store.ts';
import { type Bench, contentsOf, filesMade, makeBench, put, textOf } from './store-fixture.ts';

let bench: Bench;
let store: Store;
let inbox: Folder;
let maildir: string;

beforeEach(async () => {
  bench = await makeBench();
  store = await bench.open();
  inbox = await store.folder('INBOX');
  maildir = path.join(bench.directory, 'Maildir');
});

afterEach(async () => {
  await store.close();
  await bench.remove();
});

test('a file put into new/ or cur/ appears once, with the next UID, CRLF bytes and its flags', async () => {
  await put(inbox, 'ours');
  await filesMade(inbox);
  const text = 'Subject: a\n\nline\r\nbare\r\n\n';
  await writeFile(path.join(maildir, 'new/1700000001.M1P1.host'), text);
  await writeFile(path.join(maildir, 'cur/1700000002.M1P1.host:2,FSa'), 'x\n');
  await utimes(path.join(maildir, 'cur/1700000002.M1P1.host:2,FSa'), 1_600_000_000, 1_600_000_000);
  const events: FolderEvent[] = [];
  inbox.watch((event) => events.push(event));
  await Promise.all([inbox.refresh(), inbox.refresh()]);
  await inbox.refresh();
  expect(events).toEqual([{ kind: 'added', uids: [2, 3] }]);
  const crlf = 'Subject: a\r\n\r\nline\r\nbare\r\n\r\n';
  expect(await textOf(inbox, 2)).toBe(crlf);
  expect(inbox.facts(2)!.size).toBe(crlf.length);
  expect(inbox.facts(3)).toMatchObject({
    size: 3,
    flags: flagBit.flagged | flagBit.seen,
    internalDateMs: 1_600_000_000_000,
  });
  const before = await contentsOf(inbox);
  await store.close();
  expect((await readdir(path.join(maildir, 'cur'))).some((name) => name.endsWith(':2,FSa'))).toBe(true);
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect(await contentsOf(inbox)).toEqual(before);
});

test('a file with LF line ends is read alike in any part and as a stream', async () => {
  const lines = Array.from(
    { length: 40_000 },
    (_, index) => `line ${index}${index % 3 ? '\n' : '\r\n'}`,
  ).join('');
  await writeFile(path.join(maildir, 'new/1.x'), lines);
  await inbox.refresh();
  const expected = lines.replace(/\r?\n/g, '\r\n');
  const message = await inbox.open(1);
  expect(message.size).toBe(expected.length);
  for (const [start, end] of [
    [0, 10],
    [262_140, 262_150],
    [300_000, 300_001],
    [expected.length - 3, expected.length + 50],
    [5, expected.length],
  ] as const) {
    expect((await message.read(start, end)).toString()).toBe(expected.slice(start, end));
    const parts: Buffer[] = [];
    for await (const part of message.stream(start, end)) parts.push(Buffer.from(part));
    expect(Buffer.concat(parts).toString()).toBe(expected.slice(start, end));
  }
  await message.close();
});

test('what another program put there while the account was closed is taken in when it is opened', async () => {
  await put(inbox, 'ours');
  await store.close();
  await writeFile(path.join(maildir, 'new/1.x'), 'a\n');
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect(inbox.count).toBe(2);
  expect(await textOf(inbox, 2)).toBe('a\r\n');
});

test('flags another program shows are taken over, and its removals are expunges', async () => {
  for (let index = 0; index < 3; index++) await put(inbox, `m${index}`, { flags: flagBit.answered });
  await inbox.changeFlags([3], { how: 'add', flags: flagBit.flagged, keywords: ['k'] });
  const events: FolderEvent[] = [];
  inbox.watch((event) => events.push(event));
  const names = (await readdir(path.join(maildir, 'cur'))).sort();
  const file = (uid: number): string =>
    path.join(maildir, 'cur', names.find((name) => name.includes(`.U${uid}_`))!);
  await rename(file(1), file(1).replace(/:2,.*/, ':2,RST'));
  await rm(file(2));
  await new Promise((resolve) => setTimeout(resolve, 30));
  await inbox.refresh();
  expect(inbox.flagsOf(1)).toBe(flagBit.answered | flagBit.seen | flagBit.deleted);
  expect([...inbox.uids()]).toEqual([1, 3]);
  expect(inbox.facts(3)).toMatchObject({ flags: flagBit.answered | flagBit.flagged, keywords: ['k'] });
  expect(events.map((event) => event.kind).sort()).toEqual(['expunged', 'flags']);
  const before = await contentsOf(inbox);
  await store.close();
  store = await bench.open();
  expect(await contentsOf(await store.folder('INBOX'))).toEqual(before);
});

test('flags another program shows while the account is closed are taken over', async () => {
  await put(inbox, 'x');
  await inbox.changeFlags([1], { how: 'add', flags: flagBit.flagged, keywords: ['k'] });
  await store.close();
  const [name] = await readdir(path.join(maildir, 'cur'));
  await rename(path.join(maildir, 'cur', name!), path.join(maildir, 'cur', name!.replace(/:2,.*/, ':2,S')));
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect(inbox.facts(1)).toMatchObject({ flags: flagBit.seen, keywords: ['k'] });
});

test('flags set by us and by another program at the same time are both kept', async () => {
  await put(inbox, 'x');
  await filesMade(inbox);
  const cur = path.join(maildir, 'cur');
  const [name] = await readdir(cur);
  const changed = inbox.changeFlags([1], { how: 'add', flags: flagBit.flagged, keywords: [] });
  await rename(path.join(cur, name!), path.join(cur, `${name}S`));
  await changed;
  await new Promise((resolve) => setTimeout(resolve, 60));
  await inbox.refresh();
  expect(inbox.flagsOf(1)).toBe(flagBit.flagged | flagBit.seen);
  await store.close();
  expect(await readdir(cur)).toEqual([`${name}FS`]);
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect(inbox.flagsOf(1)).toBe(flagBit.flagged | flagBit.seen);
});

test('a message renamed by another program between look and opening is still read', async () => {
  await put(inbox, 'text');
  await filesMade(inbox);
  const [name] = await readdir(path.join(maildir, 'cur'));
  await rename(path.join(maildir, 'cur', name!), path.join(maildir, 'cur', `${name}S`));
  expect(await textOf(inbox, 1)).toBe('text');
});

test('a message brought back from a backup is a new message', async () => {
  await put(inbox, 'text');
  await put(inbox, 'more');
  await filesMade(inbox);
  const cur = path.join(maildir, 'cur');
  const name = (await readdir(cur)).find((entry) => entry.includes('.U1_'))!;
  await inbox.expunge([1]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await readdir(cur)).toHaveLength(1);
  await writeFile(path.join(cur, name), 'text');
  await inbox.refresh();
  expect([...inbox.uids()]).toEqual([2, 3]);
  await store.close();
  store = await bench.open();
  inbox = await store.folder('INBOX');
  expect([...inbox.uids()]).toEqual([2, 3]);
  expect(await textOf(inbox, 3)).toBe('text');
});

test('a folder another program made is a folder; a directory with a second spelling of a name is not', async () => {
  await store.close();
  for (const name of ['.Made.here', '.&AEE-', '.&AC8-', '..', '.a..b', '.INBOX', '.&Jjo'].filter(
    (n) => n !== '..',
  )) {
    for (const part of ['cur', 'new', 'tmp'])
      await mkdir(path.join(maildir, name, part), { recursive: true });
  }
  await mkdir(path.join(maildir, '.NoMaildir'));
  await writeFile(path.join(maildir, '.Made.here/new/1.x'), 'a\n');
  store = await bench.open();
  expect(store.listFolders().map((info) => info.name)).toEqual(['INBOX', 'Made', 'Made/here']);
  expect(store.usage.messages).toBe(1);
  expect((await store.folder('Made/here')).count).toBe(1);
});
