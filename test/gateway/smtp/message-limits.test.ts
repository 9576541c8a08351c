/** CASES 4, 5 and 11: a message is stored whole and byte for byte, or refused whole. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Door, sentPart } from './door.ts';

let door: Door;
beforeAll(async () => {
  door = await Door.start({ 'smtp.message_size_max': 8 * 1024 * 1024, 'smtp.received_max': 20 });
});
afterAll(() => door.stop());

const body = '\r\nbody\r\n';

describe('messages over a limit', () => {
  test.each([
    { name: '10,000 header lines', text: 'X-A: b\r\n'.repeat(10_000) + body, reply: /^554 5\.6\.0/ },
    {
      name: 'a header field of 1 MB on one line',
      text: `X-A: ${'b'.repeat(1_000_000)}\r\n${body}`,
      reply: /^554 5\.6\.0/,
    },
    {
      name: 'a folded header of 1 MB',
      text: `X-A: b\r\n${'\tcccccccccccccccccccc\r\n'.repeat(45_000)}${body}`,
      reply: /^554 5\.6\.0/,
    },
    {
      name: '500,000 addresses in a header',
      text: `To: ${Array.from({ length: 50_000 }, () => 'a@b.c, '.repeat(10)).join('\r\n\t')}\r\n${body}`,
      reply: /^554 5\.6\.0/,
    },
    { name: 'a body line of 3 MB', text: `X: y\r\n\r\n${'z'.repeat(3_000_000)}\r\n`, reply: /^554 5\.6\.0/ },
    {
      name: '21 Received lines',
      text: `${'Received: from a by b; today\r\n'.repeat(21)}${body}`,
      reply: /^554 5\.4\.6/,
    },
    {
      name: 'more bytes than SIZE allows',
      text: `X: y\r\n\r\n${`${'z'.repeat(998)}\r\n`.repeat(9000)}`,
      reply: /^552 5\.3\.4/,
    },
  ])('$name: refused at the dot, nothing stored, the connection goes on', async ({ text, reply }) => {
    door.forget();
    const client = await door.greeted();
    await client.toData();
    client.send(`${text}\r\n.\r\n`);
    expect(await client.reply()).toMatch(reply);
    await door.sync();
    expect(door.delivered).toHaveLength(0);
    expect(await client.toData()).toMatch(/^354/);
    client.send('Subject: after\r\n\r\nx\r\n.\r\n');
    expect(await client.reply()).toMatch(/^250/);
    await door.sync();
    expect(door.delivered).toHaveLength(1);
    client.destroy();
  });

  test('a declared SIZE over the limit is refused at MAIL', async () => {
    const client = await door.greeted();
    expect(await client.command('MAIL FROM:<a@b.example> SIZE=8388609')).toMatch(/^552 5\.3\.4/);
    expect(await client.command('MAIL FROM:<a@b.example> SIZE=8388608')).toMatch(/^250/);
    client.destroy();
  });
});

const everyByte = Buffer.from(
  Array.from({ length: 255 }, (_, n) => n + 1).filter((n) => n !== 10 && n !== 13),
).toString('latin1');

describe('messages stored byte for byte', () => {
  test.each([
    { name: 'a line of 998 bytes', text: `A: b\r\n\r\n${'z'.repeat(998)}\r\n` },
    { name: 'a line of 999 bytes', text: `A: b\r\n\r\n${'z'.repeat(999)}\r\n` },
    { name: 'a line of 65,536 bytes', text: `A: b\r\n\r\n${'z'.repeat(65_536)}\r\n` },
    { name: 'a header line of 60,000 bytes', text: `A: ${'z'.repeat(60_000)}\r\n${body}` },
    { name: '1,999 header lines', text: 'X-A: b\r\n'.repeat(1999) + body },
    { name: '20 Received lines', text: `${'Received: from a by b; today\r\n'.repeat(20)}${body}` },
    { name: 'lines that begin with dots', text: 'A: b\r\n\r\n.\x20\r\n..\r\n.x\r\n...\r\n' },
    { name: 'every byte but NUL, CR and LF', text: `A: b\r\n\r\n${everyByte}\r\n` },
    { name: 'no header at all, 5,000 lines', text: 'just text\r\n'.repeat(5000) },
    { name: 'a header without a body', text: 'Subject: x\r\n' },
    { name: 'an empty first line', text: '\r\nbody only\r\n' },
    { name: 'an mbox From line on top', text: 'From someone Mon Jan 1\r\nSubject: x\r\n\r\ny\r\n' },
    {
      name: 'header lines that a parser would mend',
      text: 'subject : x\r\nDKIM-Signature: v=1;\r\n  b=ab\r\n\t cd\r\nX:\r\n\r\ny\r\n',
    },
    { name: '3 MB in lines', text: `A: b\r\n\r\n${`${'0123456789'.repeat(7)}\r\n`.repeat(42_000)}` },
  ])('$name', async ({ text }) => {
    door.forget();
    const client = await door.greeted();
    await client.toData();
    client.send(`${text.replace(/^\./gm, '..')}.\r\n`);
    expect(await client.reply()).toMatch(/^250/);
    const { body: stored, size } = await door.wait('delivered');
    expect(sentPart(stored, text.length).equals(Buffer.from(text, 'latin1'))).toBe(true);
    const top = Buffer.from(stored, 'base64').toString('latin1', 0, size - text.length);
    expect(top).toMatch(
      /^Return-Path: <sender@example\.net>\r\nReceived: from client\.example\.net \(\[192\.0\.2\.7\]\)\r\n\t[\s\S]+\+0000\r\n$/,
    );
    client.destroy();
  });
});

test('a hundred large messages at once stay out of memory and leave no file behind', async () => {
  const before = (await door.stats()).heldBytes;
  const clients = await Promise.all(Array.from({ length: 50 }, () => door.greeted()));
  await Promise.all(clients.map((client) => client.toData()));
  const piece = `${'m'.repeat(998)}\r\n`.repeat(1000);
  for (let n = 0; n < 4; n++) for (const client of clients) client.send(piece);
  // all bytes are with the door once it has read what the sockets held
  await Promise.all(
    clients.map(async (client) => {
      while (client.socket.writableLength > 0) await new Promise((done) => setTimeout(done, 5));
    }),
  );
  const during = (await door.stats()).heldBytes;
  expect(during - before).toBeLessThan(150 * 1024 * 1024); // of 200 MB received
  for (const client of clients) client.destroy();
  const { readdir } = await import('node:fs/promises');
  for (let n = 0; n < 100 && (await door.stats()).sessions > 0; n++)
    await new Promise((done) => setTimeout(done, 20));
  expect((await door.stats()).sessions).toBe(0);
  expect(await readdir(`${door.data}/spool`)).toEqual([]);
  const { readlink } = await import('node:fs/promises');
  const open = await Promise.all(
    (await readdir(`/proc/${door.pid}/fd`)).map((fd) =>
      readlink(`/proc/${door.pid}/fd/${fd}`).catch(() => ''),
    ),
  );
  expect(open.filter((name) => name.includes('/spool/'))).toEqual([]);
});
