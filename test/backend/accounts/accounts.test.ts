import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { accountDirectory } from '../../../backend/accounts/account-files.ts';
import type { Accounts } from '../../../backend/accounts/accounts.ts';
import { openAccounts } from '../../../backend/accounts/local-accounts.ts';
import { checkPassword, hashPassword } from '../../../backend/accounts/password.ts';
import { VerifiedLogins } from '../../../backend/accounts/verified-logins.ts';
import { type BackendSettings, backendSettings } from '../../../backend/settings.ts';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { keyOf, put, textOf } from '../store/store-fixture.ts';

const demo = 'demo@postern.test';
let root: string;
let accounts: Accounts & { close(): Promise<void> };
let epoch: number;
let leased: boolean;
let owned: (address: string) => boolean;

async function start(settings: Partial<BackendSettings> = {}): Promise<void> {
  accounts = await openAccounts({
    root,
    settings: { ...defaultsOf(backendSettings), ...settings },
    log: silentLog,
    guardFor: () => ({
      epoch,
      assert: () => {
        if (!leased) throw new Fault('lease-lost', 'the lease ran out');
      },
    }),
    owns: (address) => owned(address),
  });
}

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'postern-accounts-'));
  epoch = 1;
  leased = true;
  owned = () => true;
  await start();
});

afterEach(async () => {
  await accounts.close();
  await rm(root, { recursive: true, force: true });
});

const login = (password: string, user = demo) => accounts.verify({ mechanism: 'password', user, password });

describe('accounts', () => {
  test('an account is made whole, found again, and not made twice', async () => {
    const summary = await accounts.add('Demo@POSTERN.test', 'secret', { bytes: 1000 });
    expect(summary).toMatchObject({ address: demo, quotaBytes: 1000, usedBytes: 0, messages: 0 });
    await expect(accounts.add(demo, 'other')).rejects.toMatchObject({ code: 'already-exists' });
    await accounts.close();
    await start();
    expect(await accounts.show(demo)).toEqual(summary);
    expect(await login('secret')).toBe(true);
    const text = await readFile(path.join(accountDirectory(root, demo), 'account.json'), 'utf8');
    expect(text).not.toContain('secret');
    expect((await stat(accountDirectory(root, demo))).mode & 0o077).toBe(0);
    expect(await readdir(path.join(root, 'new'))).toEqual([]);
  });

  test('two that make the same account at once: one does', async () => {
    const results = await Promise.allSettled(['a', 'b', 'c'].map((password) => accounts.add(demo, password)));
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected', 'rejected']);
  });

  const strangers = [
    '../a@postern.test',
    'a%00@postern.test',
    'a\0@postern.test',
    '%{user}@postern.test',
    'a/b@postern.test',
    '.hidden@postern.test',
    'a@../b',
    'a@',
    '@b',
    'a',
    '',
  ];
  test.each(strangers)('%j is no account and becomes no path', async (address) => {
    await expect(accounts.add(address, 'x')).rejects.toMatchObject({ code: 'bad-name' });
    await expect(accounts.open(address)).rejects.toMatchObject({ code: 'no-such-account' });
    expect(await accounts.mayReceive(address, 1)).toBe('no-such-account');
    expect(await login('x', address)).toBe(false);
    expect(await readdir(root)).toEqual(['intake']);
  });

  test('spellings of a name that differ in case or composition meet in one account', async () => {
    await accounts.add('Zo\u00eb@postern.test', 'x');
    await expect(accounts.add('ZOE\u0308@Postern.TEST', 'x')).rejects.toMatchObject({
      code: 'already-exists',
    });
    expect(await accounts.list('postern.test', undefined, 10)).toEqual(['zo\u00eb@postern.test']);
  });

  test('a listing is sorted, paged and shows what is owned', async () => {
    for (const local of ['d', 'b', 'a', 'c', 'e']) await accounts.add(`${local}@postern.test`, 'x');
    await accounts.add('z@other.test', 'x');
    owned = (address) => address !== 'c@postern.test';
    expect(await accounts.list('postern.test', undefined, 2)).toEqual(['a@postern.test', 'b@postern.test']);
    expect(await accounts.list('Postern.test', 'b@postern.test', 9)).toEqual([
      'd@postern.test',
      'e@postern.test',
    ]);
    expect(await accounts.list('none.test', undefined, 9)).toEqual([]);
  });

  test('a removed account ends its sessions, is moved aside with its mail, and can be made anew', async () => {
    await accounts.add(demo, 'secret');
    const account = await accounts.open(demo);
    await put(await account.store.folder('INBOX'), 'kept');
    await accounts.remove(demo);
    expect(account.ended.aborted).toBe(true);
    expect(account.ended.reason).toMatchObject({ code: 'no-such-account' });
    expect(await accounts.mayReceive(demo, 1)).toBe('no-such-account');
    await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'no-such-account' });
    await expect(accounts.remove(demo)).rejects.toMatchObject({ code: 'no-such-account' });
    const [aside] = await readdir(path.join(root, 'removed/postern.test'));
    expect(await readdir(path.join(root, 'removed/postern.test', aside!, 'Maildir/cur'))).toHaveLength(1);
    await accounts.add(demo, 'other');
    expect(await login('secret')).toBe(false);
    expect((await accounts.show(demo)).messages).toBe(0);
  });
});

