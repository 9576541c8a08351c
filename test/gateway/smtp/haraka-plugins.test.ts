/** Haraka's own plugins run beside the bridge, and their failures are never a yes. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Door, sentPart } from './door.ts';

const plugins = {
  moody: `
    exports.hook_mail = function (next, connection, params) {
      const from = params[0].address
      if (from.startsWith('throws')) throw new Error('moody')
      if (from.startsWith('denied')) return next(DENY, 'not you')
      next()
    }
    exports.hook_rcpt = async function (next, connection) {
      const from = connection.transaction.mail_from.address
      if (from.startsWith('rejects')) throw new Error('moody')
      if (from.startsWith('relays')) return next(OK)
      next()
    }
    exports.hook_data_post = function (next, connection) {
      const { transaction } = connection
      const subject = transaction.header.get('Subject').trim()
      transaction.add_header('X-Moody', subject + ' seen')
      transaction.remove_header('X-Remove')
      if (subject === 'unwanted') return next(DENY, 'unwanted here')
      if (subject === 'broken') throw new Error('moody')
      transaction.message_stream.get_data((data) => {
        transaction.add_header('X-Bytes', String(data.length))
        next()
      })
    }
    exports.hook_queue = function (next) { next(OK, 'stolen') }
    exports.hook_deny = function (next) { next(OK) }
  `,
};

let door: Door;
beforeAll(async () => {
  door = await Door.start({ 'smtp.haraka_plugins': ['moody'] }, async (data) => {
    await mkdir(path.join(data, 'haraka', 'plugins'), { recursive: true });
    for (const [name, text] of Object.entries(plugins)) {
      await writeFile(path.join(data, 'haraka', 'plugins', `${name}.js`), text);
    }
  });
});
afterAll(() => door.stop());

test('a plugin sees the message, adds fields on top, and changes nothing of what was sent', async () => {
  const client = await door.greeted();
  await client.toData();
  const text = `Subject: hello\r\nX-Remove: me\r\n\r\n.dots\r\n${'z'.repeat(5000)}\r\n${'line\r\n'.repeat(100_000)}`;
  client.send(`${text.replace(/^\./gm, '..')}.\r\n`);
  expect(await client.reply()).toMatch(/^250 2\.0\.0/);
  const { body, size } = await door.wait('delivered');
  expect(sentPart(body, text.length).equals(Buffer.from(text))).toBe(true);
  const top = Buffer.from(body, 'base64').toString('latin1', 0, size - text.length);
  expect(top).toMatch(/X-Moody: hello seen\r\nX-Bytes: \d+\r\n$/);
  expect(await client.toData()).toMatch(/^354/);
  client.destroy();
});

describe('a plugin', () => {
  test('cannot let a message through that the gateway has refused', async () => {
    door.forget();
    const client = await door.greeted();
    await client.toData();
    client.send(`Subject: long\r\n\r\n${'z'.repeat(100_000)}\r\n.\r\n`);
    expect(await client.reply()).toMatch(/^554 5\.6\.0/);
    await door.sync();
    expect(door.delivered).toHaveLength(0);
    expect(await client.toData()).toMatch(/^354/);
    client.send('.\r\n');
    expect(await client.reply()).toMatch(/^250/);
    client.destroy();
  });

  test('cannot open a relay', async () => {
    const client = await door.greeted();
    expect(await client.command('MAIL FROM:<relays@example.net>')).toMatch(/^250/);
    expect(await client.command('RCPT TO:<x@elsewhere.example>')).toMatch(/^550/);
    expect(await client.command('RCPT TO:<nobody@example.org>')).toMatch(/^550/);
    client.destroy();
  });
});

describe('without a deny hook', () => {
  let strict: Door;
  beforeAll(async () => {
    strict = await Door.start({ 'smtp.haraka_plugins': ['moody'] }, async (data) => {
      await mkdir(path.join(data, 'haraka', 'plugins'), { recursive: true });
      const text = plugins.moody.replace(/exports\.hook_deny[^\n]*/, '');
      await writeFile(path.join(data, 'haraka', 'plugins', 'moody.js'), text);
    });
  });
  afterAll(() => strict.stop());

  test.each([
    { from: 'throws@example.net', mail: /^450|^451/, rcpt: undefined },
    { from: 'denied@example.net', mail: /^550 not you/, rcpt: undefined },
    { from: 'rejects@example.net', mail: /^250/, rcpt: /^450|^451/ },
  ])('$from', async ({ from, mail, rcpt }) => {
    const client = await strict.greeted();
    expect(await client.command(`MAIL FROM:<${from}>`)).toMatch(mail);
    if (rcpt) expect(await client.command('RCPT TO:<ann@example.org>')).toMatch(rcpt);
    expect(await client.command('RSET')).toMatch(/^250/);
    client.destroy();
  });

  test.each([
    { subject: 'unwanted', reply: /^550 unwanted here/ },
    { subject: 'broken', reply: /^450|^451/ },
  ])('the message "$subject" is not stored', async ({ subject, reply }) => {
    strict.forget();
    const client = await strict.greeted();
    await client.toData();
    client.send(`Subject: ${subject}\r\n\r\nx\r\n.\r\n`);
    expect(await client.reply()).toMatch(reply);
    expect(await client.toData()).toMatch(/^354/);
    await strict.sync();
    expect(strict.delivered).toHaveLength(0);
    client.destroy();
  });
});

test('a name nobody knows stops the start with the setting and the remedy', async () => {
  await expect(Door.start({ 'smtp.haraka_plugins': ['no-such-plugin'] })).rejects.toThrow(/ended with/);
});
