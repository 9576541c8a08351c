/** CASES 1 and 2: nothing but CR LF ends a line, nothing but CR LF . CR LF ends a message. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Client, Door } from './door.ts';

let door: Door;
beforeAll(async () => {
  door = await Door.start();
});
afterAll(() => door.stop());

const smuggled =
  'MAIL FROM:<evil@example.net>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n';

const dots = [
  { name: 'LF . LF', bytes: '\n.\n' },
  { name: 'LF . CR LF', bytes: '\n.\r\n' },
  { name: 'CR LF . LF', bytes: '\r\n.\n' },
  { name: 'CR LF . CR', bytes: '\r\n.\r' },
  { name: 'CR . CR', bytes: '\r.\r' },
  { name: 'CR . CR LF', bytes: '\r.\r\n' },
  { name: 'CR CR LF', bytes: '\r\r\n.\r\r\n' },
  { name: 'LF . CR CR LF', bytes: '\n.\r\r\n' },
  { name: 'CR LF NUL . CR LF', bytes: '\r\n\0.\r\n' },
  { name: 'CR LF . NUL CR LF', bytes: '\r\n.\0\r\n' },
  { name: 'CR LF . CR NUL LF', bytes: '\r\n.\r\0\n' },
] as const;

describe('a dot between anything but CR LF', () => {
  test.each(dots)('$name refuses the message and smuggles nothing', async ({ bytes }) => {
    door.forget();
    const client = await door.greeted();
    expect(await client.toData()).toMatch(/^354/);
    client.send(`Subject: outer\r\n\r\nbody${bytes}${smuggled}`);
    const said = `${await client.reply()}\r\n${await client.rest()}`;
    expect(said).toMatch(/^554 5\.6\.0/);
    expect(said).not.toMatch(/^250/m);
    await door.sync();
    expect(door.delivered).toHaveLength(0);
  });

  test.each(dots)('$name, one byte per segment, is refused the same way', async ({ bytes }) => {
    door.forget();
    const client = await door.greeted();
    await client.toData();
    for (const byte of Buffer.from(`a\r\n\r\nbody${bytes}x\r\n.\r\n`, 'latin1')) {
      client.send(Buffer.from([byte]));
      await new Promise((done) => setImmediate(done));
    }
    expect(await client.reply()).toMatch(/^554 5\.6\.0/);
    await client.rest();
    await door.sync();
    expect(door.delivered).toHaveLength(0);
  });
});

describe('bytes that have no place in a message', () => {
  test.each([
    { name: 'a bare LF in the header', text: 'Subject: a\nX: b\r\n\r\nbody\r\n.\r\n' },
    { name: 'a bare LF in the body', text: 'Subject: a\r\n\r\none\ntwo\r\n.\r\n' },
    { name: 'a bare CR in the body', text: 'Subject: a\r\n\r\none\rtwo\r\n.\r\n' },
    { name: 'a bare CR at the end of a line', text: 'Subject: a\r\n\r\none\r\r\n.\r\n' },
    { name: 'a NUL in the header', text: 'Subject: a\0b\r\n\r\nx\r\n.\r\n' },
    { name: 'a NUL in the body', text: 'Subject: a\r\n\r\nx\0y\r\n.\r\n' },
    { name: 'a lone LF as the whole message', text: '\n.\r\n' },
  ])('$name: 5xx, nothing stored, the connection ends', async ({ text }) => {
    door.forget();
    const client = await door.greeted();
    await client.toData();
    client.send(text);
    expect(await client.reply()).toMatch(/^554 5\.6\.0/);
    expect(await client.rest()).toBe('');
    await door.sync();
    expect(door.delivered).toHaveLength(0);
  });
});

describe('bytes that have no place in a command', () => {
  test.each([
    { name: 'a command ended by LF', line: 'NOOP\n' },
    { name: 'a command ended by CR', line: 'NOOP\rNOOP\r\n' },
    { name: 'a command ended by CR CR LF', line: 'NOOP\r\r\n' },
    { name: 'a NUL in a command', line: 'NO\0OP\r\n' },
    { name: 'a CR inside an address', line: 'MAIL FROM:<a\r@example.net>\r\n' },
    { name: 'a LF inside a greeting', line: 'EHLO a\nMAIL FROM:<a@example.net>\r\n' },
  ])('$name: 500 and the connection ends', async ({ line }) => {
    const client = await door.greeted();
    client.send(`${line}MAIL FROM:<evil@example.net>\r\n`);
    expect(await client.reply()).toMatch(/^500 5\.5\.2/);
    expect(await client.rest()).toBe('');
  });
});

test('commands after the real end of a message are answered, each once', async () => {
  door.forget();
  const client = await door.greeted();
  await client.toData();
  client.send(
    'Subject: one\r\n\r\nx\r\n.\r\nMAIL FROM:<b@example.net>\r\nRCPT TO:<bob@example.org>\r\nNOOP\r\n',
  );
  expect(await client.reply()).toMatch(/^250 2\.0\.0/);
  expect(await client.reply()).toMatch(/^250 2\.1\.0/);
  expect(await client.reply()).toMatch(/^250 2\.1\.5/);
  expect(await client.reply()).toMatch(/^250 2\.0\.0 OK$/);
  await door.sync();
  expect(door.delivered).toHaveLength(1);
  client.destroy();
});

test('a message of the final dot alone is an empty message', async () => {
  door.forget();
  const client: Client = await door.greeted();
  await client.toData();
  client.send('.\r\n');
  expect(await client.reply()).toMatch(/^250/);
  const stored = Buffer.from((await door.wait('delivered')).body, 'base64').toString();
  expect(stored).toMatch(/^Return-Path: <sender@example\.net>\r\nReceived: [\s\S]+\+0000\r\n$/);
  client.destroy();
});

test('the gateway lives after all of it', async () => {
  expect(door.alive).toBe(true);
  const client = await door.greeted();
  expect(await client.command('NOOP')).toMatch(/^250/);
  client.destroy();
});