describe('may it receive', () => {
  test('says yes, no such account, or over quota, and knows of an account made in between', async () => {
    expect(await accounts.mayReceive(demo, 1)).toBe('no-such-account');
    await accounts.add(demo, 'x', { bytes: 100 });
    expect(await accounts.mayReceive(demo, 100)).toBe('yes');
    expect(await accounts.mayReceive(demo, 101)).toBe('over-quota');
    const account = await accounts.open(demo);
    const inbox = await account.store.folder('INBOX');
    await put(inbox, 'x'.repeat(60), { key: keyOf(1) });
    expect(await accounts.mayReceive(demo, 41)).toBe('over-quota');
    expect(await accounts.mayReceive(demo, 40)).toBe('yes');
    await inbox.expunge([1]);
    expect(await accounts.mayReceive(demo, 100)).toBe('yes');
    account.release();
  });

  test('an unmounted root is a failure of the storage, never "no such account"', async () => {
    await accounts.close();
    await writeFile(path.join(root, 'cluster.json'), '{}');
    await start();
    await accounts.add(demo, 'x');
    await rename(root, `${root}.away`);
    try {
      await expect(accounts.mayReceive(demo, 1)).rejects.toMatchObject({ code: 'storage-failed' });
      await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'storage-failed' });
    } finally {
      await rename(`${root}.away`, root);
    }
    expect(await accounts.mayReceive(demo, 1)).toBe('yes');
  });
});

describe('passwords', () => {
  test('right, wrong, unknown, empty and overlong ones', async () => {
    await accounts.add(demo, 'p\u00e4ss wörd');
    expect(await login('pa\u0308ss wo\u0308rd')).toBe(true);
    for (const password of ['', 'x', 'p\u00e4ss w\u00f6rd\0', 'x'.repeat(5000)]) {
      expect(await login(password)).toBe(false);
    }
    expect(await login('p\u00e4ss wörd', 'nobody@postern.test')).toBe(false);
    await expect(accounts.add('e@postern.test', '')).rejects.toMatchObject({ code: 'bad-argument' });
  });

  test('a changed password counts at once, although the old one was remembered', async () => {
    await accounts.add(demo, 'old');
    expect([await login('old'), await login('old'), await login('new')]).toEqual([true, true, false]);
    await accounts.setPassword(demo, 'new');
    expect([await login('old'), await login('new')]).toEqual([false, true]);
    await expect(accounts.setPassword('no@postern.test', 'x')).rejects.toMatchObject({
      code: 'no-such-account',
    });
  });

  test('an unknown account takes as long as a wrong password, and what verified takes no time', async () => {
    await accounts.add(demo, 'right');
    const time = async (work: () => Promise<boolean>): Promise<number> => {
      const started = performance.now();
      await work();
      return performance.now() - started;
    };
    const wrong: number[] = [];
    const unknown: number[] = [];
    for (let index = 0; index < 8; index++) {
      wrong.push(await time(() => login(`w${index}`)));
      unknown.push(await time(() => login(`w${index}`, `nobody${index}@postern.test`)));
    }
    const median = (list: number[]): number => list.toSorted((a, b) => a - b)[4]!;
    expect(median(unknown) / median(wrong)).toBeGreaterThan(0.3);
    expect(median(unknown) / median(wrong)).toBeLessThan(3);
    await login('right');
    expect(await time(() => login('right'))).toBeLessThan(median(wrong) / 5);
  });

  test('what verified is forgotten after its time, and the oldest first when there are too many', () => {
    const verified = new VerifiedLogins(1000, 2);
    const digests = ['a', 'b', 'c'].map((password) => verified.digestOf(demo, password, 'v'));
    for (const digest of digests) verified.remember(digest, true, 0);
    expect(digests.map((digest) => verified.recall(digest, 999))).toEqual([undefined, true, true]);
    expect(digests.map((digest) => verified.recall(digest, 1000))).toEqual([undefined, undefined, undefined]);
    expect(verified.digestOf(demo, 'a', 'w')).not.toBe(digests[0]);
    expect(digests[0]).not.toContain('a@');
  });

  test('two hashes of one password differ; a hash with absurd cost is no hash', async () => {
    const [one, two] = await Promise.all([hashPassword('x'), hashPassword('x')]);
    expect(one.hash).not.toBe(two.hash);
    expect(await checkPassword(one, 'x')).toBe(true);
    expect(await checkPassword({ ...one, n: 2 ** 30 }, 'x')).toBe(false);
    expect(await checkPassword({ ...one, hash: '' }, '')).toBe(false);
  });
});

