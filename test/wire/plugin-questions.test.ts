/** What a plugin answers to each question, as clients of all four protocols see it. */
import { request } from 'node:https';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ImapFlow } from 'imapflow';
import { type Cluster, connectTo, startCluster, type TestAccount } from '../support/cluster.ts';
import { SmtpConnection, withoutAddedHeaders } from '../support/mail-sender.ts';
import { storedMessages } from './stored-messages.ts';

let cluster: Cluster;
let locked: TestAccount;

beforeAll(async () => {
  const plugin = path.join(import.meta.dirname, 'plugins/questioning.ts');
  cluster = await startCluster({
    config: `login.plaintext = true\n[[plugin]]\nuse = ${JSON.stringify(plugin)}\n`,
  });
  locked = await cluster.addAccount('locked@postern.test');
}, 120_000);
afterAll(() => cluster?.stop());

/** Says one line after the other and returns all that was said back. */
function dialog(port: 'smtp' | 'submission' | 'imap' | 'pop3', lines: readonly string[]): Promise<string> {
  return new Promise((resolve, fail) => {
    const socket = connectTo(cluster, port);
    let text = '';
    let next = 0;
    socket.setTimeout(30_000, () => fail(new Error(`no answer after: ${text}`)));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (
        !/\r\n$/.test(text) ||
        /^\d{3}-[^\n]*\r\n$/.test(text.slice(text.lastIndexOf('\n', text.length - 2) + 1))
      )
        return;
      const line = lines[next++];
      if (line === undefined) socket.end();
      else socket.write(`${line}\r\n`);
    });
    socket.on('close', () => resolve(text));
  });
}

async function send(head: string, body = 'body\r\n'): Promise<number> {
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  try {
    const data = Buffer.from(`${head}From: a@example.org\r\n\r\n${body}`);
    return (await connection.send('a@example.org', [cluster.account.address], data)).code;
  } finally {
    connection.destroy();
  }
}

test('greeting: the name is refused, another one is taken', async () => {
  const said = await dialog('smtp', ['EHLO unwelcome.example', 'EHLO welcome.example', 'QUIT']);
  expect(said).toMatch(/^550 5\.7\.1 Not you\r$/m);
  expect(said).toMatch(/^250-/m);
});

describe('authenticated: right credentials, turned away in the words of', () => {
  test('SMTP', async () => {
    const plain = Buffer.from(`\0${locked.address}\0${locked.password}`).toString('base64');
    const said = await dialog('submission', [
      'EHLO a.example',
      `AUTH PLAIN ${plain}`,
      'MAIL FROM:<locked@postern.test>',
      'QUIT',
    ]);
    expect(said).toMatch(/^535 5\.7\.8 Account locked\r$/m);
    expect(said).toMatch(/^530 /m);
  });

  test('IMAP', async () => {
    const said = await dialog('imap', [
      `a LOGIN ${locked.address} "${locked.password}"`,
      'b SELECT INBOX',
      'c LOGOUT',
    ]);
    expect(said).toMatch(/^a NO Account locked\r$/m);
    expect(said).toMatch(/^b (?:BAD|NO)/m);
  });

  test('POP3', async () => {
    const said = await dialog('pop3', [`USER ${locked.address}`, `PASS ${locked.password}`, 'STAT', 'QUIT']);
    expect(said).toMatch(/^-ERR \[AUTH\] Account locked\r$/m);
  });

  test('HTTP', async () => {
    const status = await new Promise((resolve, fail) => {
      const asked = request(
        {
          host: cluster.host,
          port: cluster.ports.https,
          path: '/.well-known/jmap',
          auth: `${locked.address}:${locked.password}`,
          rejectUnauthorized: false,
        },
        (answer) => resolve(answer.resume().statusCode),
      );
      asked.on('error', fail);
      asked.end();
    });
    expect(status).toBe(403);
  });

  test('nobody else notices', async () => {
    const said = await dialog('imap', [
      `a LOGIN ${cluster.account.address} "${cluster.account.password}"`,
      'b SELECT INBOX',
      'c LOGOUT',
    ]);
    expect(said).toMatch(/^b OK/m);
  });
});

describe('a message', () => {
  test('refused by its header: told after the dot, nothing is stored', async () => {
    expect(
      await send('Subject: refused by its header\r\n', 'x'.repeat(900).concat('\r\n').repeat(2000)),
    ).toBe(554);
    expect(await storedMessages(cluster)).toEqual([]);
  });

  test('whose field is dropped: the rest stays byte for byte', async () => {
    expect(
      await send(
        'Subject: with an old field\r\nX-Old: one\r\n two\r\nX-OLD: three\r\n',
        'x'.repeat(70).concat('\r\n').repeat(10),
      ),
    ).toBe(250);
    const [message] = await storedMessages(cluster);
    const text = withoutAddedHeaders(message!.bytes).toString('latin1');
    expect(text).toBe(
      `Subject: with an old field\r\nFrom: a@example.org\r\n\r\n${'x'.repeat(70).concat('\r\n').repeat(10)}`,
    );
  });

  test('quarantined: in the junk folder, which is there for clients, and not in the inbox', async () => {
    expect(await send('Subject: into the junk\r\n')).toBe(250);
    expect((await storedMessages(cluster)).map(({ subject }) => subject)).toEqual(['with an old field']);
    const client = new ImapFlow({
      host: cluster.host,
      port: cluster.ports.imaps,
      secure: true,
      tls: { rejectUnauthorized: false },
      auth: { user: cluster.account.address, pass: cluster.account.password },
      logger: false,
    });
    await client.connect();
    try {
      const junk = (await client.list()).find(({ specialUse }) => specialUse === '\\Junk');
      expect(junk?.path).toBe('Junk');
      await client.mailboxOpen('Junk');
      const found = await client.fetchOne('1', { source: true });
      const text = found === false ? '' : found.source?.toString();
      expect(text).toMatch(/^X-Smell: yes\r$/m);
      expect(text).toMatch(/^Subject: into the junk\r$/m);
    } finally {
      await client.logout();
    }
  });
});
