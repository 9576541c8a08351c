/** The real commands against a real cluster: a Maildir adopted, checked, repaired, released, resumed. */
import { cp, readdir, truncate } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { accountDirectory } from '../../backend/accounts/account-files.ts';
import { type DovecotRig, makeDovecot } from '../backend/store/dovecot/dovecot-rig.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';

let cluster: Cluster;
let dovecot: DovecotRig;

beforeAll(async () => {
  [cluster, dovecot] = await Promise.all([startCluster(), makeDovecot()]);
}, 60_000);

afterAll(async () => {
  await cluster?.stop();
  await dovecot?.remove();
}, 60_000);

test('a domain has limits: for each account, and for how many there may be', async () => {
  const { address } = cluster.account;
  const domain = address.split('@')[1]!;
  const bad = (words: string[]) => cluster.command(words).catch((error: Error) => error.message);
  expect(await bad(['domain', 'quota', domain])).toContain('give --bytes, --messages or --accounts');
  expect(await bad(['domain', 'quota', 'nowhere.test', '--accounts', '1'])).toContain('not a domain');
  expect(await bad(['domain', 'quota', domain, '--bytes', 'much'])).toContain('"much" is none of');
  const limits = ['--bytes', '1MiB', '--messages', '10', '--accounts', '1'];
  const said = `${domain}: 1048576 bytes each, 10 messages each, 1 accounts\n`;
  expect(await cluster.command(['domain', 'quota', domain, ...limits])).toBe(said);
  expect(await cluster.command(['domain', 'list'])).toContain(said);
  expect(await bad(['account', 'add', `more@${domain}`])).toContain('may have 1 accounts and has them');
  for (let tries = 0; tries < 200; tries++) {
    if ((await cluster.command(['account', 'show', address])).includes('10 messages')) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await cluster.command(['account', 'show', address])).toMatch(/quota .*10 messages/);
  const none = ['--bytes', 'default', '--messages', 'default', '--accounts', 'none'];
  await cluster.command(['domain', 'quota', domain, ...none]);
});

test('a Maildir of Dovecot comes in with the account, is checked, repaired, released and resumed', async () => {
  const session = await dovecot.connect();
  for (const subject of ['one', 'two', 'three']) {
    await session.append('INBOX', '\\Seen', '01-Mar-2019 10:00:00 +0000', `Subject: ${subject}\r\n\r\n`);
  }
  await session.end();
  const root = path.join(cluster.data, 'storage');
  const old = path.join(root, 'old');
  await cp(dovecot.maildir, old, { recursive: true, preserveTimestamps: true });
  const domain = cluster.account.address.split('@')[1]!;
  const address = `adopted@${domain}`;

  const wrong = await cluster
    .command(['account', 'add', address, '--adopt', '/nowhere'])
    .catch((error: Error) => error.message);
  expect(wrong).toMatch(/password: \S+/);
  expect(wrong).toContain(`postern account adopt ${address} /nowhere`);
  expect(await cluster.command(['account', 'adopt', address, old])).toContain(
    'adopted: 1 folders, 3 messages',
  );
  expect(await cluster.command(['account', 'check', address, '--deep'])).toBe(
    `${address}: 1 folders, 3 messages, 0 damaged, 0 repaired\n`,
  );

  const cur = path.join(accountDirectory(root, address), 'Maildir/cur');
  await truncate(path.join(cur, (await readdir(cur))[0]!), 0);
  const found = await cluster.command(['account', 'check', address]).catch((error: Error) => error.message);
  expect(found).toMatch(/DAMAGE Maildir\/cur\/\S+: is empty and should have \d+ bytes\n/);
  const repaired = await cluster.command(['account', 'check', address, '--repair', '--json']);
  expect(JSON.parse(repaired)).toMatchObject({ address, damage: 1, repaired: 1 });

  const refused = await cluster
    .command(['account', 'convert', address, '--to', 'mh'])
    .catch((error: Error) => error.message);
  expect(refused).toContain('--to maildir, or --to mbox');
  const convert = (to: string) =>
    cluster.command(['account', 'convert', address, '--folder', 'INBOX', '--to', to]);
  expect(await convert('mbox')).toBe('INBOX: 2 messages, now mbox\n');
  expect(await convert('mbox')).toBe('INBOX: was mbox already\n');
  expect(await convert('maildir')).toBe('INBOX: 2 messages, now maildir\n');

  expect(await cluster.command(['account', 'release', address])).toContain('released: 1 folders, 2 messages');
  const shown = await cluster.command(['account', 'show', address]).catch((error: Error) => error.message);
  expect(shown).toContain('the account is released');
  expect(await cluster.command(['account', 'resume', address])).toContain('resumed: 1 folders, 2 messages');
}, 60_000);
