/** CASES 6, 7 and 70: TLS begins with nothing, and AUTH does what RFC 4954 says. */

import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Client, Door, pause } from './door.ts';

let door: Door;
let plainDoor: Door;
beforeAll(async () => {
  door = await Door.start();
  plainDoor = await Door.start({ 'login.plaintext': true });
});
afterAll(() => Promise.all([door.stop(), plainDoor.stop()]));

const base64 = (text: string) => Buffer.from(text, 'utf8').toString('base64');
const good = base64('\0ann@example.org\0correct horse');

async function secure(role: 'mx' | 'submission' = 'submission'): Promise<Client> {
  const client = await door.greeted(role);
  await client.command('STARTTLS');
  await client.startTls();
  await client.command('EHLO client.example.net');
  return client;
}

describe('STARTTLS', () => {
  test.each(['mx', 'submission'] as const)(
    '%s: commands in the same segment are thrown away',
    async (role) => {
      const client = await door.greeted(role);
      client.send(
        'STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<ann@example.org>\r\n',
      );
      expect(await client.reply()).toMatch(/^220/);
      await client.startTls();
      // nothing is known: no greeting, no sender
      expect(await client.command('MAIL FROM:<a@example.net>')).toMatch(/^503/);
      expect(client.waiting).toBe('');
      client.destroy();
    },
  );

  test('no state survives it: greeting, sender and recipients are forgotten', async () => {
    const client = await door.greeted();
    await client.command('MAIL FROM:<a@example.net>');
    await client.command('RCPT TO:<ann@example.org>');
    await client.command('STARTTLS');
    await client.startTls();
    expect(await client.command('RCPT TO:<ann@example.org>')).toMatch(/^503/);
    expect(await client.command('DATA')).toMatch(/^503/);
    expect(await client.command('MAIL FROM:<a@example.net>')).toMatch(/^503/);
    expect(await client.command('HELO x')).toMatch(/^250/);
    expect(await client.command('MAIL FROM:<a@example.net> SIZE=5')).toMatch(/^555/);
    expect(await client.command('EHLO x')).not.toMatch(/STARTTLS/);
    expect(await client.command('STARTTLS')).toMatch(/^503/);
    client.destroy();
  });

  test('a login made before TLS does not count after it', async () => {
    const client = await plainDoor.greeted('submission');
    expect(await client.command(`AUTH PLAIN ${good}`)).toMatch(/^235/);
    await client.command('STARTTLS');
    await client.startTls();
    await client.command('EHLO x');
    expect(await client.command('MAIL FROM:<ann@example.org>')).toMatch(/^530/);
    client.destroy();
  });

  test('an argument is refused and the connection stays as it is', async () => {
    const client = await door.greeted();
    expect(await client.command('STARTTLS now')).toMatch(/^501/);
    expect(await client.command('NOOP')).toMatch(/^250/);
    client.destroy();
  });

  test('plain bytes in place of a handshake end the connection', async () => {
    const client = await door.greeted();
    await client.command('STARTTLS');
    client.send('MAIL FROM:<evil@example.net>\r\n');
    expect(await client.rest()).not.toMatch(/^[2-5]\d\d/m);
  });
});

describe('implicit TLS', () => {
  test('greets after the handshake and takes mail of a user', async () => {
    door.forget();
    const client = await door.connect('submissions');
    expect(await client.reply()).toMatch(/^220 mx1\.example\.org/);
    expect(await client.command('EHLO client')).toMatch(/^250.AUTH PLAIN LOGIN$/m);
    expect(await client.command(`AUTH PLAIN ${good}`)).toMatch(/^235 2\.7\.0/);
    expect(await client.toData('ann@example.org', ['bob@example.org'])).toMatch(/^354/);
    client.send('Subject: x\r\n\r\ny\r\n.\r\n');
    expect(await client.reply()).toMatch(/^250/);
    const { body } = await door.wait('delivered');
    expect(Buffer.from(body, 'base64').toString()).toMatch(/with ESMTPSA id [\s\S]*version=TLSv1\.3/);
    client.destroy();
  });

  test.each([
    { alpn: ['h2', 'http/1.1'], works: false },
    { alpn: ['smtp'], works: true },
    { alpn: undefined, works: true },
  ])('a client that asks for $alpn by ALPN', async ({ alpn, works }) => {
    const socket = tls.connect({
      port: door.ports.submissions,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
    });
    const outcome = await new Promise<boolean>((done) => {
      socket.once('secureConnect', () => done(true));
      socket.once('error', () => done(false));
    });
    expect(outcome).toBe(works);
    socket.destroy();
  });
});

