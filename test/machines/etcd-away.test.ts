/** etcd stands still, or is gone, under a running cluster (CASES 107): nothing is granted, and all is back when it is. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { canLogIn } from '../support/cluster.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { type Machine, type MachineCluster, startMachines } from '../support/machines.ts';
import { waitFor } from '../support/process.ts';

let etcd: Etcd;
let cluster: MachineCluster;

beforeAll(async () => {
  await requireDebianPackages(['etcd-server', 'etcd-client']);
  etcd = await startEtcd(3);
  cluster = await startMachines({
    endpoints: etcd.hosts,
    // Long enough to log in within a lease on a busy machine.
    config: 'cluster.lease = "12s"\ncluster.lease_margin = "1s"\n',
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

function signalEtcd(signal: NodeJS.Signals, members: readonly number[] = [0, 1, 2]): void {
  for (const index of members) etcd.members[index]!.program.child.kill(signal);
}

/** The machine before, or a try whose answer was lost, has added it. */
const alreadyThere = (error: Error): string => {
  if (/is a domain of this cluster already/.test(error.message)) return 'there';
  throw error;
};

const lostLeases = async (machine: Machine): Promise<number> =>
  (await machine.logs()).filter(({ msg }) => msg === 'lease lost: this backend stops').length;

describe('when etcd', () => {
  test('loses one member of three, its leader too, everything goes on', async () => {
    for (const index of [0, 1, 2]) {
      signalEtcd('SIGSTOP', [index]);
      try {
        // A write needs a leader: where this one was it, another has to be found first.
        const words = ['domain', 'add', `without-${index}.example`];
        for (const machine of cluster.machines) {
          await waitFor('a write', () => machine.command(words).catch(alreadyThere), 30_000);
          await cluster.answering(machine);
        }
      } finally {
        signalEtcd('SIGCONT', [index]);
      }
    }
    // Whatever it took to find another member, it took less than a lease.
    for (const machine of cluster.machines) expect(await lostLeases(machine)).toBe(0);
  }, 120_000);

  test('stands still, serving goes on while the leases last, then stops, and is back soon after', async () => {
    signalEtcd('SIGSTOP');
    try {
      for (const machine of cluster.machines) await cluster.answering(machine, cluster.account, 8000);
      for (const machine of cluster.machines)
        await waitFor(`${machine.name} to stop`, async () => (await lostLeases(machine)) > 0, 60_000);
      expect(await canLogIn(cluster.machines[0]!.ports.imaps, cluster.account, '127.0.0.2')).toBe(false);
      // The next processes wait; they do not come and go.
      const pids = await Promise.all(cluster.machines.map((machine) => machine.memberPids()));
      await waitFor('the backends to say that they wait', async () => {
        for (const machine of cluster.machines) {
          const lines = await machine.logs();
          const waits = lines.some(
            ({ msg, member }) => msg === 'waiting for the registry' && String(member).includes('backend'),
          );
          if (!waits) return false;
        }
        return true;
      });
      expect(await Promise.all(cluster.machines.map((machine) => machine.memberPids()))).toEqual(pids);
    } finally {
      signalEtcd('SIGCONT');
    }
    for (const machine of cluster.machines) await cluster.answering(machine, cluster.account, 30_000);
  }, 180_000);

  test('is away when a machine starts, the machine says so and waits', async () => {
    const two = cluster.machine('m2');
    await two.stop();
    signalEtcd('SIGSTOP');
    let starting: Promise<void>;
    try {
      starting = two.start(120_000);
      starting.catch(() => {});
      await waitFor('it to say so', () => /waiting for etcd at http/.test(two.output()), 30_000);
    } finally {
      signalEtcd('SIGCONT');
    }
    await starting;
    await cluster.answering(two, cluster.account, 30_000);
  }, 180_000);
});
