/** An account that Postern changed, handed back to the real Dovecot, and taken over again. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { handBack } from '../../../../backend/store/dovecot/hand-back.ts';
import { openStore } from '../../../../backend/store/open-store.ts';
import { flagBit, type Store } from '../../../../backend/store/store.ts';
import { silentLog } from '../../../../base/log.ts';
import { limits, put } from '../store-fixture.ts';
import { type DovecotRig, makeDovecot, type SeenFolder } from './dovecot-rig.ts';
import { seeAll, wireName } from './seen-store.ts';

let dovecot: DovecotRig;
let epoch = 0;
const guard = { epoch: 1, assert: () => {} };

beforeEach(async () => {
  dovecot = await makeDovecot();
});

afterEach(() => dovecot.remove());

function open(): Promise<Store> {
  const granted = { epoch: ++epoch, assert: () => {} };
  return openStore({
    directory: dovecot.directory,
    guard: granted,
    limits: { ...limits, keywordsPerFolderMax: 100 },
    log: silentLog,
    dirsync: true,
  });
}

async function fillByDovecot(): Promise<void> {
  const session = await dovecot.connect();
  await session.ask('CREATE Work.Deep');
  for (let index = 1; index <= 6; index++) {
    const date = `0${index}-Mar-2019 10:00:00 +0000`;
    await session.append(
      'INBOX',
      index % 2 ? '$Forwarded one' : '\\Seen two',
      date,
      `Subject: ${index}\r\n\r\nx\r\n`,
    );
  }
  await session.append('Work.Deep', 'three', '01-Mar-2019 10:00:00 +0000', 'Subject: d\r\n\r\nx\r\n');
  await session.ask('SELECT INBOX');
  await session.ask('UID STORE 3 +FLAGS (\\Deleted)');
  await session.ask('EXPUNGE');
  await session.ask('SUBSCRIBE Work.Deep');
  await session.end();
}

test('Dovecot sees what Postern did, Postern sees what Dovecot did, and UIDs stay, three times over', async () => {
  await fillByDovecot();
  for (let round = 1; round <= 3; round++) {
    const store = await open();
    const inbox = await store.folder('INBOX');
    const work = await store.folder('Work/Deep');
    await put(inbox, `Subject: by Postern\r\n\r\nround ${round}\r\n`, {
      flags: flagBit.flagged,
      keywords: ['fresh', `round${round}`],
      internalDateMs: 1_500_000_000_000,
    });
    await put(work, 'Subject: to go\r\n\r\n');
    await inbox.changeFlags([1], { how: 'set', flags: flagBit.answered, keywords: ['two', 'new'] });
    await inbox.changeFlags([2], { how: 'remove', flags: flagBit.seen, keywords: ['two'] });
    await work.expunge([work.uidNext - 1]);
    await inbox.copyTo(work, [1]);
    const fresh = await store.createFolder(`Made ü/r${round}`);
    await put(fresh, 'Subject: y\r\n\r\n', { keywords: ['k'] });
    await store.setSubscribed(`Made ü/r${round}`, true);
    const seen = await seeAll(store);
    const subscribed = store
      .listFolders()
      .filter((info) => info.subscribed)
      .map((info) => wireName(info.name));
    await store.close();
    const report = await handBack(open, guard);
    expect(report).toEqual({
      folders: Object.keys(seen).length,
      messages: expect.any(Number),
      keywordsLost: [],
    });

    const session = await dovecot.connect();
    expect(await session.seeAll()).toEqual(seen);
    expect(await session.subscriptions()).toEqual(subscribed.sort());
    expect(await session.complaints()).toEqual([]);
    await session.append('INBOX', 'byDovecot fresh', '01-Jan-2020 00:00:00 +0000', 'Subject: z\r\n\r\n');
    await session.append('INBOX', '', '01-Jan-2020 00:00:00 +0000', 'Subject: gone\r\n\r\n');
    await session.ask('SELECT INBOX');
    await session.ask('UID STORE 4 -FLAGS (two)');
    await session.ask(`UID STORE ${round === 1 ? 5 : 1},* +FLAGS (\\Seen)`);
    await session.ask('UID STORE * +FLAGS (\\Deleted)');
    await session.ask('EXPUNGE');
    await session.ask(`CREATE Dovecot${round}`);
    const left: Record<string, SeenFolder> = await session.seeAll();
    await session.end();

    const again = await open();
    expect(await seeAll(again)).toEqual(left);
    await again.close();
  }
});

test('of more than 26 keywords the most used are shown to Dovecot, and Postern still knows all of them', async () => {
  const store = await open();
  const inbox = await store.folder('INBOX');
  for (let index = 0; index < 30; index++) {
    await put(inbox, `Subject: ${index}\r\n\r\n`, {
      keywords: index < 26 ? [`k${index}`] : [`k${index}`, 'k0'],
    });
    if (index < 25) await put(inbox, 'x', { keywords: [`k${index}`] });
  }
  const seen = await seeAll(store);
  await store.close();
  const report = await handBack(open, guard);
  expect(report.keywordsLost).toHaveLength(4);
  const session = await dovecot.connect();
  const shown = await session.see('INBOX');
  expect(new Set(shown.messages.flatMap((message) => message.flags)).size).toBe(26);
  await session.end();
  const again = await open();
  expect(await seeAll(again)).toEqual(seen);
  await again.close();
});

test('broken off while handing back, it can be done again', async () => {
  await fillByDovecot();
  let store = await open();
  const seen = await seeAll(store);
  await store.close();
  for (let stop = 0; stop < 12; stop++) {
    let left = stop;
    const stopping = {
      epoch: 1,
      assert: () => {
        if (left-- <= 0) throw new Error('killed here');
      },
    };
    const ended = await handBack(open, stopping).then(
      () => true,
      () => false,
    );
    if (stop % 2) {
      store = await open();
      expect(await seeAll(store)).toEqual(seen);
      await store.close();
    }
    if (ended) break;
    expect(stop).toBeLessThan(11);
  }
  await handBack(open, guard);
  const session = await dovecot.connect();
  expect(await session.seeAll()).toEqual(seen);
  await session.end();
});
