/** Whose address it is, and what of a client's words reaches the log (CASES 63, 64, 66, 71). */

import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, type PortName, startCluster } from '../support/cluster.ts';
import { SmtpConnection } from '../support/mail-sender.ts';
import { waitFor } from '../support/process.ts';

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({
    config:
      'net.proxy_from = ["127.0.0.1"]\nsmtp.errors_max = 50\n[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n',
  });
}, 120_000);
afterAll(() => cluster?.stop());

const own = 'PROXY TCP4 198.51.100.7 192.0.2.25 40000 25\r\n';

/** Sends everything, reads until the other side closes or says nothing for a while. */
async function say(
  port: PortName,
  text: string,
  options: { tls?: boolean; quietMs?: number } = {},
): Promise<string> {
  const plain = connectTo(cluster, port);
  let socket: tls.TLSSocket | typeof plain = plain;
  if (options.tls) {
    plain.write(own);
    socket = tls.connect({ socket: plain, rejectUnauthorized: false });
    socket.on('error', () => {});
  }
  let answer = '';
  let heard = performance.now();
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1');
    heard = performance.now();
  });
  let closed = false;
  plain.on('close', () => {
    closed = true;
  });
  socket.write(text, 'latin1');
  await waitFor('silence', () => closed || performance.now() - heard > (options.quietMs ?? 700));
  plain.destroy();
  return answer;
}

const connectionsFrom = async (helo: string): Promise<unknown[]> =>
  (await cluster.logs()).filter((record) => record.helo === helo).map((record) => record.client);

describe('an address is judged as the IPv4 it carries', () => {
  const rows: readonly [claimed: string, family: 'TCP4' | 'TCP6', client: string][] = [
    ['203.0.113.9', 'TCP4', '203.0.113.9'],
    ['::ffff:203.0.113.9', 'TCP6', '203.0.113.9'],
    ['::ffff:cb00:7109', 'TCP6', '203.0.113.9'],
    ['64:ff9b::cb00:7109', 'TCP6', '203.0.113.9'],
    ['2002:cb00:7109::1', 'TCP6', '203.0.113.9'],
    ['2001:db8:0:0:1::9', 'TCP6', '2001:db8::1:0:0:9'],
    ['fe80::1%eth0', 'TCP6', 'fe80::1'],
    // a balancer that says a client is this machine is not believed: the connection is the balancer's own
    ['127.0.0.1', 'TCP4', '127.0.0.1'],
    ['::ffff:127.0.0.1', 'TCP6', '127.0.0.1'],
    ['::ffff:7f00:1', 'TCP6', '127.0.0.1'],
    ['64:ff9b::7f00:1', 'TCP6', '127.0.0.1'],
    ['2002:7f00:1::', 'TCP6', '127.0.0.1'],
  ];
  test.each(rows)('%s over %s is %s', async (claimed, family, client) => {
    const helo = `h${claimed.replace(/[^0-9a-z]/g, '-')}.test`;
    const to = family === 'TCP4' ? '192.0.2.25' : '2001:db8::25';
    const answer = await say('smtp', `PROXY ${family} ${claimed} ${to} 40000 25\r\n`, { quietMs: 200 });
    expect(answer).toMatch(/^220 /);
    const socket = connectTo(cluster, 'smtp');
    socket.write(`PROXY ${family} ${claimed} ${to} 40000 25\r\n`);
    await once(socket, 'data');
    socket.write(`EHLO ${helo}\r\nQUIT\r\n`);
    await once(socket.resume(), 'close');
    await waitFor('the log', async () => (await connectionsFrom(helo)).length > 0);
    expect(await connectionsFrom(helo)).toEqual([client]);
  });

  test.each([
    ['nonsense', 'PROXY TCP9 x y z\r\n'],
    ['no end', `PROXY TCP4 ${'1'.repeat(300)}`],
    ['a truncated header of version 2', '\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01\x02'],
    ['no header at all', 'EHLO c.test\r\n'],
  ])('%s in place of an address: closed without a greeting', async (_, header) => {
    expect(await say('smtp', header, { quietMs: 6000 })).toBe('');
  });
});

