/** The service over a real HTTP/2 link, and the very bytes through the real store. */
import { mkdtemp, rm } from 'node:fs/promises';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Accounts } from '../../../backend/accounts/accounts.ts';
import { imapService } from '../../../backend/serve/imap/imap-service.ts';
import type { ServiceContext } from '../../../backend/serve/service.ts';
import { openStore } from '../../../backend/store/open-store.ts';
import type { Store } from '../../../backend/store/store.ts';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { linkHeader } from '../../../cluster-protocol/link.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { ImapClient, tagged } from './imap-client.ts';

let server: http2.Http2Server;
let link: http2.ClientHttp2Session;
let store: MemoryStore;
let released = 0;
let openFault: Fault | undefined;
const ended = new AbortController();

const accounts = {
  verify: async ({ password }: { password: string }) => password === 'right',
  open: async () => {
    if (openFault !== undefined) throw openFault;
    return { address: 'ann@example.org', store, release: () => released++, ended: ended.signal };
  },
} as unknown as Accounts;

const context = {
  accounts,
  log: silentLog,
  settings: { 'account.sessions_max': 3, 'imap.idle_timeout': 1_800_000, 'imap.command_bytes_max': 262_144 },
  owns: () => ({ ok: false, owner: 'backend-2', epoch: 7 }),
} as unknown as ServiceContext;

