/** imapflow, the client library of many web mailers, through the whole path: CONDSTORE, QRESYNC, IDLE, search, folders. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { ImapFlow } from 'imapflow';
import { type Cluster, startCluster } from '../support/cluster.ts';

let cluster: Cluster;
let ca: Buffer;
const open: ImapFlow[] = [];

beforeAll(async () => {
  cluster = await startCluster({});
  ca = await readFile(cluster.access().caFile);
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
});

async function connect(options: { qresync?: boolean } = {}): Promise<ImapFlow> {
  const { imapsPort, user, password } = cluster.access();
  const client = new ImapFlow({
    host: 'localhost',
    port: imapsPort,
    secure: true,
    tls: { ca },
    auth: { user, pass: password },
    logger: false,
    ...options,
  });
  await client.connect();
  open.push(client);
  return client;
}

const message = (subject: string, body = 'x') =>
  `From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: ${subject}\r\nMessage-ID: <${subject}@x>\r\n\r\n${body}\r\n`;

async function waitFor(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

beforeEach(async () => {
  for (const client of open.splice(0)) client.close();
  const client = await connect();
  const box = await client.mailboxOpen('INBOX');
  if (box.exists > 0) await client.messageDelete('1:*');
});

test('it knows what the server can do', async () => {
  const client = await connect();
  for (const name of [
    'IMAP4rev1',
    'CONDSTORE',
    'QRESYNC',
    'IDLE',
    'MOVE',
    'UIDPLUS',
    'ESEARCH',
    'OBJECTID',
    'BINARY',
  ]) {
    expect([name, client.capabilities.has(name)]).toEqual([name, true]);
  }
  expect(client.enabled.has('CONDSTORE')).toBe(true);
});

test('changes since a modification sequence are fetched', async () => {
  const client = await connect();
  await client.mailboxOpen('INBOX');
  for (const subject of ['one', 'two', 'three']) await client.append('INBOX', message(subject));
  await client.noop();
  const { highestModseq } = (await client.status('INBOX', { highestModseq: true })) as {
    highestModseq: bigint;
  };
  await client.messageFlagsAdd('2', ['\\Flagged']);
  const changed: [number, bigint][] = [];
  for await (const { seq, modseq, flags } of client.fetch(
    '1:*',
    { flags: true },
    { changedSince: highestModseq },
  )) {
    expect([...flags!]).toEqual(['\\Flagged']);
    changed.push([seq, modseq!]);
  }
  expect(changed.map(([seq]) => seq)).toEqual([2]);
  expect(changed[0]![1]).toBeGreaterThan(highestModseq);
});

test('an idling client with QRESYNC hears of new, changed and expunged messages', async () => {
  const listener = await connect({ qresync: true });
  const other = await connect();
  expect(listener.enabled.has('QRESYNC')).toBe(true);
  await other.append('INBOX', message('first'));
  await listener.mailboxOpen('INBOX');
  const heard: string[] = [];
  listener.on('exists', ({ count }) => heard.push(`exists ${count}`));
  listener.on('flags', ({ uid, flags }) =>
    heard.push(`flags ${uid === undefined ? '?' : 'uid'} ${[...flags].join()}`),
  );
  listener.on('expunge', (event: { uid?: number; vanished?: boolean }) => {
    heard.push(`expunge ${event.uid !== undefined} ${event.vanished}`);
  });
  void listener.idle();
  await new Promise((resolve) => setTimeout(resolve, 200));
  await other.mailboxOpen('INBOX');
  await other.append('INBOX', message('second'));
  await waitFor(() => heard.includes('exists 2'));
  await other.messageFlagsAdd('1', ['\\Seen']);
  await waitFor(() => heard.includes('flags uid \\Seen'));
  await other.messageDelete('1');
  await waitFor(() => heard.includes('expunge true true'));
});

test('searches, by header, body, flag and date', async () => {
  const client = await connect();
  await client.mailboxOpen('INBOX');
  await client.append('INBOX', message('alpha', 'needle in here'), ['\\Seen']);
  await client.append('INBOX', message('beta', 'nothing'));
  await client.noop();
  expect(await client.search({ subject: 'ALPH' })).toEqual([1]);
  expect(await client.search({ body: 'Needle' })).toEqual([1]);
  expect(await client.search({ seen: false })).toEqual([2]);
  expect(await client.search({ or: [{ subject: 'alpha' }, { subject: 'beta' }] })).toEqual([1, 2]);
  expect(await client.search({ since: new Date(Date.now() - 3 * 86_400_000) }, { uid: true })).toHaveLength(
    2,
  );
});

test('moves, copies, folders with names of any script, and special uses', async () => {
  const client = await connect();
  await client.mailboxOpen('INBOX');
  await client.append('INBOX', message('move me'));
  await client.noop();
  await client.mailboxCreate('Πρόχειρα/übrig & mehr');
  const copied = (await client.messageCopy('1', 'Πρόχειρα/übrig & mehr')) as { uidMap?: Map<number, number> };
  expect(copied.uidMap?.size).toBe(1);
  const moved = (await client.messageMove('1', 'Πρόχειρα/übrig & mehr')) as { uidMap?: Map<number, number> };
  expect(moved.uidMap?.size).toBe(1);
  const paths = (await client.list()).map((folder) => folder.path);
  expect(paths).toContain('Πρόχειρα/übrig & mehr');
  await client.mailboxRename('Πρόχειρα/übrig & mehr', 'Neu');
  expect(await client.status('Neu', { messages: true })).toMatchObject({ messages: 2 });
  await client.mailboxDelete('Neu');
  expect((await client.list()).find((folder) => folder.specialUse === '\\Inbox')?.path).toBe('INBOX');
});

test('a part is downloaded decoded', async () => {
  const client = await connect();
  await client.mailboxOpen('INBOX');
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, at) => at % 256));
  const lines = bytes.toString('base64').replace(/.{76}/g, '$&\r\n');
  await client.append(
    'INBOX',
    `Subject: b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n${lines}\r\n`,
  );
  await client.noop();
  const { content } = await client.download('1', '1');
  const chunks: Buffer[] = [];
  for await (const chunk of content!) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});
