/**
 * Conversations with a real cluster over its real ports, from the files in
 * `dialogs/`: each is named for its row in the list of cases, each has an account
 * of its own, and after each the mailbox holds what the file says and nothing else.
 */

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cluster, startCluster, type TestAccount } from '../support/cluster.ts';
import { runDialog } from '../support/dialog.ts';
import { waitFor } from '../support/process.ts';
import { openDescriptors } from './descriptors.ts';
import { storedMessages } from './stored-messages.ts';

const dir = path.join(import.meta.dirname, 'dialogs');
const files = readdirSync(dir)
  .filter((file) => file.endsWith('.dialog'))
  .sort();

let cluster: Cluster;
let pids: Record<string, number>;
const descriptors: Record<string, number> = {};

beforeAll(async () => {
  // Dialogs fail logins on purpose and come from one address: the plugins that count this have tests of their own.
  cluster = await startCluster({ config: '[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n' });
  pids = await cluster.memberPids();
  for (const [id, pid] of Object.entries(pids)) descriptors[id] = await openDescriptors(pid);
}, 120_000);
afterAll(() => cluster?.stop());

test.each(files.map((file) => [file, titleOf(file)]))('%s: %s', async (file) => {
  const name = file.replace(/\.dialog$/, '');
  const account = await cluster.addAccount(`${name}@postern.test`);
  const other = await cluster.addAccount(`${name}.other@postern.test`);
  const stored = await runDialog(path.join(dir, file), {
    host: cluster.host,
    ports: cluster.ports,
    words: words(account, other),
  });
  const subjects = (one: TestAccount): Promise<string[]> =>
    storedMessages(cluster, one).then((messages) => messages.map(({ subject }) => subject).sort());
  expect(await subjects(account)).toEqual([...stored].sort());
  expect(await subjects(other)).toEqual([]);
  // Nobody died of it.
  expect(await cluster.memberPids()).toEqual(pids);
});

test('afterwards every descriptor has been given back', async () => {
  await waitFor('the descriptors', async () => {
    for (const [id, pid] of Object.entries(pids)) {
      const now = await openDescriptors(pid);
      // A backend keeps the journal of every account open for a while; each dialog has two accounts.
      const kept = id.startsWith('backend') ? 2 * files.length : 0;
      if (now > descriptors[id]! + kept + 10) throw new Error(`${id} has ${now}, had ${descriptors[id]}`);
    }
    return true;
  });
});

function titleOf(file: string): string {
  return readFileSync(path.join(dir, file), 'utf8').trimStart().split('\n')[0]!.replace(/^# /, '');
}

function words(account: TestAccount, other: TestAccount): Record<string, string> {
  return {
    account: account.address,
    account_upper: account.address.toUpperCase(),
    account_len: String(account.address.length),
    password: account.password,
    password_len: String(account.password.length),
    plain: Buffer.from(`\0${account.address}\0${account.password}`).toString('base64'),
    other: other.address,
    other_password: other.password,
  };
}