describe('AUTH', () => {
  test('mx: neither announced nor taken', async () => {
    const client = await secure('mx');
    expect(await client.command('EHLO x')).not.toMatch(/AUTH/);
    expect(await client.command(`AUTH PLAIN ${good}`)).toMatch(/^503/);
    client.destroy();
  });

  test('submission without TLS: not announced, refused, and MAIL says what to do', async () => {
    const client = await door.connect('submission');
    await client.reply();
    expect(await client.command('EHLO x')).not.toMatch(/AUTH/);
    expect(await client.command(`AUTH PLAIN ${good}`)).toMatch(/^538/);
    expect(await client.command('MAIL FROM:<ann@example.org>')).toMatch(/^530 5\.7\.0 Send STARTTLS/);
    client.destroy();
  });

  test.each([
    { name: 'a good PLAIN', line: `AUTH PLAIN ${good}`, reply: /^235/ },
    {
      name: 'PLAIN with the same authorization identity',
      line: `AUTH PLAIN ${base64('Ann@example.org\0ann@example.org\0correct horse')}`,
      reply: /^235/,
    },
    {
      name: 'PLAIN in any case',
      line: `auth plain ${base64('\0ANN@Example.ORG\0correct horse')}`,
      reply: /^235/,
    },
    {
      name: 'a wrong password',
      line: `AUTH PLAIN ${base64('\0ann@example.org\0wrong')}`,
      reply: /^535 5\.7\.8/,
    },
    {
      name: 'an unknown user',
      line: `AUTH PLAIN ${base64('\0nobody@example.org\0correct horse')}`,
      reply: /^535 5\.7\.8/,
    },
    {
      name: 'a name that is no address',
      line: `AUTH PLAIN ${base64('\0../ann\0correct horse')}`,
      reply: /^535 5\.7\.8/,
    },
    {
      name: 'somebody else as authorization identity',
      line: `AUTH PLAIN ${base64('bob@example.org\0ann@example.org\0correct horse')}`,
      reply: /^535/,
    },
    { name: 'an empty password', line: `AUTH PLAIN ${base64('\0ann@example.org\0')}`, reply: /^535/ },
    {
      name: 'one NUL too many',
      line: `AUTH PLAIN ${base64('\0ann@example.org\0correct horse\0x')}`,
      reply: /^535/,
    },
    { name: 'no NUL at all', line: `AUTH PLAIN ${base64('ann@example.org')}`, reply: /^535/ },
    {
      name: 'bytes that are not UTF-8',
      line: `AUTH PLAIN ${Buffer.from([0, 0xff, 0xfe, 0, 0xff]).toString('base64')}`,
      reply: /^535/,
    },
    { name: 'an owner out of reach', line: `AUTH PLAIN ${base64('\0away@example.org\0x')}`, reply: /^454/ },
    { name: 'no base64', line: 'AUTH PLAIN !!!!', reply: /^501/ },
    { name: 'half a base64 group', line: 'AUTH PLAIN AGF', reply: /^501/ },
    { name: 'an unknown mechanism', line: 'AUTH CRAM-MD5', reply: /^504/ },
    { name: 'no mechanism', line: 'AUTH', reply: /^501/ },
    { name: 'three arguments', line: `AUTH PLAIN ${good} x`, reply: /^501/ },
    { name: '3 KB of base64', line: `AUTH PLAIN ${'QUFB'.repeat(750)}`, reply: /^535/ },
  ])('$name', async ({ line, reply }) => {
    const client = await secure();
    expect(await client.command(line)).toMatch(reply);
    expect(await client.command('NOOP')).toMatch(/^250/);
    client.destroy();
  });

  test('LOGIN asks for name and password', async () => {
    const client = await secure();
    expect(await client.command('AUTH LOGIN')).toBe('334 VXNlcm5hbWU6');
    expect(await client.command(base64('ann@example.org'))).toBe('334 UGFzc3dvcmQ6');
    expect(await client.command(base64('correct horse'))).toMatch(/^235/);
    expect(await client.command(`AUTH PLAIN ${good}`)).toMatch(/^503/);
    expect(await client.command('EHLO again')).not.toMatch(/AUTH/);
    client.destroy();
  });

  test('`*` cancels, and a command is no answer to a challenge', async () => {
    const client = await secure();
    expect(await client.command('AUTH PLAIN')).toMatch(/^334 ?$/);
    expect(await client.command('*')).toMatch(/^501 5\.7\.0/);
    expect(await client.command('AUTH LOGIN')).toMatch(/^334/);
    expect(await client.command('MAIL FROM:<ann@example.org>')).toMatch(/^501/);
    expect(await client.command('MAIL FROM:<ann@example.org>')).toMatch(/^530/);
    client.destroy();
  });

  test('1 MB of base64 ends the connection', async () => {
    const client = await secure();
    await client.command('AUTH PLAIN');
    client.send(`${'QUFB'.repeat(262_144)}\r\n`);
    expect(await client.reply()).toMatch(/^500 5\.5\.2/);
    await client.rest();
  });

  test('guessing ends the connection after errors_max', async () => {
    const client = await secure();
    let reply = '';
    let tries = 0;
    for (; !/^421/.test(reply) && tries < 30; tries++) {
      reply = await client.command(`AUTH PLAIN ${base64(`\0ann@example.org\0guess ${tries}`)}`);
    }
    expect(`${reply}${client.waiting}`).toMatch(/421/);
    expect(tries).toBeLessThanOrEqual(11);
  });

  test('a user sends under the own address only', async () => {
    const client = await secure();
    await client.command(`AUTH PLAIN ${good}`);
    expect(await client.command('MAIL FROM:<bob@example.org>')).toMatch(/^553 5\.7\.1/);
    expect(await client.command('MAIL FROM:<ann@example.com>')).toMatch(/^553 5\.7\.1/);
    expect(await client.command('MAIL FROM:<ANN@example.org>')).toMatch(/^250/);
    expect(await client.command('RCPT TO:<someone@elsewhere.example>')).toMatch(
      /^550 5\.7\.1 Sending to other domains/,
    );
    expect(await client.command('RCPT TO:<bob@example.org>')).toMatch(/^250/);
    client.destroy();
  });

  test('connections that ended are ended on both sides of TLS', async () => {
    for (let n = 0; n < 100 && (await door.stats()).sessions > 0; n++) await pause(20);
    expect((await door.stats()).sessions).toBe(0);
  });

  test('no password reaches the log', async () => {
    const log = await door.log(/"outcome":"no"/);
    expect(log).not.toMatch(/correct horse|guess 1|wrong"/);
    expect(log).not.toContain(good);
  });
});
