/** What an account may hold, in bytes and messages: its own word, the site's default, and what is told whom. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { DomainQuotas } from '../../../backend/accounts/domain-quotas.ts';
import { type OwnAccounts, openAccounts } from '../../../backend/accounts/local-accounts.ts';
import { type BackendSettings, backendSettings } from '../../../backend/settings.ts';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { type DomainLimits, decodeDomain, quotaWithin } from '../../../cluster-protocol/domains.ts';
import { connectEmbeddedRegistry } from '../../../cluster-protocol/registry/embedded-client.ts';
import { openEmbeddedRegistry } from '../../../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../../../cluster-protocol/registry.ts';
import { put } from '../store/store-fixture.ts';

const demo = 'demo@postern.test';
let root: string;
let accounts: OwnAccounts;
let domain: DomainLimits;

async function start(settings: Partial<BackendSettings> = {}): Promise<void> {
  accounts = await openAccounts({
    root,
    settings: { ...defaultsOf(backendSettings), ...settings },
    log: silentLog,
    guardFor: () => ({ epoch: 1, assert: () => {} }),
    owns: () => true,
    domainLimits: (name) => (name === 'postern.test' ? domain : {}),
  });
}

beforeEach(async () => {
  domain = {};
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

test.each([
  // own, domain, site → what counts; 0 is no limit
  [undefined, undefined, 100, 100],
  [undefined, 50, 100, 50],
  [undefined, 50, 0, 50],
  [undefined, 0, 100, 0],
  [200, undefined, 100, 200],
  [200, 50, 100, 50],
  [20, 50, 100, 20],
  [0, 50, 100, 50],
  [0, undefined, 100, 0],
  [20, 0, 100, 20],
] as const)('an own quota of %s in a domain with %s at a site with %s: %s', (own, limit, site, counts) => {
  expect(quotaWithin(own, limit, site)).toBe(counts);
});

test('what is no limit in a record of a domain is none', () => {
  expect(
    decodeDomain('a.test', '{"name":"a.test","quotaBytes":-1,"quotaMessages":"7","accountsMax":1.5}'),
  ).toEqual({
    name: 'a.test',
  });
  for (const text of ['', 'null', '[', '{"name":"a.test"}']) {
    expect(decodeDomain('a.test', text)).toEqual({ name: 'a.test' });
  }
});

test('a limit of the domain counts at once for accounts that are open, and for those that are opened later', async () => {
  await start({ 'account.quota': 1000 });
  await accounts.add(demo, 'x');
  await accounts.add('own@postern.test', 'x', { bytes: 30 });
  await accounts.add('more@postern.test', 'x', { bytes: 5000 });
  const account = await accounts.open(demo);
  const inbox = await account.store.folder('INBOX');
  await put(inbox, 'x'.repeat(45));
  domain = { quotaBytes: 50, quotaMessages: 3 };
  await accounts.quotasChanged(new Set(['other.test']));
  expect(account.store.limits).toMatchObject({ quotaBytes: 1000, quotaMessages: 0 });
  await accounts.quotasChanged(new Set(['postern.test']));
  expect(account.store.limits).toMatchObject({ quotaBytes: 50, quotaMessages: 3 });
  await expect(put(inbox, 'x'.repeat(45))).rejects.toMatchObject(overQuota);
  expect(await accounts.mayReceive(demo, 10)).toBe('over-quota');
  account.release();
  expect(await accounts.show('own@postern.test')).toMatchObject({ quotaBytes: 30, quotaMessages: 3 });
  expect(await accounts.show('more@postern.test')).toMatchObject({ quotaBytes: 50 });
});

test('limits of domains are followed in the registry', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'postern-domains-'));
  const socket = path.join(directory, 'socket');
  const server = await openEmbeddedRegistry(path.join(directory, 'registry'), socket);
  const registry = await connectEmbeddedRegistry(socket, {});
  const ending = new AbortController();
  try {
    const put = (value: object) =>
      registry.transact([], [{ put: registryKey.domain('a.test'), value: JSON.stringify(value) }]);
    await put({ name: 'a.test', quotaBytes: 7 });
    const quotas = await DomainQuotas.follow(registry, silentLog, ending.signal);
    expect([quotas.of('a.test').quotaBytes, quotas.of('b.test').quotaBytes]).toEqual([7, undefined]);
    const changed = new Promise((resolve) => {
      quotas.onChange = resolve;
    });
    await put({ name: 'a.test', quotaMessages: 9 });
    expect(await changed).toEqual(new Set(['a.test']));
    expect(quotas.of('a.test')).toMatchObject({ quotaMessages: 9 });
  } finally {
    ending.abort();
    await registry.close();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  }
});
