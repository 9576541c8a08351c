/** POP3 after login, over a real link stream and a real INBOX: bad input first, then every command. */
import type { ClientHttp2Stream } from 'node:http2';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Folder } from '../../../backend/store/store.ts';
import { Fault } from '../../../base/fault.ts';
import type { Address } from '../../../cluster-protocol/ids.ts';
import { answerOf, credentialsOf, openServiceRig, removeRoots, type ServiceRig } from '../service-rig.ts';

const ann = 'ann@postern.test';
let rig: ServiceRig;

beforeEach(async () => {
  rig = await openServiceRig();
});
afterEach(async () => {
  await rig.close();
});
afterAll(removeRoots);

const login = (user = ann, password?: string): Record<string, string> => ({
  'postern-account': encodeURIComponent(user),
  'postern-credentials': credentialsOf(user, password),
});

/** The same object with another method. */
function replacing<T extends object>(real: T, name: keyof T, method: unknown): T {
  return new Proxy(real, {
    get(target, key) {
      if (key === name) return method;
      const value = Reflect.get(target, key) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Puts messages into the INBOX. */
async function fill(...messages: readonly (string | Buffer)[]): Promise<void> {
  const account = await rig.accounts.open(ann);
  const inbox = await account.store.folder('INBOX');
  for (const message of messages) {
    const bytes = Buffer.from(message);
    const incoming = await inbox.append({ flags: 0, keywords: [], internalDateMs: Date.now() }, bytes.length);
    await incoming.write(bytes);
    await incoming.commit();
  }
  account.release();
}

/** Sends lines (in one write) and returns everything that comes back until the stream ends. */
async function converse(...lines: readonly string[]): Promise<string> {
  const stream = rig.open('pop3', login());
  stream.end(lines.map((line) => `${line}\r\n`).join(''));
  const { status, body } = await answerOf(stream);
  expect(status).toBe(200);
  return body.toString('latin1');
}

async function uids(): Promise<number[]> {
  const account = await rig.accounts.open(ann);
  const found = [...(await account.store.folder('INBOX')).uids()];
  account.release();
  return found;
}

describe('login', () => {
  test('a wrong password and an unknown account are both 401, with the same words', async () => {
    const wrong = await answerOf(rig.open('pop3', login(ann, 'wrong')).end());
    const unknown = await answerOf(rig.open('pop3', login('nobody@postern.test')).end());
    expect([wrong.status, unknown.status]).toEqual([401, 401]);
    expect(unknown.headers['postern-reason']).toBe(wrong.headers['postern-reason']);
  });

  test('credentials of another account than the opened one are refused', async () => {
    const headers = { ...login(), 'postern-account': 'bob%40postern.test' };
    expect((await answerOf(rig.open('pop3', headers).end())).status).toBe(401);
  });

  test('no password is ever logged', async () => {
    await converse('QUIT');
    await answerOf(rig.open('pop3', login(ann, 'hunter2')).end());
    expect(JSON.stringify(rig.logged)).not.toMatch(/hunter2|correct horse/);
  });
});

describe('bad input', () => {
  const rows: (readonly [string, string, RegExp])[] = [
    ['an unknown command', 'XYZZY', /^-ERR /],
    ['USER after login', 'USER ann', /^-ERR /],
    ['an empty line', '', /^-ERR /],
    ['no number', 'RETR', /^-ERR /],
    ['a word for a number', 'RETR one', /^-ERR /],
    ['a negative number', 'RETR -1', /^-ERR /],
    ['message zero', 'RETR 0', /^-ERR /],
    ['a message that is not there', 'RETR 3', /^-ERR /],
    ['a huge number', 'RETR 99999999999999999999', /^-ERR /],
    ['too many arguments', 'STAT 1', /^-ERR /],
    ['TOP without lines', 'TOP 1', /^-ERR /],
    ['TOP with negative lines', 'TOP 1 -1', /^-ERR /],
    ['DELE of nothing', 'DELE 9', /^-ERR /],
    ['LIST of nothing', 'LIST 9', /^-ERR /],
    ['a name every object has', 'constructor', /^-ERR /],
  ];
  test.each(rows)('%s is -ERR and the session goes on', async (_name, line, expected) => {
    await fill('Subject: a\r\n\r\nx\r\n', 'Subject: b\r\n\r\ny\r\n');
    const [first, second, third] = (await converse(line, 'NOOP', 'QUIT')).split('\r\n');
    expect(first).toMatch(expected);
    expect(second).toMatch(/^\+OK/);
    expect(third).toMatch(/^\+OK/);
  });

  const closing: (readonly [string, string])[] = [
    ['a line of 1 MB', `${'A'.repeat(1_000_000)}\r\n`],
    ['a line of 300 bytes', `${'A'.repeat(300)}\r\n`],
    ['an endless line', 'A'.repeat(100_000)],
    ['a bare LF', 'NOOP\nDELE 1\r\n'],
    ['a NUL', 'NO\0OP\r\n'],
    ['a bare CR', 'NOOP\rDELE 1\r\n'],
  ];
  test.each(closing)('%s is -ERR and the end, and deletes nothing', async (_name, bytes) => {
    await fill('Subject: a\r\n\r\nx\r\n');
    const stream = rig.open('pop3', login());
    stream.write(`DELE 1\r\n${bytes}QUIT\r\n`);
    const { body } = await answerOf(stream);
    expect(body.toString()).toMatch(/^\+OK\r\n-ERR [^\r\n]{1,100}\r\n$/);
    expect(await uids()).toEqual([1]);
  });

  test('too many bad commands end the session', async () => {
    const text = await converse(...Array.from({ length: 40 }, () => 'XYZZY'), 'NOOP');
    expect(text.match(/-ERR/g)).toHaveLength(21);
    expect(text).not.toMatch(/\+OK/);
  });
});

describe('commands', () => {
  test('an empty maildrop', async () => {
    expect(await converse('STAT', 'LIST', 'UIDL', 'QUIT')).toBe(
      '+OK 0 0\r\n+OK 0 messages\r\n.\r\n+OK 0 messages\r\n.\r\n+OK bye\r\n',
    );
  });

  test('STAT, LIST, UIDL, DELE, RSET count what is not marked', async () => {
    await fill('a: b\r\n\r\n1\r\n', 'a: b\r\n\r\n22\r\n', 'a: b\r\n\r\n333\r\n');
    const text = await converse(
      'STAT',
      'LIST 2',
      'DELE 2',
      'DELE 2',
      'RETR 2',
      'TOP 2 0',
      'STAT',
      'LIST',
      'RSET',
      'STAT',
      'QUIT',
    );
    expect(text).toBe(
      [
        '+OK 3 36',
        '+OK 2 12',
        '+OK',
        '-ERR no such message',
        '-ERR no such message',
        '-ERR no such message',
        '+OK 2 24',
        '+OK 2 messages',
        '1 11',
        '3 13',
        '.',
        '+OK 3 messages',
        '+OK 3 36',
        '+OK bye',
        '',
      ].join('\r\n'),
    );
    expect(await uids()).toEqual([1, 2, 3]);
  });

  test('UIDL is stable from one session to the next and never given again', async () => {
    await fill('a: 1\r\n\r\n', 'a: 2\r\n\r\n');
    const before = await converse('UIDL', 'DELE 1', 'QUIT');
    const [, first, second] = before.split('\r\n');
    expect(first).toMatch(/^1 [!-~]{1,70}$/);
    await fill('a: 3\r\n\r\n');
    const [, one, two] = (await converse('UIDL', 'QUIT')).split('\r\n');
    expect(one?.slice(2)).toBe(second?.slice(2));
    expect([first?.slice(2), second?.slice(2)]).not.toContain(two?.slice(2));
  });

  const bodies: (readonly [string, string, string])[] = [
    ['plain', 'a: b\r\n\r\nhello\r\n', 'a: b\r\n\r\nhello\r\n'],
    ['dots', '.a: b\r\n\r\n.\r\n..\r\n.x\r\na.\r\n', '..a: b\r\n\r\n..\r\n...\r\n..x\r\na.\r\n'],
    ['no line end', 'a: b\r\n\r\nhello', 'a: b\r\n\r\nhello\r\n'],
    ['empty', '', ''],
  ];
  test.each(bodies)('RETR gives the message dot-stuffed: %s', async (_name, message, sent) => {
    await fill(message);
    expect(await converse('RETR 1', 'QUIT')).toBe(`+OK ${message.length} octets\r\n${sent}.\r\n+OK bye\r\n`);
  });

  const tops: (readonly [number, string])[] = [
    [0, 'a: b\r\nc: d\r\n\r\n'],
    [1, 'a: b\r\nc: d\r\n\r\n..one\r\n'],
    [2, 'a: b\r\nc: d\r\n\r\n..one\r\ntwo\r\n'],
    [99, 'a: b\r\nc: d\r\n\r\n..one\r\ntwo\r\nthree\r\n'],
  ];
  test.each(tops)('TOP 1 %d', async (lines, sent) => {
    await fill('a: b\r\nc: d\r\n\r\n.one\r\ntwo\r\nthree\r\n');
    expect(await converse(`TOP 1 ${lines}`, 'QUIT')).toMatch(/^\+OK \d+ octets\r\n/);
    expect((await converse(`TOP 1 ${lines}`, 'QUIT')).split('\r\n').slice(1, -2).join('\r\n')).toBe(
      `${sent}.`,
    );
  });

  test('CAPA names what there is', async () => {
    const text = await converse('CAPA', 'QUIT');
    for (const word of ['TOP', 'UIDL', 'PIPELINING', 'RESP-CODES', 'EXPIRE NEVER'])
      expect(text).toContain(`\r\n${word}\r\n`);
  });

  test('LOGIN-DELAY is told, and kept', async () => {
    await rig.close();
    rig = await openServiceRig({
      settings: { 'pop3.login_delay': 90_000 },
      addresses: ['late@postern.test'],
    });
    const late = login('late@postern.test');
    const first = rig.open('pop3', late);
    first.end('CAPA\r\nQUIT\r\n');
    expect((await answerOf(first)).body.toString()).toContain('\r\nLOGIN-DELAY 90\r\n');
    // A wrong password hears nothing of it.
    expect((await answerOf(rig.open('pop3', login('late@postern.test', 'wrong')).end())).status).toBe(401);
    const second = await answerOf(rig.open('pop3', late).end());
    expect([second.status, second.headers['postern-reason']]).toEqual([503, 'login-delay']);
  });

  test('words are read in any case', async () => {
    expect(await converse('stat', 'Quit')).toBe('+OK 0 0\r\n+OK bye\r\n');
  });

  test('commands come byte by byte', async () => {
    await fill('a: b\r\n\r\nx\r\n');
    const stream = rig.open('pop3', login());
    const answer = answerOf(stream);
    for (const char of 'STAT\r\nQUIT\r\n') {
      stream.write(char);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect((await answer).body.toString()).toBe('+OK 1 11\r\n+OK bye\r\n');
  });

  test('a message of 20 MiB is streamed byte for byte', async () => {
    const big = Buffer.from(`a: b\r\n\r\n${'.dots at the start of lines, many of them\r\n'.repeat(500_000)}`);
    await fill(big);
    const text = await converse('RETR 1', 'QUIT');
    const start = text.indexOf('\r\n') + 2;
    const end = text.lastIndexOf('.\r\n+OK bye');
    expect(text.slice(start, end).replaceAll('\r\n..', '\r\n.') === big.toString('latin1')).toBe(true);
  });
});

describe('removing', () => {
  beforeEach(() => fill('a: 1\r\n\r\n', 'a: 2\r\n\r\n', 'a: 3\r\n\r\n'));

  test('happens at QUIT', async () => {
    expect(await converse('DELE 1', 'DELE 3', 'QUIT')).toBe('+OK\r\n+OK\r\n+OK bye\r\n');
    expect(await uids()).toEqual([2]);
    expect(rig.logged.at(-1)).toMatchObject({ text: 'session ended', reason: 'quit', deleted: 2 });
  });

  test('does not happen when the client drops without QUIT', async () => {
    expect(await converse('DELE 1', 'DELE 3')).toBe('+OK\r\n+OK\r\n');
    expect(await uids()).toEqual([1, 2, 3]);
  });

  test('does not happen when the stream is reset', async () => {
    const stream = rig.open('pop3', login());
    stream.write('DELE 1\r\n');
    await new Promise((resolve) => stream.once('data', resolve));
    stream.close(8);
    while (!rig.logged.some(({ text }) => text === 'session ended'))
      await new Promise((r) => setTimeout(r, 5));
    expect(await uids()).toEqual([1, 2, 3]);
  });

  test('does not happen when the session is idle for too long', async () => {
    await rig.close();
    rig = await openServiceRig({ settings: { 'pop3.idle_timeout': 100 } });
    await fill('a: 1\r\n\r\n');
    const stream = rig.open('pop3', login());
    stream.resume();
    stream.write('DELE 1\r\n');
    await new Promise((resolve) => stream.once('close', resolve));
    while (!rig.logged.some(({ text }) => text === 'session ended'))
      await new Promise((r) => setTimeout(r, 5));
    expect(rig.logged.at(-1)).toMatchObject({ reason: 'idle' });
    expect(await uids()).toEqual([1]);
  });

  test('that fails is told, and the session ends (RFC 1939 6)', async () => {
    await rig.close();
    let failing = false;
    const fails = (): Promise<never> => Promise.reject(new Fault('storage-failed', 'the storage failed'));
    rig = await openServiceRig({
      accounts: (real) =>
        replacing(real, 'open', async (address: Address) => {
          const account = await real.open(address);
          const { store } = account;
          const folder = async (name: string): Promise<Folder> => {
            const inbox = await store.folder(name);
            return failing ? replacing(inbox, 'expunge', fails) : inbox;
          };
          return { ...account, store: replacing(store, 'folder', folder), release: () => account.release() };
        }),
    });
    await fill('a: 1\r\n\r\n');
    failing = true;
    expect(await converse('DELE 1', 'QUIT', 'STAT')).toBe('+OK\r\n-ERR [SYS/TEMP] try again later\r\n');
    failing = false;
    expect(await uids()).toEqual([1]);
  });

  test('leaves the numbers of the session alone while others remove and deliver', async () => {
    const stream: ClientHttp2Stream = rig.open('pop3', login());
    const answer = answerOf(stream);
    stream.write('STAT\r\n');
    await new Promise((resolve) => stream.once('data', resolve));
    const account = await rig.accounts.open(ann);
    await (await account.store.folder('INBOX')).expunge([2]);
    account.release();
    await fill('a: 4\r\n\r\n');
    stream.end('RETR 2\r\nRETR 3\r\nLIST 4\r\nQUIT\r\n');
    const text = (await answer).body.toString();
    expect(text).toMatch(
      /^\+OK 3 \d+\r\n-ERR the message is gone\r\n\+OK \d+ octets\r\na: 3\r\n\r\n\.\r\n-ERR no such message\r\n\+OK bye\r\n$/,
    );
    expect(await uids()).toEqual([1, 3, 4]);
  });

  test('a message that was read is seen afterwards, and an unread one is not', async () => {
    await converse('RETR 2', 'TOP 3 0', 'QUIT');
    const account = await rig.accounts.open(ann);
    const inbox = await account.store.folder('INBOX');
    expect([1, 2, 3].map((uid) => inbox.flagsOf(uid))).toEqual([0, 1, 0]);
    account.release();
  });
});

test('the session ends when the account must be left', async () => {
  const stream = rig.open('pop3', login());
  const closed = new Promise((resolve) => stream.once('close', resolve));
  stream.write('NOOP\r\n');
  await new Promise((resolve) => stream.once('data', resolve));
  await rig.accounts.leave(() => true, 'moved');
  await closed;
  while (!rig.logged.some(({ text }) => text === 'session ended')) await new Promise((r) => setTimeout(r, 5));
  expect(rig.logged.at(-1)).toMatchObject({ reason: 'account-left' });
});
