/** Links to backends that are taken out of the registry at awkward moments. */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { protocolVersion } from '../../../cluster-protocol/link.ts';
import { BackendLink } from '../../../gateway/routing/backend-link.ts';
import { waitFor } from '../../support/process.ts';

let directory: string;
let server: net.Server;
let held: net.Socket[];
let thrown: unknown[];
let link: BackendLink;
const note = (error: unknown): void => void thrown.push(error);

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'link-'));
  held = [];
  thrown = [];
  // Takes connections and says nothing, ever: it does not even close them.
  server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    held.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(path.join(directory, 'backend.sock'), resolve));
  process.on('uncaughtException', note);
});

afterEach(async () => {
  process.off('uncaughtException', note);
  link.destroy();
  for (const socket of held) socket.destroy();
  server.close();
  await rm(directory, { recursive: true, force: true });
});

function open(): BackendLink {
  link = new BackendLink(
    {
      id: 'backend-1',
      role: 'backend',
      address: path.join(directory, 'backend.sock'),
      versions: [protocolVersion, protocolVersion],
      incarnation: 'one',
      pid: process.pid,
      release: 'test',
    },
    { log: silentLog, linkIdentity: undefined, changed: () => {}, socketBudget: { left: 0 } },
  );
  return link;
}

test('one that stands still is given up without a word more, though it holds on to its socket', async () => {
  open();
  await waitFor('the link', () => link.upCount > 0);
  link.retire();
  // It pings every 2.5 s.
  await sleep(3500);
  expect(thrown).toEqual([]);
  expect(link.upCount).toBe(0);
});

test('one that is taken out while it connects never comes up', async () => {
  for (const moments of [0, 1, 2, 3, 4, 5, 6, 8]) {
    open();
    for (let moment = 0; moment < moments; moment++) await new Promise((resolve) => setImmediate(resolve));
    if (moments % 2 === 0) link.retire();
    else link.destroy();
    await sleep(50);
    expect(thrown).toEqual([]);
    expect(link.upCount).toBe(0);
  }
});
