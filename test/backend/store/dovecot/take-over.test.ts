/** A Maildir that the real Dovecot wrote, taken over in place. */
import { cp, readdir, rename, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { openStore } from '../../../../backend/store/open-store.ts';
import { flagBit, type Store } from '../../../../backend/store/store.ts';
import { silentLog } from '../../../../base/log.ts';
import { limits, put } from '../store-fixture.ts';
import { type DovecotRig, makeDovecot } from './dovecot-rig.ts';
import { see, seeAll, wireName, words } from './seen-store.ts';

let dovecot: DovecotRig;
let epoch = 0;

beforeEach(async () => {
  dovecot = await makeDovecot();
});

afterEach(() => dovecot.remove());

function open(): Promise<Store> {
  const guard = { epoch: ++epoch, assert: () => {} };
  return openStore({ directory: dovecot.directory, guard, limits, log: silentLog, dirsync: true });
}

/** Several folders, nested, with names outside ASCII; keywords; flags; expunges in the middle and at the end. */
async function fill(): Promise<void> {
  const session = await dovecot.connect();
  for (const folder of ['Work', 'Work.2026.&AOk-t&AOk-', '&ZeVnLIqe-', '"With space"', 'Empty', 'Sent']) {
    await session.ask(`CREATE ${folder}`);
  }
  for (const folder of ['INBOX', 'Work.2026.&AOk-t&AOk-', '&ZeVnLIqe-', '"With space"', 'Gone']) {
    if (folder !== 'Gone') await session.ask(`SUBSCRIBE ${folder}`);
  }
  for (const folder of ['INBOX', 'Work', 'Work.2026.&AOk-t&AOk-', '"With space"']) {
    for (let index = 1; index <= 12; index++) {
      const flags = [
        ...words.filter((_, bit) => index & (1 << bit)),
        ...(index % 3 === 0 ? ['$Forwarded'] : []),
        ...(index % 4 === 0 ? ['Work', 'later'] : []),
      ].join(' ');
      const day = String(index).padStart(2, '0');
      const text = `Subject: ${folder} ${index}\r\n\r\n${'line\r\n'.repeat(index)}\xe9 end`;
      await session.append(folder, flags, `${day}-Mar-2019 10:${day}:00 +0200`, text);
    }
    await session.ask(`SELECT ${folder}`);
    await session.ask('UID STORE 3,5,6,11:12 +FLAGS.SILENT (\\Deleted)');
    await session.ask('UID EXPUNGE 3,5,6,11:12');
  }
  await session.end();
}

test('every UID, UIDVALIDITY, UIDNEXT, flag, keyword, date, byte, folder and subscription is kept', async () => {
  await fill();
  const session = await dovecot.connect();
  const before = await session.seeAll();
  const subscribed = await session.subscriptions();
  await session.end();
  expect(before.INBOX!.messages.map((message) => message.uid)).toEqual([1, 2, 4, 7, 8, 9, 10]);
  expect(before.INBOX!.uidNext).toBe(13);
  expect(before.INBOX!.messages[1]!.flags.length + before.INBOX!.messages[3]!.flags.length).toBeGreaterThan(
    2,
  );
  for (let round = 0; round < 3; round++) {
    const store = await open();
    expect(await seeAll(store)).toEqual(before);
    const marked = store
      .listFolders()
      .filter((info) => info.subscribed)
      .map((info) => wireName(info.name));
    expect(marked.sort()).toEqual(subscribed);
    expect(store.usage.messages).toBe(28);
    const inbox = await store.folder('INBOX');
    // A client that remembers Dovecot's modification sequence is told everything.
    expect(inbox.facts(1)!.modseq).toBeGreaterThan(1e12);
    expect(inbox.expungedSince(50)).toEqual([
      [3, 3],
      [5, 6],
      [11, 12],
    ]);
    await store.close();
  }
});

test('mail Dovecot had not seen, and mail without sizes in its name, comes in once', async () => {
  await fill();
  const session = await dovecot.connect();
  await writeFile(path.join(dovecot.maildir, 'new/1700000001.M1P1.host'), 'Subject: a\n\nb\n');
  await writeFile(path.join(dovecot.maildir, 'cur/1700000002.M1P1.host:2,FS'), 'Subject: c\n\nd\n');
  await utimes(path.join(dovecot.maildir, 'cur/1700000002.M1P1.host:2,FS'), 1_600_000_000, 1_600_000_000);
  const before = await session.see('INBOX');
  expect(before.messages).toHaveLength(9);
  await session.end();
  await writeFile(path.join(dovecot.maildir, 'new/1700000003.M1P1.host'), 'Subject: e\n\nf\n');
  const store = await open();
  expect(store.usage.messages).toBe(31);
  const inbox = await see(await store.folder('INBOX'));
  expect(inbox.messages.slice(0, 9)).toEqual(before.messages);
  expect(inbox.messages[9]).toMatchObject({
    uid: before.uidNext,
    flags: [],
    text: 'Subject: e\r\n\r\nf\r\n',
  });
  await store.close();
});

test('broken off anywhere while taking over, it ends the same', async () => {
  const filling = await dovecot.connect();
  for (const keyword of ['one', 'two', 'three']) {
    await filling.append('INBOX', keyword, '01-Mar-2019 10:00:00 +0200', 'Subject: a\r\n\r\nb\r\n');
  }
  await filling.end();
  const session = await dovecot.connect();
  const before = await session.seeAll();
  await session.end();
  const backup = `${dovecot.directory}.before`;
  await cp(dovecot.directory, backup, { recursive: true, preserveTimestamps: true });
  for (let calls = 1; ; calls++) {
    let left = calls;
    const guard = {
      epoch: ++epoch,
      assert: () => {
        if (left-- === 0) throw new Error('killed here');
      },
    };
    const options = { directory: dovecot.directory, guard, limits, log: silentLog, dirsync: true };
    const stopped = await openStore(options).then(
      (store) => store.close().then(() => false),
      () => true,
    );
    if (!stopped) {
      expect(calls).toBeGreaterThan(5);
      break;
    }
    const store = await open();
    expect(await seeAll(store)).toEqual(before);
    await store.close();
    await rm(dovecot.directory, { recursive: true });
    await cp(backup, dovecot.directory, { recursive: true, preserveTimestamps: true });
  }
});

test('half the files renamed when it was killed, and the list of UIDs torn', async () => {
  await fill();
  const session = await dovecot.connect();
  const before = await session.see('Work');
  await session.end();
  const work = path.join(dovecot.maildir, '.Work');
  let store = await open();
  await store.close();
  // As if it had been killed after the renames: the list is there, the meta file says that it is going on.
  await rename(path.join(work, 'dovecot-uidlist.taken-over'), path.join(work, 'dovecot-uidlist'));
  await unlink(path.join(work, 'postern-folder.json'));
  store = await open();
  expect(await see(await store.folder('Work'))).toEqual(before);
  await store.close();
});

test('without a list of UIDs, or with one that is not one, the folder starts anew and nothing is lost', async () => {
  await fill();
  await rm(path.join(dovecot.maildir, '.Work/dovecot-uidlist'));
  await writeFile(path.join(dovecot.maildir, 'dovecot-uidlist'), 'nonsense\n');
  const store = await open();
  for (const name of ['INBOX', 'Work']) {
    const folder = await store.folder(name);
    expect([...folder.uids()]).toEqual([1, 2, 3, 4, 5, 6, 7]);
  }
  await store.close();
  expect((await readdir(path.join(dovecot.maildir, 'cur'))).length).toBe(7);
});

test('what Postern does afterwards is kept over its own restarts', async () => {
  await fill();
  let store = await open();
  let inbox = await store.folder('INBOX');
  await inbox.changeFlags([2], { how: 'set', flags: flagBit.seen, keywords: ['new', '$Forwarded'] });
  await inbox.expunge([4]);
  expect((await put(inbox, 'x')).uid).toBe(13);
  const now = await see(inbox);
  await store.close();
  store = await open();
  inbox = await store.folder('INBOX');
  expect(await see(inbox)).toEqual(now);
  await store.close();
});
