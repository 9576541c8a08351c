/**
 * A thousand real messages through the whole path, twenty connections at once,
 * with a real clamd that is killed and started again on the way.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { digest, storedCounts } from '../faults/kill-rounds.ts';
import { type Clamd, startClamd } from '../support/clamd.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { corpusMessages } from '../support/corpus.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { type Outgoing, SmtpConnection, sendAll } from '../support/mail-sender.ts';

let clamd: Clamd;

beforeAll(async () => {
  await requireDebianPackages(['clamav-daemon', 'python3']);
  clamd = await startClamd();
}, 180_000);

afterAll(async () => {
  await clamd?.stop();
});

async function outgoing(cluster: Cluster, count: number): Promise<Outgoing[]> {
  const corpus = await corpusMessages(count);
  return corpus.map((data) => ({ from: 'corpus@example.org', to: [cluster.account.address], data }));
}

/** Stored counts must be what was sent: no more, no less, no other bytes. */
async function expectEachOnce(cluster: Cluster, sent: readonly Outgoing[]): Promise<void> {
  const wanted = new Map<string, number>();
  for (const message of sent) wanted.set(digest(message.data), (wanted.get(digest(message.data)) ?? 0) + 1);
  const stored = await storedCounts(cluster);
  const wrong = [...wanted].filter(([key, count]) => stored.get(key) !== count).length;
  expect({ stored: [...stored.values()].reduce((sum, count) => sum + count, 0), wrong }).toEqual({
    stored: sent.length,
    wrong: 0,
  });
}

const clamavEntry = (one: Clamd): string => `[[plugin]]\nuse = "clamav"\nserver = "127.0.0.1:${one.port}"\n`;

describe('a thousand messages of the corpus', () => {
  test('each is stored once, byte for byte, over twenty connections', async () => {
    const cluster = await startCluster({ config: clamavEntry(clamd) });
    try {
      const sent = await outgoing(cluster, 1000);
      await sendAll({ host: cluster.host, port: cluster.ports.smtp }, sent, { connections: 20 });
      await expectEachOnce(cluster, sent);
    } finally {
      await cluster.stop();
    }
  }, 240_000);

  test('with clamd killed and started again: 451 meanwhile, nothing lost, nothing twice, nothing unscanned', async () => {
    const cluster = await startCluster({ config: clamavEntry(clamd) });
    try {
      const sent = await outgoing(cluster, 1000);
      const kills = { at: new Set([150, 500, 800]), done: 0 };
      let accepted = 0;
      const work: Promise<void>[] = [];
      const report = await sendAll({ host: cluster.host, port: cluster.ports.smtp }, sent, {
        connections: 20,
        giveUpMs: 200_000,
        retryMs: 200,
        onAccepted: () => {
          accepted++;
          if (!kills.at.has(accepted)) return;
          kills.done++;
          work.push(
            clamd
              .kill()
              .then(() => new Promise((resolve) => setTimeout(resolve, 1500)))
              .then(() => clamd.start()),
          );
        },
      });
      await Promise.all(work);
      expect(kills.done).toBe(3);
      const deferred = [...report.setbacks]
        .filter(([text]) => text.startsWith('451'))
        .reduce((sum, [, count]) => sum + count, 0);
      expect(deferred).toBeGreaterThan(0);
      await expectEachOnce(cluster, sent);
      // Nothing unscanned: EICAR, sent while clamd is dead, is not stored, and is refused once it is back.
      await clamd.kill();
      const virus = Buffer.from(
        `Subject: eicar\r\nMessage-ID: <eicar@sender>\r\n\r\nX5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*\r\n`,
      );
      const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp, 60_000);
      expect((await connection.send('v@example.org', [cluster.account.address], virus)).code).toBe(451);
      connection.destroy();
      await clamd.start();
      await expect(
        sendAll(
          { host: cluster.host, port: cluster.ports.smtp },
          [{ from: 'v@example.org', to: [cluster.account.address], data: virus }],
          {
            connections: 1,
            giveUpMs: 60_000,
            retryMs: 500,
          },
        ),
      ).rejects.toThrow(/55\d/);
      await expectEachOnce(cluster, sent);
    } finally {
      await cluster.stop();
    }
  }, 300_000);
});
