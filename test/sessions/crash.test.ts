/** Backends are killed under clients: idle ones notice nothing, commands under way are answered, changes are made once. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster, type TestAccount } from '../support/cluster.ts';
import { append, Client, subjects } from './client.ts';
import { resumeRounds } from './resume-rounds.ts';

let cluster: Cluster;
const open: Client[] = [];

beforeAll(async () => {
  cluster = await startCluster({ config: 'backend.count = 2\nlogin.plaintext = true\n' });
}, 60_000);

afterEach(() => {
  for (const client of open.splice(0)) client.close();
});

afterAll(() => cluster?.stop(), 30_000);

async function imap(account: TestAccount): Promise<Client> {
  const client = await Client.imap(cluster, account);
  open.push(client);
  return client;
}

const ownerOf = async ({ address }: TestAccount): Promise<string> =>
  (JSON.parse(await cluster.command(['cluster', 'why', address, '--json'])) as { owner: string }).owner;

async function killOwner(account: TestAccount): Promise<void> {
  await cluster.kill(await ownerOf(account));
}

describe('the backend of an account is killed', () => {
  test('clients in IDLE and between commands go on where they were', async () => {
    const account = await cluster.addAccount('idle@postern.test');
    const [idler, other, quiet] = [await imap(account), await imap(account), await imap(account)];
    for (const subject of ['one', 'two', 'three']) await append(other, subject);
    await idler.ask('ENABLE CONDSTORE');
    await idler.ask('SELECT INBOX');
    await quiet.ask('SELECT INBOX');
    idler.write('idler IDLE\r\n');
    await idler.readTo(/^\+ .*\r\n/m);
    await other.ask('SELECT INBOX');
    await other.ask('STORE 1 +FLAGS.SILENT (\\Deleted)');
    await other.ask('EXPUNGE');
    await idler.readTo(/^\* 1 EXPUNGE\r\n/m);
    await killOwner(account);
    await append(other, 'four');
    await idler.readTo(/^\* 3 EXISTS\r\n/m);
    idler.write('DONE\r\n');
    await idler.readTo(/^idler OK .*\r\n/m);
    expect(await quiet.ask('FETCH 2 (UID)')).toMatch(/^\* 2 FETCH \(UID 2\)/m);
    expect(await quiet.ask('NOOP')).toMatch(/^\* 1 EXPUNGE\r\n\* 3 EXISTS\r\n/m);
    expect(await subjects(quiet)).toEqual(['two', 'three', 'four']);
  }, 60_000);

  test('a message half sent when its backend died is stored once', async () => {
    const account = await cluster.addAccount('half@postern.test');
    const client = await imap(account);
    const message = `Subject: halved\r\n\r\n${'x'.repeat(5000)}\r\n`;
    client.write(`half APPEND INBOX {${message.length}}\r\n`);
    await client.readTo(/^\+ .*\r\n/m);
    client.write(message.slice(0, 2000));
    await killOwner(account);
    client.write(`${message.slice(2000)}\r\n`);
    expect(await client.readTo(/^half .*\r\n/m)).toMatch(/^half OK \[APPENDUID/);
    expect(client.text).not.toMatch(/^\+/m);
    expect(await client.ask('STATUS INBOX (MESSAGES)')).toMatch(/MESSAGES 1\)/);
  }, 60_000);

  test('a client in the middle of a long message is let go without a word in it', async () => {
    const account = await cluster.addAccount('long@postern.test');
    const writer = await imap(account);
    const message = `Subject: long\r\n\r\n${`${'y'.repeat(76)}\r\n`.repeat(300_000)}`;
    writer.write(`big APPEND INBOX {${message.length}+}\r\n${message}\r\n`);
    await writer.readTo(/^big OK .*\r\n/m);
    const reader = await imap(account);
    await reader.ask('SELECT INBOX');
    reader.socket.pause();
    reader.write('f FETCH 1 BODY.PEEK[]\r\n');
    // It reads nothing, so the answer stands still in the middle.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await killOwner(account);
    await writer.ask('NOOP');
    reader.socket.resume();
    await reader.readTo(/^f OK/m).then(
      () => {
        throw new Error('it was answered to the end');
      },
      () => {},
    );
    expect(reader.closed).toBe(true);
    expect(reader.text).not.toMatch(/BYE/);
  }, 60_000);

  test('a POP3 session goes on with its marks', async () => {
    const account = await cluster.addAccount('pop@postern.test');
    const writer = await imap(account);
    for (const subject of ['one', 'two']) await append(writer, subject);
    const client = await Client.pop3(cluster, account);
    open.push(client);
    client.write('DELE 1\r\n');
    await client.readTo(/^\+OK\r\n/);
    await killOwner(account);
    client.write('STAT\r\nQUIT\r\n');
    await client.readTo(/^\+OK 1 \d+\r\n\+OK bye\r\n/);
    await writer.ask('SELECT INBOX');
    expect(await subjects(writer)).toEqual(['two']);
  }, 60_000);

  test('every change under way is made once, whenever the kill comes', async () => {
    const report = await resumeRounds(cluster, { kills: 8, lanes: 4, seed: 20_261_125 });
    expect(report).toMatchObject({ missing: 0, doubled: 0, closed: 0, wrong: [] });
    expect(report.answers.OK).toBeGreaterThan(20);
  }, 120_000);
});

test('sessions go on at the same backend when it is the only one', async () => {
  const alone = await startCluster({ config: 'login.plaintext = true\n' });
  try {
    const client = await Client.imap(alone, alone.account);
    await append(client, 'one');
    await client.ask('SELECT INBOX');
    await alone.kill('backend-1');
    expect(await subjects(client)).toEqual(['one']);
    client.close();
  } finally {
    await alone.stop();
  }
}, 60_000);
