/** CASES 7, 60, 63 and 71: clients that err without end, dawdle, speak something else, or write into our log. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Door, pause } from './door.ts';

let door: Door;
let hasty: Door;
beforeAll(async () => {
  door = await Door.start();
  hasty = await Door.start({
    'net.greeting_timeout': 700,
    'net.login_timeout': 1200,
    'smtp.idle_timeout': 700,
    'smtp.data_timeout': 900,
  });
});
afterAll(() => Promise.all([door.stop(), hasty.stop()]));

describe('clients that err', () => {
  test('200 bad commands: ten answers, then 421', async () => {
    const client = await door.greeted();
    client.send('FOO bar\r\n'.repeat(200));
    const said = await client.rest();
    expect(said.match(/^500 /gm)).toHaveLength(10);
    expect(said).toMatch(/421 4\.7\.0 Too many errors[^\r\n]*\r\n$/);
  });

  test('a thousand commands that bring no mail nearer, then 421', async () => {
    const client = await door.greeted();
    for (let n = 0; n < 60; n++) client.send('NOOP\r\n'.repeat(20));
    const said = await client.rest();
    expect(said.match(/^250 /gm)).toHaveLength(999);
    expect(said).toMatch(/421 [^\r\n]*\r\n$/);
  });

  test('100,000 RCPT: recipients_max are taken, then 452, then 421', async () => {
    const client = await door.greeted();
    await client.command('MAIL FROM:<a@example.net>');
    for (let n = 0; n < 100_000; n++) client.send(`RCPT TO:<user${n % 300}@example.org>\r\n`);
    const said = await client.rest(20_000);
    expect(said.match(/^250 /gm)).toHaveLength(100);
    expect(said.match(/^452 4\.5\.3/gm)?.length).toBe(999);
    expect(said).toMatch(/421 [^\r\n]*\r\n$/);
  });

  test('trying names ends with 421', async () => {
    const client = await door.greeted();
    await client.command('MAIL FROM:<a@example.net>');
    for (let n = 0; n < 2000; n++) client.send(`RCPT TO:<name${n}@example.org>\r\n`);
    const said = await client.rest(20_000);
    expect(said.match(/^550 5\.1\.1/gm)?.length).toBe(999);
    expect(said).toMatch(/421 [^\r\n]*\r\n$/);
  });

  test('a command line without end: 500 and the connection ends', async () => {
    const client = await door.greeted();
    client.send('A'.repeat(1_000_000));
    expect(await client.reply()).toMatch(/^500 5\.5\.2 Command line too long/);
    expect(await client.rest()).toBe('');
  });

  test('a client that reads no replies is not served without end', async () => {
    const before = (await door.stats()).heldBytes;
    const client = await door.greeted();
    client.socket.pause();
    const lines = Buffer.from('NOOP\r\n'.repeat(10_000));
    for (let n = 0; n < 300; n++) client.send(lines); // 3,000,000 commands
    await pause(1500);
    expect((await door.stats()).heldBytes - before).toBeLessThan(60 * 1024 * 1024);
    client.destroy();
  });
});

describe('clients that dawdle meet a total deadline', () => {
  const dawdle = async (client: { send(bytes: string): void; closed: boolean }, text: string) => {
    const startedAt = Date.now();
    for (let n = 0; !client.closed && Date.now() - startedAt < 6000; n++) {
      client.send(text[n % text.length]!);
      await pause(60);
    }
    return Date.now() - startedAt;
  };

  test('no word after the greeting', async () => {
    const client = await hasty.connect();
    await client.reply();
    expect(await client.reply()).toMatch(/^421 4\.4\.2/);
    await client.rest();
  });

  test('a first command a byte at a time', async () => {
    const client = await hasty.connect();
    await client.reply();
    expect(await dawdle(client, 'E')).toBeLessThan(3000);
    expect(client.waiting).toMatch(/^421 4\.4\.2/);
  });

  test('a later command a byte at a time', async () => {
    const client = await hasty.greeted();
    expect(await dawdle(client, 'M')).toBeLessThan(3000);
    expect(client.waiting).toMatch(/^421 4\.4\.2/);
  });

  test('a message a byte at a time', async () => {
    hasty.forget();
    const client = await hasty.greeted();
    await client.toData();
    expect(await dawdle(client, 'abc\r\n')).toBeLessThan(3500);
    expect(client.waiting).toMatch(/^421 4\.4\.2/);
    await hasty.sync();
    expect(hasty.delivered).toHaveLength(0);
  });

  test('AUTH a byte at a time, and commands instead of a login', async () => {
    const client = await hasty.greeted('submission');
    await client.command('STARTTLS');
    await client.startTls();
    await client.command('EHLO x');
    await client.command('AUTH PLAIN');
    expect(await dawdle(client, 'Q')).toBeLessThan(3500);
    const busy = await hasty.greeted('submission');
    const startedAt = Date.now();
    while (!busy.closed && Date.now() - startedAt < 6000) {
      busy.send('NOOP\r\n');
      await pause(100);
    }
    expect(Date.now() - startedAt).toBeLessThan(3500);
  });

  test('a handshake that does not come, after STARTTLS and on the TLS port', async () => {
    const client = await hasty.greeted();
    await client.command('STARTTLS');
    await client.rest(4000);
    const { Client } = await import('./door.ts');
    const silent = await Client.connect(hasty.ports.submissions);
    expect(await silent.rest(4000)).toBe('');
  });
});

describe('clients that speak something else', () => {
  test.each([
    'GET / HTTP/1.1\r\nHost: mx1.example.org\r\n\r\n',
    'POST /x HTTP/1.1\r\nContent-Length: 50\r\n\r\nEHLO x\r\nMAIL FROM:<evil@example.net>\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'OPTIONS * HTTP/1.1\n\n',
  ])('%j is closed on its first line', async (text) => {
    const client = await door.connect();
    await client.reply();
    client.send(text);
    expect(await client.reply()).toMatch(/^421/);
    expect(await client.rest()).toBe('');
  });

  test('a TLS handshake on the plain port is closed', async () => {
    const client = await door.connect();
    await client.reply();
    client.send(Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]));
    expect(await client.reply()).toMatch(/^421/);
    await client.rest();
  });
});

describe('values that try to write the log', () => {
  test('stand in one escaped, capped record', async () => {
    const client = await door.connect();
    await client.reply();
    await client.command(`EHLO x\x1b[31m`);
    await client.command(`EHLO ${'h'.repeat(255)}`);
    await client.command('MAIL FROM:<"a\x7f{\\"level\\":\\"error\\"}"@example.net>');
    await client.command(`MAIL FROM:<"${'q'.repeat(50)} {}"@example.net>`);
    await client.command('RCPT TO:<ann@example.org>');
    expect(await client.command('DATA')).toMatch(/^354/);
    client.send(`Subject: ${'s'.repeat(50_000)}\x1b[2J\r\n\r\nx\r\n.\r\n`);
    expect(await client.reply()).toMatch(/^250/);
    await client.command('QUIT');
    await client.rest();
    const lines = (await door.log(/qqqq[^\n]*smtp message[\s\S]*h{200}[^\n]*smtp connection/))
      .trimEnd()
      .split('\n');
    for (const line of lines) {
      expect(() => JSON.parse(line)).not.toThrow();
      expect(line.length).toBeLessThan(4000);
      expect(line).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
    }
    const record = JSON.parse(
      lines.find((line) => line.includes('"smtp message"') && line.includes('qqqq'))!,
    );
    expect(record).toMatchObject({ client: '192.0.2.7', to: 1, outcome: 'stored' });
    expect(record.trace).toMatch(/^[0-9a-f]{16}$/);
  });
});
