/** A site's plugin misbehaves; the sender gets one answer, and the gateway lives (CASES 54). */

import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SmtpConnection } from '../support/mail-sender.ts';
import { waitFor } from '../support/process.ts';
import { storedMessages } from './stored-messages.ts';

let cluster: Cluster;

beforeAll(async () => {
  const plugin = path.join(import.meta.dirname, 'plugins/misbehaving.ts');
  cluster = await startCluster({ config: `[[plugin]]\nuse = ${JSON.stringify(plugin)}\n` });
}, 120_000);
afterAll(() => cluster?.stop());

async function send(subject: string): Promise<number> {
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  try {
    const data = Buffer.from(`Subject: ${subject}\r\nFrom: a@example.org\r\n\r\nbody\r\n`);
    return (await connection.send('a@example.org', [cluster.account.address], data)).code;
  } finally {
    connection.destroy();
  }
}

const subjects = async (): Promise<string[]> => (await storedMessages(cluster)).map(({ subject }) => subject);

describe('one answer each', () => {
  const rows: readonly [what: string, code: number][] = [
    ['throws', 451],
    ['throws later', 451],
    ['answers twice', 554],
    ['never answers', 451],
    ['answers late', 451],
    ['answers nonsense', 451],
    ['answers nothing', 451],
    ['holds the loop', 250],
    ['meets a slow expression', 250],
  ];
  test.each(rows)('a plugin that %s: %d', async (what, code) => {
    const pids = await cluster.memberPids();
    expect(await send(what)).toBe(code);
    expect(await send(`after: ${what}`)).toBe(250);
    expect(await cluster.memberPids()).toEqual(pids);
    const stored = await subjects();
    expect(stored.filter((subject) => subject === what)).toHaveLength(code === 250 ? 1 : 0);
    expect(stored.filter((subject) => subject === `after: ${what}`)).toHaveLength(1);
  });

  test('the log names the plugin and what it did', async () => {
    const log = await waitFor('the log', async () => {
      const records = await cluster.logs();
      return records.some(({ msg }) => msg === 'a plugin held the event loop') ? records : undefined;
    });
    const failures = log.filter(({ msg }) => msg === 'plugin failed');
    expect(failures.map(({ plugin, how }) => `${plugin} ${how}`)).toEqual([
      'misbehaving threw',
      'misbehaving threw',
      'misbehaving deadline',
      'misbehaving deadline',
      'misbehaving not-a-verdict',
      'misbehaving not-a-verdict',
    ]);
    expect(log.filter(({ msg }) => msg === 'a plugin held the event loop')[0]).toMatchObject({
      plugin: 'misbehaving',
      what: 'message',
    });
  });
});

test('a plugin that loops for good: the gateway is ended and back, and nothing acknowledged is lost', async () => {
  const before = await cluster.memberPids();
  await expect(send('loops')).rejects.toThrow();
  await cluster.answering();
  const after = await cluster.memberPids();
  expect(after['gateway-1']).not.toBe(before['gateway-1']);
  expect(after['backend-1']).toBe(before['backend-1']);
  expect(await send('after: loops')).toBe(250);
  const stored = await subjects();
  expect(stored).not.toContain('loops');
  expect(stored.filter((subject) => subject.startsWith('after: '))).toHaveLength(10);
  expect(cluster.output() + JSON.stringify(await cluster.logs())).toMatch(/the event loop stands still/);
});