beforeAll(async () => {
  store = new MemoryStore();
  const inbox = await store.folder('INBOX');
  for (let count = 0; count < 100; count++) inbox.add(`Subject: ${count}\r\n\r\n${'x'.repeat(100_000)}\r\n`);
  server = http2.createServer({ settings: { initialWindowSize: 256 * 1024 } });
  server.on('stream', (stream, headers) => {
    void imapService(
      stream,
      {
        account: 'ann@example.org',
        epoch: 1,
        client: { address: '192.0.2.1', port: 1 },
        tls: undefined,
        trace: 't',
        credentials: {
          mechanism: 'password',
          user: 'ann@example.org',
          password: String(headers['x-password']),
        },
        headers,
      },
      context,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  link = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

afterAll(async () => {
  link.destroy();
  await new Promise((resolve) => server.close(resolve));
});

interface Opened {
  readonly stream: http2.ClientHttp2Stream;
  readonly headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  run(command: string): Promise<string>;
}

async function open(password: string): Promise<Opened> {
  const stream = link.request(
    { ':method': 'POST', ':path': '/imap', 'x-password': password },
    { endStream: false },
  );
  const headers = await new Promise<Opened['headers']>((resolve) => stream.on('response', resolve));
  let chunks: Buffer[] = [];
  let wake = () => {};
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    wake();
  });
  stream.on('end', () => wake());
  return {
    stream,
    headers,
    run: async (command) => {
      stream.write(Buffer.from(`${command}\r\n`, 'latin1'));
      const tag = command.slice(0, command.indexOf(' '));
      // Only the end is looked at: the answer may be megabytes.
      const ended = () => tagged(Buffer.concat(chunks.slice(-2)).toString('latin1'), tag) > 0;
      while (!ended()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const answer = Buffer.concat(chunks).toString('latin1');
      chunks = [];
      return answer;
    },
  };
}

describe('the imap service', () => {
  test('a wrong password is refused before anything is read', async () => {
    const { headers, stream } = await open('wrong');
    expect(headers[':status']).toBe(401);
    expect(headers[linkHeader.reason]).toBe('credentials');
    stream.close();
  });

  test('serves a session, gives out the capabilities, and releases the account', async () => {
    const before = released;
    const { headers, run, stream } = await open('right');
    expect(headers[':status']).toBe(200);
    expect(headers[linkHeader.capability]).toContain('IMAP4rev1');
    expect(await run('a SELECT INBOX')).toContain('* 100 EXISTS');
    expect((await run('b FETCH 1:* BODY.PEEK[]')).length).toBeGreaterThan(10_000_000);
    expect(await run('c LOGOUT')).toContain('* BYE');
    // The session's side has ended; the stream is gone when ours has too.
    stream.end();
    await new Promise((resolve) => stream.on('close', resolve));
    expect(released).toBe(before + 1);
  });

  test('a stream that is reset in the middle of a FETCH leaves nothing open', async () => {
    const before = released;
    const inbox = await store.folder('INBOX');
    const { run, stream } = await open('right');
    await run('a SELECT INBOX');
    stream.write('b FETCH 1:* BODY.PEEK[]\r\n');
    await new Promise((resolve) => stream.once('data', resolve));
    stream.close(http2.constants.NGHTTP2_CANCEL);
    for (let turn = 0; turn < 100 && released === before; turn++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(released).toBe(before + 1);
    expect(inbox.openCount).toBe(0);
    expect(inbox.watcherCount).toBe(0);
  });

  test('sessions of one account are limited', async () => {
    const held = [await open('right'), await open('right'), await open('right')];
    const fourth = await open('right');
    expect([fourth.headers[':status'], fourth.headers[linkHeader.reason]]).toEqual([503, 'limit']);
    for (const { run } of held) await run('a LOGOUT');
    const fifth = await open('right');
    expect(fifth.headers[':status']).toBe(200);
    await fifth.run('a LOGOUT');
  });

  test('an account that is not ours names its owner', async () => {
    openFault = new Fault('not-owner', 'moved');
    const { headers, stream } = await open('right');
    openFault = undefined;
    expect([headers[':status'], headers[linkHeader.owner], headers[linkHeader.epoch]]).toEqual([
      421,
      'backend-2',
      '7',
    ]);
    stream.close();
  });
});

describe('through the real store', () => {
  let directory = '';
  let real: Store;
  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'postern-imap-'));
    real = await openStore({
      directory,
      guard: { epoch: 1, assert: () => {} },
      limits: {
        messageBytesMax: 50_000_000,
        foldersMax: 100,
        folderNameBytesMax: 1000,
        keywordsPerFolderMax: 100,
        quotaBytes: 0,
        quotaMessages: 0,
      },
      log: silentLog,
      dirsync: true,
    });
  });
  afterAll(async () => {
    await real.close();
    await rm(directory, { recursive: true, force: true });
  });

  const bodies: [string, string][] = [
    ['8-bit', 'Subject: \xe4\xff\r\n\r\n\x80\xfe\x01\x7f\t\r\n'],
    ['a line of 100,000 bytes', `Subject: x\r\n\r\n${'y'.repeat(100_000)}\r\n`],
    ['no line end at the end', 'Subject: x\r\n\r\nend'],
    ['dots and From lines', 'Subject: x\r\n\r\n.\r\n..\r\nFrom me\r\n>From you\r\n'],
    ['no header', '\r\nbody'],
    ['500 KB', `Subject: x\r\n\r\n${'0123456789abcdef\r\n'.repeat(30_000)}`],
    ['something like IMAP', 'Subject: x\r\n\r\na OK done\r\n* BYE\r\n{5}\r\n)\r\n'],
  ];
  test.each(bodies)('%s comes back as it was sent', async (_, body) => {
    const client = new ImapClient(real);
    const stored = await client.run(`a APPEND INBOX {${body.length}+}\r\n${body}`);
    const uid = /APPENDUID \d+ (\d+)/.exec(stored)![1];
    await client.run('b SELECT INBOX');
    const answer = await client.run(`c UID FETCH ${uid} (RFC822.SIZE BODY.PEEK[])`);
    expect(answer).toContain(`RFC822.SIZE ${body.length} BODY[] {${body.length}}\r\n${body})\r\nc OK`);
    expect(await client.run(`d UID FETCH ${uid} BODY.PEEK[]<5.9>`)).toContain(`}\r\n${body.slice(5, 14)})`);
    await client.run('e LOGOUT');
  });

  test('flags, copies, moves, expunges as two sessions see them', async () => {
    const ann = new ImapClient(real);
    const bob = new ImapClient(real);
    expect(await ann.run('a CREATE "Entw&APw-rfe/x"')).toMatch(/^a OK \[MAILBOXID/);
    await ann.run('b SELECT INBOX');
    await bob.run('a SELECT INBOX');
    expect(await ann.run('c STORE 1:2 +FLAGS (\\Flagged $Later)')).toMatch(
      /\* 2 FETCH \(FLAGS \(\\Flagged \$Later\)\)/,
    );
    expect(await bob.run('b NOOP')).toMatch(/\* 1 FETCH \(UID 1 FLAGS \(\\Flagged \$Later\)\)/);
    expect(await ann.run('d COPY 1:2 "Entw&APw-rfe/x"')).toMatch(/^d OK \[COPYUID \d+ 1:2 1:2\]/);
    expect(await ann.run('e MOVE 1 "Entw&APw-rfe/x"')).toMatch(/COPYUID \d+ 1 3\].*\r\n\* 1 EXPUNGE\r\ne OK/);
    expect(await bob.run('c NOOP')).toMatch(/\* 1 EXPUNGE\r\n/);
    expect(await bob.run('d STATUS "Entw&APw-rfe/x" (MESSAGES UIDNEXT)')).toContain('(MESSAGES 3 UIDNEXT 4)');
    expect(await bob.run('e SEARCH TEXT "subject: x" KEYWORD $later')).toMatch(/^\* SEARCH 1\r\n/);
    await ann.run('z LOGOUT');
    await bob.run('z LOGOUT');
  });

  test('a message of 30 MB passes without being held in memory', async () => {
    const client = new ImapClient(real);
    const chunk = Buffer.alloc(
      64 * 1024,
      'abcdefghijklmnopqrstuvwxyz012345678901234567890123456789012345\r\n',
    );
    const count = 480;
    client.send(`a APPEND INBOX {${chunk.length * count}}\r\n`);
    expect(await client.until((text) => text.indexOf('\n') + 1)).toBe('+ OK\r\n');
    // What other suites of this process left behind is not counted.
    const before = process.memoryUsage().arrayBuffers;
    let peak = before;
    for (let sent = 0; sent < count; sent++) {
      client.send(chunk);
      while (client.paused) await new Promise((resolve) => setImmediate(resolve));
      peak = Math.max(peak, process.memoryUsage().arrayBuffers);
    }
    client.send('\r\n');
    expect(await client.until((text) => tagged(text, 'a'))).toMatch(/^a OK \[APPENDUID/);
    expect(peak - before).toBeLessThan(200 * 1024 * 1024);
    await client.run('b SELECT INBOX');
    client.reads = false;
    client.send('c FETCH * BODY[]\r\n');
    await client.settled();
    client.readOn();
    expect(await client.until((text) => tagged(text, 'c'))).toMatch(/c OK/);
    await client.run('z LOGOUT');
  });
});
