/** An account moves from backend to backend while its clients are connected: they notice nothing but a pause. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';
import { append, Client, subjects } from './client.ts';

let cluster: Cluster;
let count = 0;
const open: Client[] = [];

beforeAll(async () => {
  cluster = await startCluster({ config: 'backend.count = 2\nlogin.plaintext = true\n' });
}, 60_000);

afterEach(() => {
  for (const client of open.splice(0)) client.close();
});

afterAll(() => cluster?.stop(), 30_000);

/** On a machine that stands still for seconds a backend loses its lease, and the command its answer. */
function newAccount(): Promise<TestAccount> {
  return waitFor('an account', () => cluster.addAccount(`mover${++count}@postern.test`), 60_000);
}

async function imap(account: TestAccount): Promise<Client> {
  const client = await Client.imap(cluster, account);
  open.push(client);
  return client;
}

interface Where {
  readonly owner: string;
}

const ownerOf = async ({ address }: TestAccount): Promise<string> =>
  (JSON.parse(await cluster.command(['cluster', 'why', address, '--json'])) as Where).owner;

/** Moves an account to the other backend and waits until it is there. */
async function move(account: TestAccount): Promise<void> {
  const to = (await ownerOf(account)) === 'backend-1' ? 'backend-2' : 'backend-1';
  await cluster.command(['cluster', 'pin', account.address, to]);
  await waitFor(`${account.address} at ${to}`, async () => (await ownerOf(account)) === to);
}

