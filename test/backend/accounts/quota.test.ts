/** What an account may hold, in bytes and messages: its own word, the site's default, and what is told whom. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Accounts } from '../../../backend/accounts/accounts.ts';
import { openAccounts } from '../../../backend/accounts/local-accounts.ts';
import { type BackendSettings, backendSettings } from '../../../backend/settings.ts';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { put } from '../store/store-fixture.ts';

const demo = 'demo@postern.test';
let root: string;
let accounts: Accounts & { close(): Promise<void> };

async function start(settings: Partial<BackendSettings> = {}): Promise<void> {
  accounts = await openAccounts({
    root,
    settings: { ...defaultsOf(backendSettings), ...settings },
    log: silentLog,
    guardFor: () => ({ epoch: 1, assert: () => {} }),
    owns: () => true,
  });
}

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'postern-quota-'));
});

afterEach(async () => {
  await accounts.close();
  await rm(root, { recursive: true, force: true });
});

const overQuota = { code: 'over-quota' };

test.each([
  ['bytes', { bytes: 100 }, { quotaBytes: 100, quotaMessages: 0 }],
  ['messages', { messages: 2 }, { quotaBytes: 0, quotaMessages: 2 }],
] as const)(
  '%s: mail, APPEND and COPY are refused where the limit is, and freed by EXPUNGE',
  async (_what, quota, said) => {
    await start();
    expect(await accounts.add(demo, 'x', quota)).toMatchObject(said);
    const account = await accounts.open(demo);
    const inbox = await account.store.folder('INBOX');
    const other = await account.store.createFolder('Other');
    expect(account.store.limits).toMatchObject(said);
    await put(inbox, 'x'.repeat(45));
    expect(await accounts.mayReceive(demo, 55)).toBe('yes');
    await put(inbox, 'x'.repeat(45));
    expect(await accounts.mayReceive(demo, 55)).toBe('over-quota');
    await expect(put(other, 'x'.repeat(45))).rejects.toMatchObject(overQuota);
    await expect(inbox.copyTo(other, [1])).rejects.toMatchObject(overQuota);
    expect(await inbox.moveTo(other, [1])).toEqual([[1, 1]]);
    expect(account.store.usage).toEqual({ bytes: 90, messages: 2 });
    await other.expunge([1]);
    await put(other, 'x'.repeat(45));
    account.release();
  },
);

test('deliveries that come at once do not pass the limit together', async () => {
  await start();
  await accounts.add(demo, 'x', { messages: 3, bytes: 1000 });
  const account = await accounts.open(demo);
  const inbox = await account.store.folder('INBOX');
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => put(inbox, 'mail')));
  expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(3);
  expect(inbox.count).toBe(3);
  account.release();
});

test('a changed quota counts at once in open sessions, keeps what is there, and survives a restart', async () => {
  await start({ 'account.quota': 50, 'account.quota_messages': 9 });
  expect(await accounts.add(demo, 'x')).toMatchObject({ quotaBytes: 50, quotaMessages: 9 });
  const account = await accounts.open(demo);
  const inbox = await account.store.folder('INBOX');
  await put(inbox, 'x'.repeat(40));
  await expect(put(inbox, 'x'.repeat(40))).rejects.toMatchObject(overQuota);
  expect(await accounts.setQuota(demo, { bytes: 100 })).toMatchObject({ quotaBytes: 100, quotaMessages: 9 });
  await put(inbox, 'x'.repeat(40));
  expect(await accounts.setQuota(demo, { bytes: 10, messages: 0 })).toMatchObject({
    quotaBytes: 10,
    quotaMessages: 0,
    usedBytes: 80,
  });
  await expect(put(inbox, 'x')).rejects.toMatchObject(overQuota);
  account.release();
  await accounts.close();
  await start({ 'account.quota': 50, 'account.quota_messages': 9 });
  expect(await accounts.show(demo)).toMatchObject({ quotaBytes: 10, quotaMessages: 0, messages: 2 });
  expect(await accounts.setQuota(demo, { bytes: null, messages: null })).toMatchObject({
    quotaBytes: 50,
    quotaMessages: 9,
  });
  await expect(accounts.setQuota(demo, { bytes: -1 })).rejects.toMatchObject({ code: 'bad-argument' });
  await expect(accounts.setQuota('nobody@postern.test', { bytes: 1 })).rejects.toMatchObject({
    code: 'no-such-account',
  });
});
