/**
 * Runs on a file system of its own that is nearly full: fills it by
 * deliveries, and prints what it found as one line of JSON. Arguments:
 * directory, `bytes` or `inodes`.
 */
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { MaildirFolder } from '../../../backend/store/maildir-folder.ts';
import { isFault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { contentsOf, filesMade, keyOf, limits, openWithIntake, put, textOf } from './store-fixture.ts';

const [directory = '', what = 'bytes'] = process.argv.slice(2);
let epoch = 0;
const open = () =>
  openWithIntake({
    directory,
    guard: { epoch: ++epoch, assert: () => {} },
    limits,
    log: silentLog,
    dirsync: true,
  });
let store = await open();
let inbox = await store.folder('INBOX');
const text = (index: number): string => `${index}:`.padEnd(what === 'bytes' ? 30_000 : 10, 'x');
const stored = new Map<number, number>();
const codes = new Map<string, number>();
for (let round = 0; round < 20; round++) {
  await Promise.all(
    Array.from({ length: 20 }, async (_, at) => {
      const index = round * 20 + at;
      try {
        const { uid } = await put(inbox, text(index), { key: keyOf(index), internalDateMs: Date.now() });
        stored.set(uid, index);
      } catch (error) {
        const code = isFault(error) ? error.code : String(error);
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
    }),
  );
  // Files come after the answer: only then is it seen that there is no room for them.
  await filesMade(inbox).catch(() => {});
}
// A large one, which streams, meets the end in its middle.
let large = 'stored';
try {
  const incoming = await inbox.append({ flags: 0, keywords: [], internalDateMs: Date.now() }, undefined);
  try {
    for (let chunk = 0; chunk < 100; chunk++) await incoming.write(Buffer.alloc(100_000));
    await incoming.commit();
  } catch (error) {
    await incoming.abort();
    throw error;
  }
} catch (error) {
  large = isFault(error) ? error.code : String(error);
}
const right = async (): Promise<boolean> => {
  if (inbox.count !== stored.size) return false;
  for (const [uid, index] of stored) if ((await textOf(inbox, uid)) !== text(index)) return false;
  return true;
};
const maildir = path.join(directory, 'Maildir');
const rightWhileFull = await right();
const leftInTmp = (await readdir(path.join(maildir, 'tmp'))).length;
const unmade = [...stored.keys()].filter((uid) => (inbox as MaildirFolder).pending.isUnmade(uid)).length;
const files = (await readdir(path.join(maildir, 'cur'))).length + unmade;
// The very last block is used up too, by a program that is not ours.
await writeFile(path.join(directory, 'filler'), Buffer.alloc(8 << 20)).catch(() => {});
// Changes fill what the journal has left; space comes back when messages go, so removing must still work.
let flagged = 'done';
for (let count = 0; count < 500 && flagged === 'done'; count++) {
  flagged = await inbox
    .changeFlags([inbox.uids()[0]!], { how: 'set', flags: 2 + (count & 1), keywords: [] })
    .then(
      () => 'done',
      (error: unknown) => (isFault(error) ? error.code : String(error)),
    );
}
let removed = 'no';
const leaving = inbox.uids()[0]!;
try {
  await inbox.expunge([leaving]);
  stored.delete(leaving);
  removed = 'yes';
} catch (error) {
  removed = isFault(error) ? error.code : String(error);
}
const before = await contentsOf(inbox);
await store.close();
let sameAfter = 'no';
try {
  store = await open();
  inbox = await store.folder('INBOX');
  const after = (await contentsOf(inbox)) as { messages: unknown };
  sameAfter =
    JSON.stringify(after.messages) === JSON.stringify((before as { messages: unknown }).messages)
      ? 'yes'
      : 'no';
  await store.close();
} catch (error) {
  sameAfter = isFault(error) ? error.code : String(error);
}
console.log(
  JSON.stringify({
    stored: stored.size,
    codes: Object.fromEntries(codes),
    large,
    rightWhileFull,
    leftInTmp,
    extraFiles: files - stored.size - (removed === 'yes' ? 1 : 0),
    flagged,
    removed,
    sameAfter,
  }),
);