describe('TLS that was meant for another protocol', () => {
  test.each<[PortName, string[], boolean]>([
    ['imaps', ['imap'], true],
    ['imaps', ['http/1.1'], false],
    ['imaps', ['h2', 'http/1.1'], false],
    ['pop3s', ['pop3'], true],
    ['pop3s', ['imap'], false],
    ['submissions', ['http/1.1'], false],
    ['https', ['http/1.1'], true],
    ['https', ['imap'], false],
  ])('%s offered %j: %p', async (port, protocols, good) => {
    const plain = connectTo(cluster, port);
    plain.write(own);
    const socket = tls.connect({ socket: plain, rejectUnauthorized: false, ALPNProtocols: protocols });
    const outcome = await Promise.race([
      once(socket, 'secureConnect').then(
        () => true,
        () => false,
      ),
      once(plain, 'close').then(() => false),
    ]);
    socket.on('error', () => {});
    socket.destroy();
    expect(outcome).toBe(good);
  });

  test.each(['TLSv1', 'TLSv1.1'] as const)('%s is not spoken', async (version) => {
    const plain = connectTo(cluster, 'imaps');
    plain.write(own);
    const socket = tls.connect({
      socket: plain,
      rejectUnauthorized: false,
      minVersion: version,
      maxVersion: version,
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    const error = await once(socket, 'error').then(([reason]) => String(reason));
    expect(error).toMatch(/protocol version|unsupported|alert/i);
  });
});

describe('the log', () => {
  const secret = 'Tr0ub4dor-and-3';
  const nasty = '\x1b[2J\x1b[31mroot\x07';

  test('has one escaped, capped record each, and never a password', async () => {
    // HELO with an escape sequence, and one of a megabyte
    await say('smtp', `${own}EHLO ${nasty}\r\nQUIT\r\n`);
    await say('smtp', `${own}EHLO ${'h'.repeat(1_000_000)}\r\n`);
    // user names with CR LF and a forged record, in base64 and as literals
    const forged = `demo\r\n{"level":"info","msg":"forged record"}`;
    const sasl = Buffer.from(`\0${forged}\0${secret}`).toString('base64');
    await say('submissions', `EHLO c.test\r\nAUTH PLAIN ${sasl}\r\nQUIT\r\n`, { tls: true });
    await say('imaps', `a LOGIN {${forged.length}+}\r\n${forged} "${secret}"\r\nb LOGOUT\r\n`, { tls: true });
    await say('imaps', `a LOGIN "${cluster.account.address}" "${secret}"\r\nb LOGOUT\r\n`, { tls: true });
    await say('imaps', `a LOGIN "${secret}"\r\nb LOGIN\r\nc LOGOUT\r\n`, { tls: true });
    await say('pop3s', `USER ${'u'.repeat(1500)}\r\nPASS ${secret}\r\nQUIT\r\n`, { tls: true });
    await say('pop3s', `USER ${cluster.account.address}\r\nPASS ${cluster.account.password}\r\nQUIT\r\n`, {
      tls: true,
    });
    const basic = Buffer.from(`${forged}:${secret}`).toString('base64');
    await say(
      'https',
      `GET /.well-known/jmap HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${basic}\r\nConnection: close\r\n\r\n`,
      { tls: true },
    );
    // a subject and an address full of controls
    const connection = await proxied();
    await connection.command(`MAIL FROM:<a${nasty}@example.org>`);
    await connection.command('RSET');
    const answer = await connection.send(
      'a@example.org',
      [cluster.account.address],
      Buffer.from(`Subject: ${nasty}${'s'.repeat(900)}\r\nMessage-ID: <${nasty}>\r\n\r\nx\r\n`),
    );
    expect([250, 554]).toContain(answer.code);
    await connection.quit();
    await new Promise((resolve) => setTimeout(resolve, 500));

    const dir = path.join(cluster.data, 'log');
    const texts = await Promise.all(
      (await readdir(dir)).map((file) => readFile(path.join(dir, file), 'latin1')),
    );
    const text = texts.join('') + cluster.output();
    expect(text).not.toContain('\x1b');
    expect(text).not.toContain('\x07');
    for (const word of [secret, cluster.account.password, sasl, basic]) {
      // the ready screen shows the first account's password to whoever started it, once
      expect(texts.join('')).not.toContain(word);
      expect(texts.join('')).not.toContain(Buffer.from(word).toString('base64').slice(0, 16));
    }
    const lines = texts.join('').split('\n').filter(Boolean);
    expect(lines.length).toBeGreaterThan(10);
    for (const line of lines) {
      expect(line.length).toBeLessThan(16_384);
      expect((JSON.parse(line) as { msg: string }).msg).not.toBe('forged record');
    }
  });

  async function proxied(): Promise<SmtpConnection> {
    // SmtpConnection speaks first only after the greeting; the header has to come before: a relay adds it.
    const net = await import('node:net');
    const relay = net.createServer((client) => {
      const target = connectTo(cluster, 'smtp');
      target.write(own);
      client.on('error', () => {});
      client.pipe(target);
      target.pipe(client);
    });
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    const connection = await SmtpConnection.open('127.0.0.1', (relay.address() as { port: number }).port);
    relay.close();
    return connection;
  }
});
