/** A link to a backend that stands still, and is taken out of the registry while it does. */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { protocolVersion } from '../../../cluster-protocol/link.ts';
import { BackendLink } from '../../../gateway/routing/backend-link.ts';
import { waitFor } from '../../support/process.ts';

test('is given up without a word more, though the other end holds on to its socket', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'link-'));
  const socketPath = path.join(directory, 'backend.sock');
  const held: net.Socket[] = [];
  // Takes connections and says nothing, ever: it does not even close them.
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    held.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const thrown: unknown[] = [];
  const note = (error: unknown): void => void thrown.push(error);
  process.on('uncaughtException', note);
  const link = new BackendLink(
    {
      id: 'backend-1',
      role: 'backend',
      address: socketPath,
      versions: [protocolVersion, protocolVersion],
      incarnation: 'one',
      pid: process.pid,
      release: 'test',
    },
    { log: silentLog, linkIdentity: undefined, changed: () => {}, socketBudget: { left: 0 } },
  );
  try {
    await waitFor('the link', () => link.upCount > 0);
    link.retire();
    // It pings every 2.5 s.
    await sleep(3500);
    expect(thrown).toEqual([]);
    expect(link.upCount).toBe(0);
  } finally {
    process.off('uncaughtException', note);
    link.destroy();
    for (const socket of held) socket.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  }
});
