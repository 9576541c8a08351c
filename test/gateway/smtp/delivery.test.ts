/** CASES 12: 250 means everybody has it, anything else means come again, and nobody gets it twice. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Door, pause } from './door.ts';

let door: Door;
beforeAll(async () => {
  door = await Door.start();
});
afterEach(() => {
  door.script({});
  door.forget();
});
afterAll(() => door.stop());

const three = ['ann@example.org', 'bob@example.org', 'eve@example.org'];

const everybody = (outcome: 'too-big' | 'no-such-account') => ({
  'ann@example.org': outcome,
  'bob@example.org': outcome,
  'eve@example.org': outcome,
});

describe('the reply says what the owners said', () => {
  test.each([
    { outcomes: {}, reply: /^250/ },
    { outcomes: { 'bob@example.org': 'already' }, reply: /^250/ },
    { outcomes: { 'bob@example.org': 'failed' }, reply: /^451/ },
    { outcomes: { 'bob@example.org': 'not-owner' }, reply: /^451/ },
    { outcomes: { 'bob@example.org': 'over-quota' }, reply: /^452 4\.2\.2/ },
    { outcomes: { 'bob@example.org': 'no-space' }, reply: /^452 4\.3\.1/ },
    { outcomes: { 'bob@example.org': 'over-quota', 'eve@example.org': 'failed' }, reply: /^451/ },
    { outcomes: { 'bob@example.org': 'too-big' }, reply: /^451/ },
    { outcomes: everybody('too-big'), reply: /^552/ },
    { outcomes: everybody('no-such-account'), reply: /^550/ },
  ] as const)('$outcomes', async ({ outcomes, reply }) => {
    door.script({ outcomes });
    const client = await door.greeted();
    await client.toData('a@example.net', three);
    client.send(`Subject: ${JSON.stringify(outcomes)}\r\n\r\nx\r\n.\r\n`);
    expect(await client.reply()).toMatch(reply);
    client.destroy();
  });
});

test('a retry stores the message only where it is missing, under the same key', async () => {
  const send = async () => {
    const client = await door.greeted();
    await client.toData('a@example.net', three);
    client.send('Subject: once\r\n\r\nonce\r\n.\r\n');
    const reply = await client.reply();
    client.destroy();
    return reply;
  };
  door.script({ outcomes: { 'eve@example.org': 'failed' } });
  expect(await send()).toMatch(/^451/);
  door.script({});
  expect(await send()).toMatch(/^250/);
  await door.sync();
  const [first, second] = door.delivered;
  expect(first!.stored).toEqual(['ann@example.org', 'bob@example.org']);
  expect(second!.stored).toEqual(['eve@example.org']);
  expect(second!.key).toBe(first!.key);
  expect(first!.key).toMatch(/^[0-9a-f]{32}$/);
});

test('the key follows the sender and the bytes', async () => {
  const keys = [];
  for (const [from, text] of [
    ['a@example.net', 'x'],
    ['b@example.net', 'x'],
    ['a@example.net', 'y'],
    ['a@example.net', 'x'],
  ]) {
    door.forget();
    const client = await door.greeted();
    await client.toData(from);
    client.send(`${text}\r\n.\r\n`);
    await client.reply();
    keys.push((await door.wait('delivered')).key);
    client.destroy();
  }
  expect(keys[3]).toBe(keys[0]);
  expect(new Set(keys).size).toBe(3);
});

describe('settled is what the sender is known to have seen', () => {
  test.each(['QUIT', 'RSET', 'MAIL FROM:<b@example.net>', 'NOOP'])(
    '%s after the 250 settles',
    async (line) => {
      const client = await door.greeted();
      await client.toData('a@example.net', three);
      client.send(`Subject: ${line}\r\n\r\nx\r\n.\r\n`);
      expect(await client.reply()).toMatch(/^250/);
      await pause(20);
      await door.sync();
      expect(door.settled).toEqual([]);
      await client.command(line);
      const settled = await door.wait('settled');
      expect(settled).toMatchObject({ key: door.delivered[0]!.key, recipients: three });
      client.destroy();
    },
  );

  test('a connection that breaks after the 250 settles nothing', async () => {
    const client = await door.greeted();
    await client.toData();
    client.send('Subject: gone\r\n\r\nx\r\n.\r\n');
    expect(await client.reply()).toMatch(/^250/);
    client.destroy();
    await pause(100);
    await door.sync();
    expect(door.settled).toEqual([]);
  });

  test('commands that came before the 250 prove nothing', async () => {
    door.script({ deliverMs: 150 });
    const client = await door.greeted();
    await client.toData();
    client.send('Subject: hasty\r\n\r\nx\r\n.\r\nRSET\r\n');
    await pause(50);
    client.send('NOOP\r\n');
    expect(await client.reply()).toMatch(/^250/);
    expect(await client.reply()).toMatch(/^250/);
    expect(await client.reply()).toMatch(/^250/);
    await pause(50);
    await door.sync();
    expect(door.settled).toEqual([]);
    await client.command('NOOP');
    await door.wait('settled');
    client.destroy();
  });

  test('a message refused or deferred is never settled', async () => {
    door.script({ outcomes: { 'ann@example.org': 'failed' } });
    const client = await door.greeted();
    await client.toData();
    client.send('Subject: deferred\r\n\r\nx\r\n.\r\n');
    expect(await client.reply()).toMatch(/^451/);
    await client.command('RSET');
    await pause(50);
    await door.sync();
    expect(door.settled).toEqual([]);
    client.destroy();
  });
});

test('a client that leaves while the owners work gets nothing settled, and the gateway goes on', async () => {
  door.script({ deliverMs: 200 });
  const client = await door.greeted();
  await client.toData();
  client.send('Subject: left\r\n\r\nx\r\n.\r\n');
  await pause(50);
  client.reset();
  await door.wait('delivered');
  await pause(50);
  await door.sync();
  expect(door.settled).toEqual([]);
  await door.log(/"outcome":"stored","reply":"client gone/);
  const next = await door.greeted();
  expect(await next.toData()).toMatch(/^354/);
  next.destroy();
});

test('a client that closes its half after the last command still reads the answers', async () => {
  door.script({ deliverMs: 50 });
  const client = await door.greeted();
  await client.toData();
  client.socket.end('Subject: half\r\n\r\nx\r\n.\r\nNOOP\r\n');
  expect(await client.rest()).toMatch(/^250 2\.0\.0 OK [^\r]+\r\n250 2\.0\.0 OK\r\n$/);
  await door.sync();
  expect(door.settled).toEqual([]);
});

describe('the chain', () => {
  test.each([
    { question: 'sender', word: 'reject', at: 'MAIL', reply: /^550 5\.7\.1 Go away/ },
    { question: 'sender', word: 'defer', at: 'MAIL', reply: /^451 4\.7\.1 Go away/ },
    { question: 'recipient', word: 'reject', at: 'RCPT', reply: /^550 5\.7\.1 Go away/ },
    { question: 'recipient', word: 'disconnect', at: 'RCPT', reply: /^421 4\.7\.0 Go away/ },
    { question: 'message', word: 'reject', at: 'dot', reply: /^554 5\.7\.1 Go away/ },
    { question: 'message', word: 'defer', at: 'dot', reply: /^451 4\.7\.1 Go away/ },
    { question: 'message', word: 'disconnect', at: 'dot', reply: /^421 4\.7\.0 Go away/ },
  ] as const)('$question says $word at $at', async ({ question, word, at, reply }) => {
    door.script({ verdicts: { [question]: { word, say: 'Go\r\n250 away', plugin: 'p', log: 'because' } } });
    const client = await door.greeted();
    const replies = { MAIL: await client.command('MAIL FROM:<a@example.net>'), RCPT: '', dot: '' };
    if (at !== 'MAIL') replies.RCPT = await client.command('RCPT TO:<ann@example.org>');
    if (at === 'dot') {
      await client.command('DATA');
      client.send('Subject: x\r\n\r\ny\r\n.\r\n');
      replies.dot = await client.reply();
    }
    expect(replies[at].replace('Go 250 away', 'Go away')).toMatch(reply);
    if (word === 'disconnect') expect(await client.rest()).toBe('');
    await door.sync();
    expect(door.delivered).toHaveLength(0);
    client.destroy();
  });

  test.each([
    { word: 'reject', reply: /^554 5\.7\.1/ },
    { word: 'defer', reply: /^421/ },
    { word: 'disconnect', reply: /^421/ },
  ] as const)('connect says $word before the greeting', async ({ word, reply }) => {
    door.script({ verdicts: { connect: { word, plugin: 'p' } } });
    const client = await door.connect();
    expect(await client.reply()).toMatch(reply);
    expect(await client.rest()).toBe('');
  });

  test('a client that speaks before the greeting is seen, one that waits is not', async () => {
    door.script({ earlyTalkerMs: 300 });
    const early = await door.connect();
    early.send('EHLO early\r\n');
    expect(await early.reply()).toMatch(/^554 5\.7\.1 Wait for the greeting/);
    const startedAt = Date.now();
    const patient = await door.connect();
    expect(await patient.reply()).toMatch(/^220/);
    expect(Date.now() - startedAt).toBeGreaterThan(250);
    expect(await patient.command('EHLO patient')).toMatch(/^250/);
    patient.destroy();
  });

  test('tags stand under our Received line, cleaned and folded', async () => {
    const headers = [
      ['X-Spam-Score', '1.5'],
      ['X-Evil', 'a\r\nBcc: x\0y\x1b'],
      ['Not a name', 'x'],
      ['X-Long', 'word '.repeat(60)],
    ] as const;
    door.script({ verdicts: { message: { word: 'pass', headers, score: 1.5 } }, readers: 3 });
    const client = await door.greeted();
    await client.toData();
    const text = 'Subject: tagged\r\n\r\nx\r\n';
    client.send(`${text}.\r\n`);
    expect(await client.reply()).toMatch(/^250/);
    const stored = Buffer.from((await door.wait('delivered')).body, 'base64').toString();
    expect(stored).toMatch(
      /\+0000\r\nX-Spam-Score: 1\.5\r\nX-Evil: a Bcc: x y\?\r\nX-Long: word [\s\S]*Subject: tagged/,
    );
    for (const line of stored.split('\r\n')) expect(line.length).toBeLessThan(100);
    const asked = JSON.parse(door.asked.find(({ question }) => question === 'message')!.value);
    expect(asked).toEqual({
      sizes: [text.length, text.length, text.length],
      size: text.length,
      subject: ['tagged'],
    });
    client.destroy();
  });

  test('a large message is read side by side from its file', async () => {
    door.script({ readers: 4 });
    const client = await door.greeted();
    await client.toData();
    const text = `Subject: large\r\n\r\n${`${'0123456789'.repeat(9)}\r\n`.repeat(30_000)}`;
    client.send(`${text}.\r\n`);
    expect(await client.reply()).toMatch(/^250/);
    const asked = JSON.parse((await door.wait('asked', ({ question }) => question === 'message')).value);
    expect(asked.sizes).toEqual([text.length, text.length, text.length, text.length]);
    await door.wait('delivered');
    client.destroy();
  });

  test('a chain that fails against its word means 451 for a message and 421 before', async () => {
    door.script({ verdicts: { message: { throws: true } } });
    const client = await door.greeted();
    await client.toData();
    client.send('x\r\n.\r\n');
    expect(await client.reply()).toMatch(/^451/);
    door.script({ verdicts: { sender: { throws: true } } });
    await pause(50);
    expect(await client.command('MAIL FROM:<a@example.net>')).toMatch(/^421/);
    expect(door.alive).toBe(true);
    await door.sync();
    expect(door.delivered).toHaveLength(0);
  });
});

describe('pipelining', () => {
  test('a whole group in one segment is answered in order', async () => {
    const client = await door.greeted();
    client.send(
      'MAIL FROM:<a@example.net>\r\nRCPT TO:<ann@example.org>\r\nRCPT TO:<no@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n',
    );
    const codes = [];
    for (let n = 0; n < 5; n++) codes.push((await client.reply()).slice(0, 3));
    expect(codes).toEqual(['250', '250', '550', '250', '354']);
    client.send('Subject: group\r\n\r\nx\r\n.\r\nQUIT\r\n');
    expect(await client.reply()).toMatch(/^250/);
    expect(await client.reply()).toMatch(/^221/);
    expect((await door.wait('delivered')).recipients).toEqual(['ann@example.org', 'bob@example.org']);
  });
});
