/** What is accepted is stored byte for byte, or it is refused: nothing in between (CASES 4, 5). */

import { createHash, generateKeyPairSync, sign, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SmtpConnection, withoutAddedHeaders } from '../support/mail-sender.ts';
import { storedMessages } from './stored-messages.ts';

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ config: '[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n' });
}, 120_000);
afterAll(() => cluster?.stop());

async function roundTrip(data: Buffer): Promise<{ code: number; stored: Buffer | undefined }> {
  const before = (await storedMessages(cluster)).length;
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  const { code } = await connection.send('a@example.org', [cluster.account.address], data);
  connection.destroy();
  const after = await storedMessages(cluster);
  expect(after.length - before).toBe(code === 250 ? 1 : 0);
  return { code, stored: code === 250 ? withoutAddedHeaders(after.at(-1)!.bytes) : undefined };
}

const head = 'Subject: bytes\r\nMessage-ID: <b@example.org>\r\n\r\n';
const allBytes = Buffer.from(
  Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => ![0, 10, 13].includes(byte)),
);

describe('a message is stored as it was sent, or refused', () => {
  const rows: readonly [what: string, data: string | Buffer, wanted: 'stored' | 'either'][] = [
    ['an empty body', head, 'stored'],
    ['lines of dots', `${head}.\r\n..\r\n...\r\n. \r\n.a\r\n`, 'stored'],
    ['white space at line ends', `${head}a \r\n\t\r\n  b\t\r\n\r\n\r\n`, 'stored'],
    [
      'every byte but NUL, CR and LF',
      Buffer.concat([Buffer.from(head), allBytes, Buffer.from('\r\n')]),
      'stored',
    ],
    ['a line of 998 characters', `${head}${'x'.repeat(998)}\r\n`, 'stored'],
    ['a line of 999 characters', `${head}${'x'.repeat(999)}\r\n`, 'either'],
    ['a line of 4,000 characters', `${head}${'x'.repeat(4000)}\r\n`, 'either'],
    [
      'header fields folded and odd',
      `X-A:\r\n b\r\n\tc\r\nx-a : d\r\nX-Empty:\r\nSubject: bytes\r\n\r\nbody\r\n`,
      'stored',
    ],
    ['no header', 'just a line\r\nand another\r\n', 'either'],
    ['a header only', 'Subject: bytes\r\n', 'either'],
    ['From in the body', `${head}From a@b Mon\r\n>From c\r\n`, 'stored'],
    ['five megabytes', `${head}${'lorem ipsum dolor sit amet consectetur\r\n'.repeat(125_000)}`, 'stored'],
  ];
  test.each(rows)('%s', async (_, data, wanted) => {
    const sent = Buffer.from(data);
    const { code, stored } = await roundTrip(sent);
    if (wanted === 'either' && code !== 250) {
      expect(code).toBeGreaterThanOrEqual(500);
      return;
    }
    expect(code).toBe(250);
    expect(stored!.equals(sent)).toBe(true);
  });
});

test('a DKIM signature of the sender still verifies on what is stored', async () => {
  // RFC 6376 with "simple" canonicalization on both sides: any change at all breaks it.
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const body = `Dear reader,\r\n\r\n.a line with a dot  \r\n${'long '.repeat(150)}\r\n\ttabs\t\r\n`;
  const fields = 'From: Ann <a@example.org>\r\nSubject:  odd   spacing \r\n\tfolded\r\n';
  const hash = createHash('sha256').update(body).digest('base64');
  const unsigned = `DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.org; s=t;\r\n h=From:Subject; bh=${hash};\r\n b=`;
  const signature = sign('sha256', Buffer.from(fields + unsigned), privateKey).toString('base64');
  const sent = Buffer.from(`${unsigned}${signature}\r\n${fields}\r\n${body}`);
  const { code, stored } = await roundTrip(sent);
  expect(code).toBe(250);
  const [header, ...rest] = stored!.toString('latin1').split('\r\n\r\n');
  const seen = /^(DKIM-Signature:[\s\S]*?\r\n b=)([A-Za-z0-9+/=]+)\r\n([\s\S]*)$/.exec(header!)!;
  expect(createHash('sha256').update(rest.join('\r\n\r\n')).digest('base64')).toBe(hash);
  expect(
    verify('sha256', Buffer.from(`${seen[3]}\r\n${seen[1]}`), publicKey, Buffer.from(seen[2]!, 'base64')),
  ).toBe(true);
});
