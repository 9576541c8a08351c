/** COMPRESS=DEFLATE (RFC 4978) from the client to the gateway: what is compressed, what ends it, and that sessions move all the same. */
import { once } from 'node:events';
import tls from 'node:tls';
import zlib from 'node:zlib';
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

const newAccount = (): Promise<TestAccount> => cluster.addAccount(`dense${++count}@postern.test`);

async function imap(account: TestAccount): Promise<Client> {
  const client = await Client.imap(cluster, account);
  open.push(client);
  return client;
}

/** Asks for compression and speaks it. */
async function compressed(client: Client): Promise<Client> {
  expect(await client.ask('COMPRESS DEFLATE')).toBe('. OK DEFLATE active\r\n');
  const { socket } = client;
  const inflate = zlib.createInflateRaw({ finishFlush: zlib.constants.Z_SYNC_FLUSH });
  const deflate = zlib.createDeflateRaw({ flush: zlib.constants.Z_SYNC_FLUSH });
  inflate.on('error', () => socket.destroy());
  inflate.on('data', (chunk: Buffer) => {
    client.text += chunk.toString('latin1');
  });
  socket.removeAllListeners('data');
  socket.pipe(inflate);
  deflate.pipe(socket);
  client.write = (bytes) => {
    deflate.write(Buffer.from(bytes as string, 'latin1'));
  };
  return client;
}

describe('COMPRESS', () => {
  test('bad input first: no mechanism, an unknown one, too many', async () => {
    const client = await imap(await newAccount());
    expect(await client.ask('COMPRESS')).toMatch(/^\. BAD/);
    expect(await client.ask('COMPRESS LZ4')).toMatch(/^\. BAD/);
    expect(await client.ask('COMPRESS DEFLATE x')).toMatch(/^\. BAD/);
    expect(await client.ask('NOOP')).toMatch(/^\. OK/m);
  }, 60_000);

  test('what follows is compressed both ways, and a second one is refused', async () => {
    const account = await newAccount();
    const client = await imap(account);
    expect(await client.ask('CAPABILITY')).toMatch(/ COMPRESS=DEFLATE /);
    await compressed(client);
    expect(await client.ask('COMPRESS DEFLATE')).toMatch(/^\. NO \[COMPRESSIONACTIVE\]/m);
    expect(await client.ask('CAPABILITY')).not.toMatch(/COMPRESS/);
    for (const subject of ['one', 'two', 'three']) await append(client, subject);
    await client.ask('SELECT INBOX');
    expect(await subjects(client)).toEqual(['one', 'two', 'three']);
    const before = client.socket.bytesRead;
    const text = await client.ask('FETCH 1:3 (ENVELOPE BODYSTRUCTURE BODY.PEEK[])');
    expect(client.socket.bytesRead - before).toBeLessThan(text.length / 2);
    // Another session sees what came compressed.
    const other = await imap(account);
    await other.ask('SELECT INBOX');
    expect(await subjects(other)).toEqual(['one', 'two', 'three']);
  }, 60_000);

  test('large messages go through whole, and IDLE is answered at once', async () => {
    const account = await newAccount();
    const client = await compressed(await imap(account));
    const body = Array.from(
      { length: 40_000 },
      (_, line) => `line ${line} ${(line * 7919) % 104_729}\r\n`,
    ).join('');
    const message = `Subject: large\r\n\r\n${body}`;
    client.write(`big APPEND INBOX {${message.length}+}\r\n${message}\r\n`);
    await client.readTo(/^big OK .*\r\n/m);
    await client.ask('SELECT INBOX');
    expect(await client.ask('FETCH 1 BODY.PEEK[TEXT]')).toContain(body);
    client.write('idler IDLE\r\n');
    await client.readTo(/^\+ .*\r\n/m);
    await append(await imap(account), 'while idle');
    await client.readTo(/^\* 2 EXISTS\r\n/m);
    client.write('DONE\r\n');
    await client.readTo(/^idler OK .*\r\n/m);
    expect(await client.ask('LOGOUT')).toMatch(/^\* BYE[\s\S]*\. OK/m);
    await waitFor('the end', () => client.closed);
  }, 60_000);

  test('inside TLS too', async () => {
    const { address, password } = await newAccount();
    const socket = tls.connect({ port: cluster.ports.imaps, host: '127.0.0.1', rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const client = new Client(socket);
    open.push(client);
    client.write(`login LOGIN ${address} "${password}"\r\n`);
    await client.readTo(/^login OK .*\r\n/m);
    await compressed(client);
    expect(await client.ask('STATUS INBOX (MESSAGES)')).toMatch(/MESSAGES 0\)/);
  }, 60_000);

  test('a compressed session moves with its account', async () => {
    const account = await newAccount();
    const client = await compressed(await imap(account));
    for (const subject of ['one', 'two']) await append(client, subject);
    await client.ask('SELECT INBOX');
    const why = async (): Promise<string> =>
      (JSON.parse(await cluster.command(['cluster', 'why', account.address, '--json'])) as { owner: string })
        .owner;
    const to = (await why()) === 'backend-1' ? 'backend-2' : 'backend-1';
    await cluster.command(['cluster', 'pin', account.address, to]);
    await waitFor(`${account.address} at ${to}`, async () => (await why()) === to);
    expect(await subjects(client)).toEqual(['one', 'two']);
    expect(await client.ask('COMPRESS DEFLATE')).toMatch(/^\. NO \[COMPRESSIONACTIVE\]/m);
  }, 60_000);
});

describe('what is no honest compression', () => {
  test('bytes that are no DEFLATE end the connection, and only this one', async () => {
    const account = await newAccount();
    const [client, other] = [await imap(account), await imap(account)];
    expect(await client.ask('COMPRESS DEFLATE')).toMatch(/^\. OK/);
    client.socket.write(Buffer.alloc(4096, 0xff));
    await waitFor('the end', () => client.closed);
    expect(await other.ask('NOOP')).toMatch(/^\. OK/m);
  }, 60_000);

  test('a bomb ends the connection before it has taken room (CASES 29)', async () => {
    const account = await newAccount();
    const [client, other] = [await imap(account), await imap(account)];
    expect(await client.ask('COMPRESS DEFLATE')).toMatch(/^\. OK/);
    const message = Buffer.alloc(48 * 1024 * 1024, 'a');
    const bomb = zlib.deflateRawSync(
      Buffer.concat([Buffer.from(`b APPEND INBOX {${message.length}+}\r\n`), message, Buffer.from('\r\n')]),
    );
    expect(bomb.length).toBeLessThan(100_000);
    client.socket.write(bomb);
    await waitFor('the end', () => client.closed, 30_000);
    expect(await other.ask('STATUS INBOX (MESSAGES)')).toMatch(/MESSAGES 0\)/);
  }, 60_000);
});
