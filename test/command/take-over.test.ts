/** A gateway is replaced, or killed, and no client that connects meanwhile is refused. */
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, startCluster } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({ config: 'gateway.drain = "10s"\n' });
}, 60_000);
afterAll(() => cluster?.stop(), 30_000);

interface Tally {
  greeted: number;
  refused: number;
  cut: number;
}

/** Connects again and again, one client after the other, until told to stop. */
function knocking(): { tally: Tally; stop(): Promise<Tally> } {
  const tally: Tally = { greeted: 0, refused: 0, cut: 0 };
  let over = false;
  const knock = async (): Promise<void> => {
    const socket = connectTo(cluster, 'imap');
    const connected = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]);
    if (!connected) {
      tally.refused++;
      return;
    }
    const greeted = await Promise.race([
      once(socket, 'data').then(() => true),
      once(socket, 'close').then(() => false),
    ]);
    if (greeted) tally.greeted++;
    else tally.cut++;
    socket.destroy();
  };
  const run = async (): Promise<void> => {
    while (!over) await knock();
  };
  const running = Promise.all([run(), run(), run()]);
  return {
    tally,
    async stop() {
      over = true;
      await running;
      return tally;
    },
  };
}

describe('a gateway', () => {
  test('that is restarted refuses and cuts nobody, and lets who is in finish', async () => {
    const before = (await cluster.memberPids())['gateway-1'];
    const inside = connectTo(cluster, 'imap');
    const said: string[] = [];
    inside.on('data', (chunk: Buffer) => said.push(chunk.toString('latin1')));
    await waitFor('the greeting', () => /^\* OK/.test(said.join('')));

    const knocks = knocking();
    await waitFor('some knocks', () => knocks.tally.greeted > 20);
    const restarted = cluster.command(['member', 'restart', 'gateway-1']);
    await waitFor('the next process', async () => {
      const now = (await cluster.memberPids())['gateway-1'];
      return now !== undefined && now !== before;
    });
    // The session that began with the old process is answered by it still.
    inside.write('a CAPABILITY\r\nb LOGOUT\r\n');
    await waitFor('the end', () => /^b OK/m.test(said.join('')));
    await restarted;
    const greetedThen = knocks.tally.greeted;
    await waitFor('knocks at the new one', () => knocks.tally.greeted > greetedThen + 20);
    expect(await knocks.stop()).toMatchObject({ refused: 0, cut: 0 });
    expect((await cluster.memberPids())['gateway-1']).not.toBe(before);
    const health = await fetch(`http://127.0.0.1:${cluster.ports.health}/healthz`);
    expect(health.status).toBe(200);
  }, 60_000);

  test('that is killed refuses nobody: they wait for the next process', async () => {
    const before = (await cluster.memberPids())['gateway-1'];
    const knocks = knocking();
    await waitFor('some knocks', () => knocks.tally.greeted > 20);
    await cluster.kill('gateway-1');
    await waitFor('the next process', async () => {
      const now = (await cluster.memberPids())['gateway-1'];
      return now !== undefined && now !== before;
    });
    const greetedThen = knocks.tally.greeted;
    await waitFor('knocks at the new one', () => knocks.tally.greeted > greetedThen + 20);
    const tally = await knocks.stop();
    expect(tally.refused).toBe(0);
    // Only those the killed process itself had taken.
    expect(tally.cut).toBeLessThanOrEqual(3);
  }, 60_000);

  test('whose next process cannot start goes on as it was', async () => {
    const before = (await cluster.memberPids())['gateway-1'];
    const good = await readFile(cluster.config, 'utf8');
    await writeFile(cluster.config, `${good}\nnet.login_timeout = "soon"\n`);
    try {
      await expect(cluster.command(['member', 'restart', 'gateway-1'])).rejects.toThrow(
        /goes on as it was|login_timeout/,
      );
    } finally {
      await writeFile(cluster.config, good);
    }
    const knocks = knocking();
    await waitFor('knocks', () => knocks.tally.greeted > 20);
    expect(await knocks.stop()).toMatchObject({ refused: 0, cut: 0 });
    expect(Object.values(await cluster.memberPids())).toContain(before);
  }, 60_000);
});