describe('open accounts', () => {
  test('sessions share one store; it stays open a while, and the least used is closed', async () => {
    await accounts.close();
    await start({ 'account.open_max': 2 });
    const names = ['a', 'b', 'c', 'd'].map((local) => `${local}@postern.test`);
    for (const name of names) await accounts.add(name, 'x');
    const [first, second] = await Promise.all([accounts.open(names[0]!), accounts.open(names[0]!)]);
    expect(first.store).toBe(second.store);
    first.release();
    first.release();
    for (const name of names.slice(1)) (await accounts.open(name)).release();
    expect(accounts.openCount).toBe(3);
    expect(second.ended.aborted).toBe(false);
    expect((await second.store.folder('INBOX')).count).toBe(0);
    second.release();
    expect(accounts.openCount).toBe(2);
    const again = await accounts.open(names[1]!);
    expect((await again.store.folder('INBOX')).count).toBe(0);
    again.release();
  });

  test('leaving ends sessions of those named, keeps what was acknowledged, and lets others be', async () => {
    await accounts.add(demo, 'x');
    await accounts.add('other@postern.test', 'x');
    const [mine, other] = await Promise.all([accounts.open(demo), accounts.open('other@postern.test')]);
    await put(await mine.store.folder('INBOX'), 'text');
    await accounts.leave((address) => address === demo, 'the account moves');
    expect(mine.ended.reason).toMatchObject({ message: 'the account moves' });
    await expect(mine.store.folder('INBOX')).rejects.toMatchObject({ code: 'unavailable' });
    expect(other.ended.aborted).toBe(false);
    const back = await accounts.open(demo);
    expect((await back.store.folder('INBOX')).count).toBe(1);
  });

  test('a new epoch opens the account anew; a lost lease or an account of another backend is refused', async () => {
    await accounts.add(demo, 'x');
    const before = await accounts.open(demo);
    epoch = 2;
    const after = await accounts.open(demo);
    expect(before.ended.aborted).toBe(true);
    expect(after.store).not.toBe(before.store);
    leased = false;
    await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'lease-lost' });
    await expect(login('x')).rejects.toMatchObject({ code: 'lease-lost' });
    await expect(accounts.mayReceive(demo, 1)).rejects.toMatchObject({ code: 'lease-lost' });
    leased = true;
    owned = () => false;
    await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'not-owner' });
    owned = () => true;
    epoch = 1;
    await expect(accounts.open(demo)).rejects.toMatchObject({ code: 'not-owner' });
  });

  test('an account whose storage failed is taken out, and opened anew when it is asked for again', async () => {
    await accounts.close();
    await start({ 'storage.intake': false });
    await accounts.add(demo, 'x');
    const account = await accounts.open(demo);
    const inbox = await account.store.folder('INBOX');
    await put(inbox, 'kept');
    const maildir = path.join(accountDirectory(root, demo), 'Maildir');
    await rename(path.join(maildir, 'cur'), path.join(maildir, 'away'));
    await expect(put(inbox, 'lost')).rejects.toMatchObject({ code: 'storage-failed' });
    expect(account.ended.aborted).toBe(true);
    await expect(inbox.changeFlags([1], { how: 'add', flags: 1, keywords: [] })).rejects.toMatchObject({
      code: 'storage-failed',
    });
    await rename(path.join(maildir, 'away'), path.join(maildir, 'cur'));
    const again = await accounts.open(demo);
    expect((await again.store.folder('INBOX')).count).toBe(1);
    expect(await readdir(path.join(maildir, 'tmp'))).toEqual([]);
  });

  test('a message whose file could not be made is there when the account is opened anew', async () => {
    await accounts.add(demo, 'x');
    const account = await accounts.open(demo);
    const inbox = await account.store.folder('INBOX');
    const maildir = path.join(accountDirectory(root, demo), 'Maildir');
    await rename(path.join(maildir, 'cur'), path.join(maildir, 'away'));
    const ended = new Promise((resolve) => account.ended.addEventListener('abort', resolve));
    await put(inbox, 'in the log');
    await ended;
    await rename(path.join(maildir, 'away'), path.join(maildir, 'cur'));
    const again = await (await accounts.open(demo)).store.folder('INBOX');
    expect([...again.uids()].length).toBe(1);
    expect(await textOf(again, again.uids()[0]!)).toBe('in the log');
    expect(await readdir(path.join(maildir, 'cur'))).toHaveLength(1);
  });
});
