/** Work on a whole account: adopting a Maildir, releasing it, and that nobody has it open meanwhile. */
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { accountDirectory } from '../../../backend/accounts/account-files.ts';
import type { Accounts } from '../../../backend/accounts/accounts.ts';
import { openAccounts } from '../../../backend/accounts/local-accounts.ts';
import { backendSettings } from '../../../backend/settings.ts';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { makeDovecot } from '../store/dovecot/dovecot-rig.ts';
import { seeAll } from '../store/dovecot/seen-store.ts';
import { keyOf, put } from '../store/store-fixture.ts';

const demo = 'demo@postern.test';
let root: string;
let accounts: Accounts & { close(): Promise<void> };
let leased: boolean;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'postern-maintenance-'));
  leased = true;
  accounts = await openAccounts({
    root,
    settings: defaultsOf(backendSettings),
    log: silentLog,
    guardFor: () => ({
      epoch: 1,
      assert: () => {
        if (!leased) throw new Fault('lease-lost', 'the lease ran out');
      },
    }),
    owns: () => true,
  });
  await accounts.add(demo, 'secret');
});

afterEach(async () => {
  await accounts.close();
  await rm(root, { recursive: true, force: true });
});

async function makeMaildir(name: string, messages: number): Promise<string> {
  const place = path.join(root, name);
  for (const part of ['cur', 'new', 'tmp']) await mkdir(path.join(place, part), { recursive: true });
  for (let index = 0; index < messages; index++) {
    await writeFile(path.join(place, `cur/170000000${index}.M1P1.host:2,S`), `Subject: ${index}\n\n`);
  }
  return place;
}

test('a Maildir of Dovecot is adopted by a rename, used, released to Dovecot and resumed', async () => {
  const dovecot = await makeDovecot();
  try {
    let session = await dovecot.connect();
    await session.ask('CREATE Work');
    await session.append('Work', '\\Seen one', '01-Mar-2019 10:00:00 +0000', 'Subject: a\r\n\r\n');
    await session.append('INBOX', '\\Seen two', '01-Mar-2019 10:00:00 +0000', 'Subject: b\r\n\r\n');
    const before = await session.seeAll();
    await session.end();
    await cp(dovecot.maildir, path.join(root, 'old'), { recursive: true, preserveTimestamps: true });
    expect(await accounts.maintain(demo, { kind: 'adopt', directory: path.join(root, 'old') })).toMatchObject(
      {
        folders: 2,
        messages: 2,
      },
    );
    expect(await readdir(root)).not.toContain('old');
    const account = await accounts.open(demo);
    expect(await seeAll(account.store)).toEqual(before);
    await put(await account.store.folder('Work'), 'Subject: c\r\n\r\n', { keywords: ['three'] });
    const after = await seeAll(account.store);
    account.release();
    expect(await accounts.maintain(demo, { kind: 'release' })).toEqual({
      folders: 2,
      messages: 3,
      keywordsLost: [],
    });
    expect(account.ended.aborted).toBe(true);
    await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'unavailable' });
    for (const kind of ['release', 'check', 'adopt'] as const) {
      const task = { kind, deep: false, repair: false, directory: '/nowhere' };
      await expect(accounts.maintain(demo, task)).rejects.toMatchObject({ code: 'bad-argument' });
    }
    await rm(dovecot.maildir, { recursive: true });
    await cp(path.join(accountDirectory(root, demo), 'Maildir'), dovecot.maildir, {
      recursive: true,
      preserveTimestamps: true,
    });
    session = await dovecot.connect();
    expect(await session.seeAll()).toEqual(after);
    await session.end();
    expect(await accounts.maintain(demo, { kind: 'resume' })).toMatchObject({ folders: 2, messages: 3 });
    const again = await accounts.open(demo);
    expect(await seeAll(again.store)).toEqual(after);
    again.release();
    await expect(accounts.maintain(demo, { kind: 'resume' })).rejects.toMatchObject({ code: 'bad-argument' });
  } finally {
    await dovecot.remove();
  }
});

