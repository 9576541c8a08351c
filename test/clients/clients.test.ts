/** What is sent is what ordinary mail software reads, through the whole path of a real cluster. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { withoutAddedHeaders } from '../support/mail-sender.ts';
import { fetchingReaders } from './fetching-readers.ts';
import { type MailReader, mailReaders, run } from './mail-readers.ts';

/** Each shows something that a careless relay or reader spoils. */
const messages: Record<string, string> = {
  plain: 'Subject: plain\r\nMessage-ID: <1@sender>\r\n\r\nHello.\r\n',
  dots: 'Subject: dots\r\nMessage-ID: <2@sender>\r\n\r\n.\r\n..\r\n.leading\r\nend.\r\n',
  eightBit:
    'Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <3@sender>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße, 你好\r\n',
  blankEnd: 'Subject: blank lines at the end\r\nMessage-ID: <4@sender>\r\n\r\nbody\r\n\r\n\r\n\r\n',
  fromLine:
    'Subject: from\r\nMessage-ID: <5@sender>\r\n\r\nFrom here on it looks like mbox\r\n>From quoted\r\n',
  folded:
    'Subject: folded\r\n\tover\r\n lines\r\nMessage-ID: <6@sender>\r\nX-Long: ' +
    'word '.repeat(150) +
    '\r\n\r\nbody\r\n',
  longLine: `Subject: long\r\nMessage-ID: <7@sender>\r\n\r\n${'x'.repeat(998)}\r\n`,
};

let cluster: Cluster;

beforeAll(async () => {
  await requireDebianPackages([
    'swaks',
    'curl',
    'isync',
    'fetchmail',
    'mutt',
    'python3',
    'offlineimap3',
    'getmail6',
    'mpop',
  ]);
  cluster = await startCluster({});
  for (const [name, text] of Object.entries(messages)) {
    const file = path.join(cluster.data, `${name}.eml`);
    await writeFile(file, text.replace(/\r\n$/, '')); // swaks ends the last line itself
    await run('swaks', [
      '--server',
      cluster.host,
      '--port',
      String(cluster.ports.smtp),
      '--from',
      'sender@example.org',
      '--to',
      cluster.account.address,
      '--data',
      `@${file}`,
      '--suppress-data',
    ]);
  }
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
});

describe('a message sent by swaks', () => {
  test.each([...mailReaders, ...fetchingReaders].map((reader) => [reader.name, reader] as const))(
    '%s reads the bytes that were sent',
    async (_, reader) => {
      const read = await reader.read({ ...cluster.access(), host: 'localhost' });
      expect(read).toHaveLength(Object.keys(messages).length);
      const got = read
        .map((message) => withoutAddedHeaders(normal(message, reader.lines)).toString('latin1'))
        .sort();
      const wanted = Object.values(messages)
        .map((text) => normal(Buffer.from(text), reader.lines).toString('latin1'))
        .sort();
      expect(got).toEqual(wanted);
    },
  );
});

/** A client that stores Unix lines cannot show which line ends it was given; it may also end the last line or not. */
function normal(message: Buffer, lines: MailReader['lines']): Buffer {
  if (lines === 'exact') return message;
  const text = message
    .toString('latin1')
    .replace(/\r\n/g, '\n')
    .replace(/^X-TUID:.*\n/m, '') // mbsync
    .replace(/^X-getmail-retrieved-from-mailbox:.*\n/m, '')
    .replace(/^Content-Length: \d+\nLines: \d+\n/m, '') // mutt, in its copies
    .replace(/\n*$/, '\n');
  const read = lines === 'refolded' ? text.replace(/\n[ \t]+/g, ' ').replace(/ +\n/g, '\n') : text;
  return Buffer.from(read, 'latin1');
}

test('a submitted message passes over TLS with AUTH and is read back', async () => {
  const { address, password } = cluster.account;
  const done = await run('swaks', [
    '--server',
    cluster.host,
    '--port',
    String(cluster.ports.submission),
    '--tls',
    '--auth',
    'PLAIN',
    '--auth-user',
    address,
    '--auth-password',
    password,
    '--from',
    address,
    '--to',
    address,
    '--h-Subject',
    'to myself',
  ]);
  expect(done.stdout.toString()).toMatch(/<~ {2}250 .*\n.*-> QUIT|<~\s+250/);
});

test('the first account file holds the password with mode 600', async () => {
  const text = await readFile(path.join(cluster.data, 'first-account.txt'), 'utf8');
  expect(text).toContain(cluster.account.password);
});
