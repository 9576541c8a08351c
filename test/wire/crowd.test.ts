/** A thousand strangers at once, each with an unfinished line or literal: bounded memory, others served (CASES 23, 24). */

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cluster, connectTo, type PortName, startCluster } from '../support/cluster.ts';
import { SmtpConnection } from '../support/mail-sender.ts';
import { waitFor } from '../support/process.ts';
import { openDescriptors } from './descriptors.ts';
import { storedMessages } from './stored-messages.ts';

let cluster: Cluster;
let gateway: number;

beforeAll(async () => {
  cluster = await startCluster({
    config:
      'net.connections_per_network_max = 3000\nnet.login_timeout = "30s"\n[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n',
  });
  gateway = (await cluster.memberPids())['gateway-1']!;
}, 120_000);
afterAll(() => cluster?.stop());

const residentMiB = async (): Promise<number> =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(await readFile(`/proc/${gateway}/status`, 'latin1'))![1]) / 1024;

const crowds: readonly [what: string, port: PortName, begin: string, piece: string][] = [
  ['lines without an end', 'imap', '', 'x'.repeat(7000)],
  ['literals of 100 MB', 'imap', 'a LOGIN {104857600+}\r\n', 'x'.repeat(7000)],
  ['parentheses', 'imap', 'a ID ', '('.repeat(7000)],
  ['command lines without an end', 'smtp', 'EHLO ', 'x'.repeat(4000)],
  ['names without an end', 'pop3', 'USER ', 'u'.repeat(2000)],
];

test.each(crowds)('%s on a thousand connections', async (_, port, begin, piece) => {
  const descriptorsBefore = await openDescriptors(gateway);
  const before = await residentMiB();
  const sockets: Socket[] = [];
  for (let i = 0; i < 1000; i++) {
    const socket = connectTo(cluster, port);
    socket.resume();
    sockets.push(socket);
    if (i % 50 === 49) await once(socket, 'connect');
  }
  await Promise.all(
    sockets.map(async (socket) => {
      if (socket.connecting) await once(socket, 'connect').catch(() => {});
      socket.write(begin + piece);
    }),
  );
  // More than any of them may have in memory; most are closed by now.
  for (let round = 0; round < 5; round++) {
    for (const socket of sockets) if (!socket.destroyed) socket.write(piece);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  // 1,000 connections of at most 64 KiB each, and as much again for what the collector has not seen yet
  expect((await residentMiB()) - before).toBeLessThan(128);

  // Meanwhile others are served.
  const began = performance.now();
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  const data = Buffer.from(`Subject: ${port}\r\n\r\nx\r\n`);
  expect((await connection.send('a@example.org', [cluster.account.address], data)).code).toBe(250);
  await connection.quit();
  expect((await storedMessages(cluster)).some(({ subject }) => subject === port)).toBe(true);
  expect(performance.now() - began).toBeLessThan(5000);

  for (const socket of sockets) socket.destroy();
  await waitFor(
    'the descriptors to be given back',
    async () => (await openDescriptors(gateway)) <= descriptorsBefore + 5,
  );
});