test('an account is converted to mbox and back, a folder or all; POP3 ids and everything else stay', async () => {
  let account = await accounts.open(demo);
  await account.store.createFolder('Work');
  await put(await account.store.folder('INBOX'), 'Subject: a\r\n\r\nFrom x\r\n', { flags: 1 });
  await put(await account.store.folder('Work'), 'Subject: b\r\n\r\n', { keywords: ['k'] });
  const before = await seeAll(account.store);
  account.release();
  await expect(
    accounts.maintain(demo, { kind: 'convert', to: 'mbox', folder: 'Nowhere' }),
  ).rejects.toMatchObject({ code: 'no-such-folder' });
  expect(await accounts.maintain(demo, { kind: 'convert', to: 'mbox', folder: 'Work' })).toEqual({
    folders: [{ name: 'Work', messages: 1, converted: true }],
  });
  expect(account.ended.aborted).toBe(true);
  for (const to of ['mbox', 'maildir'] as const) {
    await accounts.maintain(demo, { kind: 'convert', to });
    account = await accounts.open(demo);
    expect(account.store.listFolders().map((folder) => folder.format)).toEqual([to, to]);
    expect(await seeAll(account.store)).toEqual(before);
    account.release();
    expect(await accounts.maintain(demo, { kind: 'check', deep: true, repair: false })).toMatchObject({
      folders: 2,
      messages: 2,
      damage: 0,
    });
    if (to === 'mbox') {
      const release = accounts.maintain(demo, { kind: 'release' });
      await expect(release).rejects.toMatchObject({ code: 'bad-argument' });
    }
  }
});

test('what cannot be adopted is refused, and is where it was', async () => {
  const old = await makeMaildir('old', 2);
  await mkdir(path.join(root, 'nothing'));
  await symlink(old, path.join(root, 'link'));
  const rows = [
    [path.join(root, 'missing'), 'bad-argument'],
    [path.join(root, 'nothing'), 'bad-argument'],
    [path.join(root, 'link'), 'bad-argument'],
    [root, 'bad-argument'],
    [path.join(accountDirectory(root, demo), 'Maildir'), 'bad-argument'],
    ['/dev/shm', 'bad-argument'],
  ] as const;
  for (const [directory, code] of rows) {
    await expect(accounts.maintain(demo, { kind: 'adopt', directory })).rejects.toMatchObject({ code });
  }
  const account = await accounts.open(demo);
  await put(await account.store.folder('INBOX'), 'mail');
  account.release();
  await expect(accounts.maintain(demo, { kind: 'adopt', directory: old })).rejects.toMatchObject({
    code: 'already-exists',
  });
  expect((await readdir(path.join(old, 'cur'))).length).toBe(2);
  await expect(accounts.maintain('nobody@postern.test', { kind: 'resume' })).rejects.toMatchObject({
    code: 'no-such-account',
  });
});

test('an account that was used and emptied adopts a Maildir without a list of UIDs, and gives new UIDs', async () => {
  const account = await accounts.open(demo);
  const inbox = await account.store.folder('INBOX');
  await put(inbox, 'mail', { key: keyOf(1) });
  await inbox.expunge([1]);
  account.release();
  const directory = await makeMaildir('old', 2);
  expect(await accounts.maintain(demo, { kind: 'adopt', directory })).toMatchObject({ messages: 2 });
  const again = await accounts.open(demo);
  expect(Math.min(...(await again.store.folder('INBOX')).uids())).toBeGreaterThan(1);
  again.release();
});

test('while work runs, openings wait, other work is refused, and leaving the account ends it', async () => {
  const account = await accounts.open(demo);
  const inbox = await account.store.folder('INBOX');
  for (let index = 0; index < 50; index++) await put(inbox, `Subject: ${index}\r\n\r\n`);
  account.release();
  const checking = accounts.maintain(demo, { kind: 'check', deep: true, repair: true });
  await new Promise((resolve) => setTimeout(resolve, 1));
  const opening = accounts.open(demo);
  await expect(accounts.maintain(demo, { kind: 'check', deep: false, repair: false })).rejects.toMatchObject({
    code: 'busy',
  });
  expect(await checking).toMatchObject({ damage: 0, messages: 50 });
  (await opening).release();
  const stopped = accounts
    .maintain(demo, { kind: 'check', deep: true, repair: true })
    .catch((error) => error);
  await new Promise((resolve) => setTimeout(resolve, 1));
  await accounts.leave(() => true, 'moved');
  expect(await stopped).toMatchObject({ code: 'unavailable' });
});

test('without the lease nothing is begun', async () => {
  leased = false;
  await expect(accounts.maintain(demo, { kind: 'check', deep: false, repair: true })).rejects.toMatchObject({
    code: 'lease-lost',
  });
  leased = true;
});
