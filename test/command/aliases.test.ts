/** Aliases on a cluster of two backends: where mail to them goes, and what they are not. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, startCluster, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

let cluster: Cluster;
const accounts: TestAccount[] = [];

beforeAll(async () => {
  cluster = await startCluster({ config: 'backend.count = 2\nlogin.plaintext = true\n' });
  for (let number = 0; number < 4; number++)
    accounts.push(await cluster.addAccount(`person${number}@postern.test`));
}, 60_000);
afterAll(() => cluster?.stop(), 30_000);

const postern = (...words: string[]): Promise<string> => cluster.command(words);
const refusal = async (...words: string[]): Promise<string> => {
  const said = await postern(...words).catch((error: Error) => error);
  if (typeof said === 'string') throw new Error(`it did: ${said}`);
  return said.message;
};

async function dialog(port: 'smtp' | 'imap', lines: readonly string[], answer: RegExp): Promise<string[]> {
  const socket: Socket = connectTo(cluster, port);
  await once(socket, 'connect');
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  const said: string[] = [];
  try {
    for (const line of ['', ...lines]) {
      text = '';
      if (line !== '') socket.write(`${line}\r\n`);
      await waitFor(`an answer to ${line}`, () => answer.test(text) || socket.destroyed);
      said.push(text);
    }
  } finally {
    socket.destroy();
  }
  return said.slice(1);
}

/** @returns The last reply, and those to RCPT. */
async function send(to: readonly string[], subject: string): Promise<{ last: string; recipients: string[] }> {
  const said = await dialog(
    'smtp',
    [
      'EHLO client.example',
      'MAIL FROM:<sender@example.org>',
      ...to.map((address) => `RCPT TO:<${address}>`),
      'DATA',
      `Subject: ${subject}\r\n\r\ntext\r\n.`,
    ],
    /^\d{3} .*\r\n/m,
  );
  return { last: said.at(-1)!, recipients: said.slice(2, 2 + to.length) };
}

async function countOf({ address, password }: TestAccount, subject: string): Promise<number> {
  const said = await dialog(
    'imap',
    [`a LOGIN ${address} "${password}"`, 'a SELECT INBOX', `a SEARCH HEADER SUBJECT "${subject}"`],
    /^(?:a |\* OK).*\r\n/m,
  );
  return (/^\* SEARCH(.*)\r$/m.exec(said.at(-1)!)?.[1] ?? '').split(' ').filter(Boolean).length;
}
const counts = (subject: string): Promise<number[]> =>
  Promise.all(accounts.map((account) => countOf(account, subject)));
const person = (number: number): string => accounts[number]!.address;

describe('an alias', () => {
  test('leads to one account, then to several, at whichever backend; each gets a message once', async () => {
    await postern('alias', 'add', 'Team@postern.test', person(0));
    expect((await send(['team@postern.test'], 'first')).last).toMatch(/^250 /);
    expect(await counts('first')).toEqual([1, 0, 0, 0]);
    for (const number of [1, 2]) await postern('alias', 'add', 'team@postern.test', person(number));
    expect((await send(['team@postern.test', person(1), 'TEAM@postern.test'], 'second')).last).toMatch(
      /^250 /,
    );
    expect(await counts('second')).toEqual([1, 1, 1, 0]);
    expect(await postern('alias', 'list')).toBe(
      `team@postern.test: ${person(0)}, ${person(1)}, ${person(2)}\n`,
    );
    await postern('alias', 'remove', 'team@postern.test', person(0));
    expect((await send(['team@postern.test'], 'third')).last).toMatch(/^250 /);
    expect(await counts('third')).toEqual([0, 1, 1, 0]);
  }, 60_000);

  test('moves with its shard', async () => {
    await waitFor('two backends with shards', async () => {
      const { members } = JSON.parse(await postern('cluster', 'status', '--json')) as {
        members: { shards?: number }[];
      };
      return members.filter(({ shards }) => (shards ?? 0) > 0).length === 2;
    });
    const { owner } = JSON.parse(await postern('cluster', 'why', 'team@postern.test', '--json')) as {
      owner: string;
    };
    await postern('cluster', 'drain', owner, '--wait');
    expect((await send(['team@postern.test'], 'moved')).last).toMatch(/^250 /);
    expect(await counts('moved')).toEqual([0, 1, 1, 0]);
    await postern('alias', 'add', 'team@postern.test', person(3));
    await postern('cluster', 'undrain', owner);
    expect((await send(['team@postern.test'], 'moved on')).last).toMatch(/^250 /);
    expect(await counts('moved on')).toEqual([0, 1, 1, 1]);
  }, 60_000);

  test('is no account: nobody logs in with it, and no name is both', async () => {
    const said = await dialog(
      'imap',
      [`a LOGIN team@postern.test "${accounts[1]!.password}"`],
      /^(?:a |\* OK).*\r\n/m,
    );
    expect(said[0]).toMatch(/^a NO/m);
    expect(await refusal('account', 'add', 'team@postern.test')).toMatch(/is an alias; remove it first/);
    expect(await refusal('alias', 'add', person(0), person(1))).toMatch(
      /is an account; an alias needs a name of its own/,
    );
  }, 30_000);

  test('leads to accounts only: not to another alias, to nobody, or to another server', async () => {
    expect(await refusal('alias', 'add', 'all@postern.test', 'team@postern.test')).toMatch(
      /no such account/i,
    );
    expect(await refusal('alias', 'add', 'all@postern.test', 'nobody@postern.test')).toMatch(
      /no such account/i,
    );
    expect(await refusal('alias', 'add', 'all@postern.test', 'someone@example.org')).toMatch(
      /no such account/i,
    );
    expect(await refusal('alias', 'add', 'all@example.org', person(0))).toMatch(
      /is not a domain of this cluster/,
    );
    expect((await send(['all@postern.test'], 'none')).recipients[0]).toMatch(/^550 /);
  }, 30_000);

  test('whose account was removed leads to the others; without any it is nobody', async () => {
    await postern('alias', 'add', 'pair@postern.test', person(2));
    await postern('alias', 'add', 'pair@postern.test', person(3));
    await postern('account', 'remove', person(3));
    expect((await send(['pair@postern.test'], 'left')).last).toMatch(/^250 /);
    expect(await countOf(accounts[2]!, 'left')).toBe(1);
    await postern('alias', 'remove', 'pair@postern.test', person(2));
    expect((await send(['pair@postern.test'], 'nobody')).recipients[0]).toMatch(/^550 /);
    await postern('alias', 'remove', 'pair@postern.test');
    expect(await refusal('alias', 'remove', 'pair@postern.test')).toMatch(/is no alias/);
    expect(await postern('alias', 'list', 'postern.test')).toMatch(/^team@postern\.test: [^\n]*\n$/);
  }, 30_000);
});
