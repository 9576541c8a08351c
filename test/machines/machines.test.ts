/** Two machines on three etcd members: one cluster, whichever machine is asked. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { canLogIn } from '../support/cluster.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { type MachineCluster, startMachines } from '../support/machines.ts';
import { waitFor } from '../support/process.ts';

let etcd: Etcd;
let cluster: MachineCluster;

beforeAll(async () => {
  await requireDebianPackages(['etcd-server', 'etcd-client']);
  etcd = await startEtcd(3);
  cluster = await startMachines({
    endpoints: etcd.hosts,
    machines: [
      { name: 'm1', host: '127.0.0.2' },
      { name: 'm2', host: '127.0.0.3' },
    ],
  });
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
  await etcd?.stop();
}, 60_000);

interface Status {
  readonly freeShards: number;
  readonly members: { readonly id: string; readonly registered: boolean; readonly shards?: number }[];
}
const status = async (name: string): Promise<Status> =>
  JSON.parse(await cluster.machine(name).command(['cluster', 'status', '--json'])) as Status;

describe('two machines', () => {
  test('share the shards, and each knows the members of both', async () => {
    for (const name of ['m1', 'm2']) {
      const found = await waitFor('an even share', async () => {
        const now = await status(name);
        const shares = now.members.filter(({ shards }) => shards === 2048);
        return now.freeShards === 0 && shares.length === 2 ? now : undefined;
      });
      expect(found.members.map(({ id, registered }) => [id, registered]).sort()).toEqual([
        ['m1-backend-1', true],
        ['m1-gateway-1', true],
        ['m2-backend-1', true],
        ['m2-gateway-1', true],
      ]);
    }
  });

  test('accounts made at one machine are served at both, wherever their owner is', async () => {
    const accounts = [];
    for (let number = 0; number < 6; number++)
      accounts.push(await cluster.addAccount(`user${number}@postern.test`));
    for (const machine of cluster.machines)
      for (const account of accounts) await cluster.answering(machine, account);
    const listed = await cluster.machine('m2').command(['account', 'list', 'postern.test']);
    expect(listed.split('\n').filter(Boolean)).toHaveLength(7);
  });

  test('a machine that vanishes is taken over, and shares again when it is back', async () => {
    const [one, two] = cluster.machines as [(typeof cluster.machines)[0], (typeof cluster.machines)[0]];
    await two.killEverything();
    for (let number = 0; number < 6; number++)
      await waitFor('a login', () =>
        canLogIn(
          one.ports.imaps,
          { address: `user${number}@postern.test`, password: 'right horse battery' },
          one.host,
        ),
      );
    await two.start();
    await waitFor('an even share', async () =>
      (await status('m2')).members.every(({ shards }) => shards === undefined || shards === 2048),
    );
  }, 60_000);

  test('do what an admin wants, asked at either', async () => {
    const [one, two] = cluster.machines as [(typeof cluster.machines)[0], (typeof cluster.machines)[0]];
    await one.command(['cluster', 'drain', 'm2-backend-1', '--wait']);
    const drained = (await status('m2')).members.find(({ id }) => id === 'm2-backend-1');
    expect(drained).toMatchObject({ registered: true, shards: 0 });
    expect(await two.command(['cluster', 'safe-to-stop', 'm2-backend-1'])).toMatch(/^safe: /);
    await two.command(['cluster', 'undrain', 'm2-backend-1']);
    await two.command(['cluster', 'pin', cluster.account.address, 'm2-backend-1']);
    await waitFor('the account to move', async () =>
      /^owner +m2-backend-1$/m.test(await one.command(['cluster', 'why', cluster.account.address])),
    );
    for (const machine of cluster.machines) await cluster.answering(machine);
    await one.command(['settings', 'set', 'account.sessions_max', '77']);
    await waitFor('the setting at both', async () => {
      const lines = [...(await one.logs()), ...(await two.logs())];
      const members = lines.filter(({ msg }) => msg === 'settings changed').map(({ member }) => member);
      return members.includes('m1-backend-1') && members.includes('m2-backend-1');
    });
    expect(await two.command(['settings', 'show'])).toMatch(/^account\.sessions_max = 77 /m);
    expect(await two.command(['ban', 'add', '127.0.0.9'])).toMatch(/^127\.0\.0\.9\/32 is banned/);
    expect(await one.command(['cluster', 'history'])).toMatch(
      /drain m2-backend-1[\s\S]*ban 127\.0\.0\.9\/32/,
    );
  }, 60_000);

  test('give what they have to the others before they stop', async () => {
    const [one, two] = cluster.machines as [(typeof cluster.machines)[0], (typeof cluster.machines)[0]];
    await two.stop();
    const given = (await two.logs()).filter(({ msg }) => msg === 'shards given away before the end');
    expect(given).toMatchObject([{ left: 0 }]);
    expect((await status('m1')).freeShards).toBe(0);
    await cluster.answering(one);
  }, 60_000);
});