describe('an account moves', () => {
  test('a session between two commands goes on with the same numbers', async () => {
    const account = await newAccount();
    const client = await imap(account);
    for (const subject of ['one', 'two', 'three']) await append(client, subject);
    await client.ask('SELECT INBOX');
    await move(account);
    expect(await subjects(client)).toEqual(['one', 'two', 'three']);
    expect(await client.ask('STORE 2 +FLAGS (\\Flagged)')).toMatch(/^\* 2 FETCH .*\\Flagged.*\r\n\. OK/m);
    await move(account);
    expect(await client.ask('FETCH 2 FLAGS')).toMatch(/^\* 2 FETCH \(FLAGS \(\\Flagged\)\)\r\n\. OK/m);
  }, 60_000);

  test('a session that has only logged in goes on', async () => {
    const account = await newAccount();
    const client = await imap(account);
    await move(account);
    expect(await client.ask('SELECT INBOX')).toMatch(/^\. OK/m);
  }, 60_000);

  test('a client in IDLE hears of mail afterwards, and its DONE is answered', async () => {
    const account = await newAccount();
    const client = await imap(account);
    await client.ask('SELECT INBOX');
    client.write('idler IDLE\r\n');
    await client.readTo(/^\+ .*\r\n/m);
    await move(account);
    await append(await imap(account), 'later');
    await client.readTo(/^\* 1 EXISTS\r\n/m);
    await move(account);
    expect(client.text).not.toMatch(/^\+/m);
    client.write('DONE\r\n');
    await client.readTo(/^idler OK .*\r\n/m);
  }, 60_000);

  test('what another session expunged is told where the protocol allows it, with the old numbers until then', async () => {
    const account = await newAccount();
    const [watcher, other] = [await imap(account), await imap(account)];
    for (const subject of ['one', 'two', 'three', 'four', 'five']) await append(other, subject);
    await watcher.ask('SELECT INBOX');
    await other.ask('SELECT INBOX');
    await other.ask('STORE 2,4 +FLAGS.SILENT (\\Deleted)');
    expect(await other.ask('EXPUNGE')).toMatch(/^\* 4 EXPUNGE\r\n\* 2 EXPUNGE\r\n\. OK/m);
    await append(other, 'six');
    await move(account);
    expect(await watcher.ask('FETCH 5 (UID)')).toMatch(/^\* 5 FETCH \(UID 5\)\r\n[\s\S]*\. OK/m);
    await move(account);
    expect(await watcher.ask('NOOP')).toMatch(
      /^\* 4 EXPUNGE\r\n\* 2 EXPUNGE\r\n\* 4 EXISTS\r\n[\s\S]*\. OK/m,
    );
    expect(await subjects(watcher)).toEqual(['one', 'three', 'five', 'six']);
  }, 60_000);

  test('a QRESYNC session is told by UID, and keeps what it enabled and saved', async () => {
    const account = await newAccount();
    const [watcher, other] = [await imap(account), await imap(account)];
    for (const subject of ['one', 'two', 'three']) await append(other, subject);
    await watcher.ask('ENABLE QRESYNC IMAP4rev2');
    await watcher.ask('SELECT INBOX');
    await watcher.ask('SEARCH RETURN (SAVE) SUBJECT two');
    await other.ask('SELECT INBOX');
    await other.ask('STORE 1 +FLAGS.SILENT (\\Deleted)');
    await other.ask('EXPUNGE');
    await other.ask('STORE 2 +FLAGS.SILENT (\\Answered)');
    await move(account);
    expect(await watcher.ask('UID FETCH $ (FLAGS)')).toMatch(/^\* \d FETCH \(UID 2 /m);
    expect(await watcher.ask('NOOP')).not.toMatch(/EXPUNGE/);
    await other.ask('STORE 1 +FLAGS.SILENT (\\Deleted)');
    await other.ask('EXPUNGE');
    await move(account);
    const told = await watcher.ask('NOOP');
    expect(told).toMatch(/^\* VANISHED 2\r\n/m);
  }, 60_000);

  test('commands sent one behind the other are all answered, once and in order', async () => {
    const account = await newAccount();
    const client = await imap(account);
    await client.ask('SELECT INBOX');
    const moving = move(account);
    let sent = 0;
    while (sent < 400) {
      let lines = '';
      for (let n = 0; n < 8; n++) lines += `p${++sent} NOOP\r\n`;
      client.write(lines);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await moving;
    await client.readTo(new RegExp(`^p${sent} OK .*\\r\\n`, 'm')).then((text) => {
      const tags = [...text.matchAll(/^p(\d+) OK/gm)].map((found) => Number(found[1]));
      expect(tags).toEqual(Array.from({ length: sent }, (_, index) => index + 1));
    });
  }, 60_000);

  test('a message half sent is stored once', async () => {
    const account = await newAccount();
    const client = await imap(account);
    const message = `Subject: halved\r\n\r\n${'x'.repeat(5000)}\r\n`;
    client.write(`half APPEND INBOX {${message.length}}\r\n`);
    await client.readTo(/^\+ .*\r\n/m);
    client.write(message.slice(0, 2000));
    await move(account);
    client.write(`${message.slice(2000)}\r\n`);
    expect(await client.readTo(/^half .*\r\n/m)).toMatch(/^half OK \[APPENDUID/);
    expect(await client.ask('STATUS INBOX (MESSAGES)')).toMatch(/MESSAGES 1\)/);
  }, 60_000);
});

test('a POP3 session keeps its messages and its marks, and QUIT removes them', async () => {
  const account = await newAccount();
  const writer = await imap(account);
  for (const subject of ['one', 'two', 'three']) await append(writer, subject);
  const client = await Client.pop3(cluster, account);
  open.push(client);
  client.write('DELE 2\r\n');
  await client.readTo(/^\+OK\r\n/);
  await move(account);
  await append(writer, 'four');
  client.write('STAT\r\nRETR 1\r\nDELE 2\r\n');
  expect(await client.readTo(/^-ERR .*\r\n/m)).toMatch(/^\+OK 2 \d+\r\n\+OK .*\r\nSubject: one\r\n/);
  await move(account);
  client.write('QUIT\r\n');
  await client.readTo(/^\+OK bye\r\n/);
  await writer.ask('SELECT INBOX');
  expect(await subjects(writer)).toEqual(['one', 'three', 'four']);
}, 60_000);
