/** mbsync both ways through the whole path: 10,000 messages up, flags, deletions and new mail in both directions. */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ImapFlow } from 'imapflow';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { run } from './mail-readers.ts';

const messageCount = 10_000;
let cluster: Cluster;
let dir: string;

beforeAll(async () => {
  await requireDebianPackages(['isync']);
  cluster = await startCluster({});
  dir = await mkdtemp(path.join(tmpdir(), 'postern-mbsync-'));
  const access = cluster.access();
  for (const name of ['cur', 'new', 'tmp'])
    await mkdir(path.join(dir, 'mail/INBOX', name), { recursive: true });
  await writeFile(
    path.join(dir, 'mbsyncrc'),
    [
      'FSync no',
      '',
      'IMAPAccount edge',
      'Host localhost',
      `Port ${access.imapsPort}`,
      `User ${access.user}`,
      `Pass ${access.password}`,
      'SSLType IMAPS',
      `CertificateFile ${access.caFile}`,
      '',
      'IMAPStore far',
      'Account edge',
      '',
      'MaildirStore near',
      `Path ${dir}/mail/`,
      `Inbox ${dir}/mail/INBOX`,
      'SubFolders Verbatim',
      '',
      'Channel all',
      'Far :far:',
      'Near :near:',
      'Patterns *',
      'Create Both',
      'Expunge Both',
      'Sync All',
      'SyncState *',
      '',
    ].join('\n'),
    { mode: 0o600 },
  );
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

async function sync(): Promise<void> {
  await run('mbsync', ['-c', path.join(dir, 'mbsyncrc'), '-a'], { env: { HOME: dir }, timeoutMs: 240_000 });
}

const cur = (folder: string) => path.join(dir, 'mail', folder, 'cur');

/** Subject → flag letters of what the Maildir holds. */
async function near(folder = 'INBOX'): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const place of ['cur', 'new']) {
    for (const name of await readdir(path.join(dir, 'mail', folder, place))) {
      const text = await readFile(path.join(dir, 'mail', folder, place, name), 'latin1');
      found.set(
        /^Subject: (.*)$/m.exec(text)![1]!.trim(),
        (/:2,([A-Z]*)$/.exec(name)?.[1] ?? '').replace(/[^FRST]/g, ''),
      );
    }
  }
  return found;
}

async function fileOf(subject: string): Promise<string> {
  for (const name of await readdir(cur('INBOX'))) {
    const text = await readFile(path.join(cur('INBOX'), name), 'latin1');
    if (text.includes(`Subject: ${subject}\n`)) return name;
  }
  throw new Error(`no ${subject}`);
}

async function atServer<T>(work: (client: ImapFlow) => Promise<T>): Promise<T> {
  const access = cluster.access();
  const client = new ImapFlow({
    host: 'localhost',
    port: access.imapsPort,
    secure: true,
    tls: { ca: await readFile(access.caFile) },
    auth: { user: access.user, pass: access.password },
    logger: false,
  });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.logout();
  }
}

/** Subject → flag letters of what the server holds. */
function far(folder = 'INBOX'): Promise<Map<string, string>> {
  return atServer(async (client) => {
    await client.mailboxOpen(folder);
    const found = new Map<string, string>();
    for await (const message of client.fetch('1:*', { envelope: true, flags: true })) {
      const letters = [...(message.flags ?? [])]
        .map((flag) => letterOf[flag] ?? '')
        .sort()
        .join('');
      found.set(message.envelope?.subject ?? '', letters);
    }
    return found;
  });
}
const letterOf: Record<string, string> = {
  '\\Seen': 'S',
  '\\Flagged': 'F',
  '\\Answered': 'R',
  '\\Deleted': 'T',
};

test('10,000 messages go up, byte for byte, with their flags', async () => {
  for (let at = 0; at < messageCount; at++) {
    const text = `From: a@example.org\nSubject: m${at}\nMessage-ID: <${at}@near>\n\nbody ${at}\n.\nFrom here\n`;
    await writeFile(path.join(cur('INBOX'), `1700000000.${at}.near:2,${at % 3 === 0 ? 'S' : ''}`), text);
  }
  await sync();
  const there = await far();
  expect(there.size).toBe(messageCount);
  expect(there.get('m3')).toBe('S');
  expect(there.get('m4')).toBe('');
  const source = await atServer(async (client) => {
    await client.mailboxOpen('INBOX');
    const found = await client.search({ subject: 'm9999' });
    return (await client.fetchOne(String((found as number[])[0]), { source: true })) as { source: Buffer };
  });
  expect(source.source.toString()).toMatch(/Subject: m9999\r\n[\s\S]*body 9999\r\n\.\r\nFrom here\r\n$/);
}, 300_000);

test('flags, deletions and new messages travel both ways', async () => {
  // Here: one flagged, one answered, fifty deleted, one new.
  const flagged = await fileOf('m10');
  await rename(path.join(cur('INBOX'), flagged), path.join(cur('INBOX'), `${flagged}F`));
  for (const name of await readdir(cur('INBOX'))) {
    const number = Number(
      /^Subject: m(\d+)$/m.exec(await readFile(path.join(cur('INBOX'), name), 'latin1'))![1],
    );
    if (number >= 100 && number < 150) await unlink(path.join(cur('INBOX'), name));
  }
  await writeFile(path.join(cur('INBOX'), '1700000001.new.near:2,'), 'Subject: new here\n\nx\n');
  // There: seen, fifty expunged, one appended.
  await atServer(async (client) => {
    await client.mailboxOpen('INBOX');
    await client.messageFlagsAdd({ header: { 'message-id': '<20@near>' } }, ['\\Seen', '\\Flagged']);
    const gone: number[] = [];
    for await (const message of client.fetch('1:*', { envelope: true, uid: true })) {
      const number = Number(/^m(\d+)$/.exec(message.envelope?.subject ?? '')?.[1]);
      if (number >= 200 && number < 250) gone.push(message.uid);
    }
    expect(gone).toHaveLength(50);
    await client.messageDelete(gone.join(','), { uid: true });
    await client.append('INBOX', 'Subject: new there\r\n\r\ny\r\n', ['\\Flagged']);
  });
  await sync();
  const [here, there] = [await near(), await far()];
  expect(here.size).toBe(messageCount - 100 + 2);
  expect([...there].sort()).toEqual([...here].sort());
  expect(there.get('m10')).toBe('F');
  expect(here.get('m20')).toBe('FS');
  expect(there.has('m120')).toBe(false);
  expect(here.has('m220')).toBe(false);
  expect(there.has('new here')).toBe(true);
  expect(here.get('new there')).toBe('F');
}, 300_000);

test('a folder made on either side appears on the other, and a second run changes nothing', async () => {
  for (const name of ['cur', 'new', 'tmp'])
    await mkdir(path.join(dir, 'mail/Here', name), { recursive: true });
  await writeFile(path.join(dir, 'mail/Here/cur/1700000002.h.near:2,S'), 'Subject: in here\n\nx\n');
  await atServer(async (client) => {
    await client.mailboxCreate('There');
    await client.append('There', 'Subject: in there\r\n\r\ny\r\n');
  });
  await sync();
  expect(await far('Here')).toEqual(new Map([['in here', 'S']]));
  expect((await near('There')).has('in there')).toBe(true);
  const before = [await near(), await far()];
  await sync();
  expect([await near(), await far()]).toEqual(before);
}, 300_000);
