/**
 * Does random things to an account until it is killed, and says on standard
 * output what it begins and what was acknowledged, each line written before
 * the next step. Arguments: directory, epoch, seed, retries (JSON of [id, key]), `false` when directories are not
 * to be synced.
 */
import { writeSync } from 'node:fs';
import type { Folder } from '../../../backend/store/store.ts';
import { silentLog } from '../../../base/log.ts';
import type { ChildLine } from './crash-model.ts';
import { limits, openWithIntake, put, textOf } from './store-fixture.ts';

const [directory = '', epochText = '1', seedText = '1', retryText = '[]', dirsyncText = 'true'] =
  process.argv.slice(2);
let seed = Number(seedText);
const retries = JSON.parse(retryText) as [number, string][];

function random(below: number): number {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
}

function say(line: ChildLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

const store = await openWithIntake({
  directory,
  guard: { epoch: Number(epochText), assert: () => {} },
  limits,
  log: silentLog,
  dirsync: dirsyncText !== 'false',
});
const inbox = await store.folder('INBOX');
const names = store.listFolders().map((info) => info.name);
const other = names.includes('Other') ? await store.folder('Other') : await store.createFolder('Other');
const copies = names.includes('Copies') ? await store.folder('Copies') : await store.createFolder('Copies');

/** Messages that nothing is being done to. */
const free = new Map<Folder, Map<number, number>>();
for (const folder of [inbox, other, copies]) {
  const ids = new Map<number, number>();
  for (const uid of folder.uids()) ids.set(uid, Number(/id:(\d+)/.exec(await textOf(folder, uid))![1]));
  free.set(folder, ids);
}
let nextId = Number(epochText) * 100_000;
let count = 0;
say({ ready: true });

async function append(id: number, key: string): Promise<void> {
  const flags = id % 4;
  say({ n: ++count, op: 'append', id, key, flags });
  const n = count;
  const size = id % 13 === 0 ? 400_000 : 300;
  const text = `id:${id}\r\n`.padEnd(size, 'x');
  const keywords = id % 5 === 0 ? ['k'] : [];
  const { uid } = await put(inbox, text, { flags, keywords, key, internalDateMs: Date.now() });
  say({ ack: n, uid });
  free.get(inbox)!.set(uid, id);
}

function take(folder: Folder, most: number): { uids: number[]; ids: number[] } {
  const here = free.get(folder)!;
  const uids = [...here.keys()]
    .filter(() => random(3) === 0)
    .slice(0, 1 + random(most))
    .sort((a, b) => a - b);
  const ids = uids.map((uid) => here.get(uid)!);
  for (const uid of uids) here.delete(uid);
  return { uids, ids };
}

async function step(): Promise<void> {
  const size = free.get(inbox)!.size;
  const choice = random(10);
  if (size < 5 || (choice < 4 && size < 60)) {
    await append(++nextId, nextId.toString(16).padStart(32, '0'));
    return;
  }
  const from = choice < 8 ? inbox : other;
  const { uids, ids } = take(from, 8);
  if (uids.length === 0) return;
  const n = ++count;
  const back = (): void => {
    for (const [index, uid] of uids.entries()) free.get(from)!.set(uid, ids[index]!);
  };
  if (choice === 4 || choice === 5) {
    const flags = random(32);
    say({ n, op: 'flags', folder: from.name, ids, flags });
    await from.changeFlags(uids, { how: 'set', flags, keywords: [] });
    say({ ack: n });
    back();
  } else if (choice === 6) {
    say({ n, op: 'copy', ids });
    const pairs = await from.copyTo(copies, uids);
    say({ ack: n });
    for (const [index, [, uid]] of pairs.entries()) free.get(copies)!.set(uid, ids[index]!);
    back();
  } else if (choice === 7) {
    say({ n, op: 'move', ids });
    const pairs = await from.moveTo(other, uids);
    say({ ack: n });
    for (const [index, [, uid]] of pairs.entries()) free.get(other)!.set(uid, ids[index]!);
  } else {
    say({ n, op: 'expunge', folder: from.name, ids });
    await from.expunge(uids);
    say({ ack: n });
  }
}

for (const [id, key] of retries) await append(id, key);
await Promise.all(
  Array.from({ length: 6 }, async () => {
    for (;;) await step();
  }),
);
