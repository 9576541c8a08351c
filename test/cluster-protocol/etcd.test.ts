/** The etcd driver against a real etcd of three members: the same promises as the embedded registry, and what only several machines can break. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { connectEtcd } from '../../cluster-protocol/registry/etcd.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import type { Registry } from '../../cluster-protocol/registry.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { waitFor } from '../support/process.ts';
import { watching } from './watching.ts';

let etcd: Etcd;
let one: Registry;
let two: Registry;
let prefixes = 0;

beforeAll(async () => {
  await requireDebianPackages(['etcd-server', 'etcd-client']);
  etcd = await startEtcd(3);
}, 180_000);

afterAll(async () => {
  await one?.close();
  await two?.close();
  await etcd?.stop();
});

beforeEach(async () => {
  await one?.close();
  await two?.close();
  const prefix = `test${prefixes++}/`;
  one = connectEtcd({ hosts: etcd.hosts, prefix });
  two = connectEtcd({ hosts: etcd.hosts, prefix });
});

describe('keys and transactions', () => {
  test('what one client writes the other reads', async () => {
    const { revision } = await one.transact([], [{ put: 'a', value: 'ä' }]);
    expect(await two.get('a')).toEqual({ key: 'a', value: 'ä', revision, lease: undefined });
    expect(await two.get('b')).toBeUndefined();
  });

  test('of many that create the same key exactly one succeeds', async () => {
    const tries = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        (index % 2 ? one : two).transact([{ key: 'k', is: 'absent' }], [{ put: 'k', value: `${index}` }]),
      ),
    );
    expect(tries.filter((result) => result.done)).toHaveLength(1);
  });

  test('a transaction whose condition fails changes nothing', async () => {
    const { revision } = await one.transact([], [{ put: 'a', value: '1' }]);
    await two.transact([], [{ put: 'a', value: '2' }]);
    const late = await one.transact(
      [{ key: 'a', is: 'at', revision }],
      [
        { put: 'a', value: '3' },
        { put: 'b', value: '' },
      ],
    );
    expect(late.done).toBe(false);
    expect((await one.get('a'))?.value).toBe('2');
    expect(await one.get('b')).toBeUndefined();
  });

  test('a list is sorted and holds the prefix only', async () => {
    await one.transact(
      [],
      ['p/2', 'p/1', 'o', 'q', 'p/10'].map((put) => ({ put, value: '' })),
    );
    const { entries } = await two.list('p/');
    expect(entries.map((entry) => entry.key)).toEqual(['p/1', 'p/10', 'p/2']);
    expect((await two.list('')).entries).toHaveLength(5);
  });
});

describe('watches', () => {
  test('deliver every change under the prefix in order, from the revision they were asked for', async () => {
    const { revision } = await one.transact([], [{ put: 'w/x', value: 'before' }]);
    await one.transact([], [{ put: 'w/x', value: '0' }]);
    const seen = watching(two, 'w/', revision);
    for (let index = 1; index < 30; index++)
      await one.transact(
        [],
        [
          { put: 'w/x', value: String(index) },
          { put: 'other', value: '' },
        ],
      );
    await one.transact([], [{ remove: 'w/x' }]);
    await waitFor('the removal', () => seen.events.at(-1)?.kind === 'remove');
    expect(seen.events.slice(0, -1).map((event) => event.value)).toEqual(
      Array.from({ length: 30 }, (_, index) => String(index)),
    );
    expect(seen.resynchronised).toBe(0);
    seen.end();
  });

  test('whose history was compacted away say so, and following lists again', async () => {
    const { revision } = await one.transact([], [{ put: 'w', value: '1' }]);
    for (let index = 0; index < 5; index++) await one.transact([], [{ put: 'w', value: `${index}` }]);
    const now = (await one.list('')).revision;
    await etcd.ctl(['compact', String(now)]);
    const old = watching(two, 'w', revision);
    await waitFor('resynchronise', () => old.resynchronised === 1);
    expect(old.events).toEqual([]);
    let picture = '';
    const end = new AbortController();
    follow(
      two,
      ['w'],
      {
        reset: (entries) => {
          picture = entries[0]?.value ?? '';
        },
        event: (event) => {
          picture = event.value;
        },
      },
      end.signal,
    );
    await waitFor('the picture', () => picture === '4');
    await one.transact([], [{ put: 'w', value: 'new' }]);
    await waitFor('the change', () => picture === 'new');
    end.abort();
  });
});

describe('leases', () => {
  test('a lease that is renewed keeps its keys; one that is not takes them with it', async () => {
    const kept = await one.grantLease(2000);
    const dropped = await one.grantLease(2000);
    await one.transact(
      [],
      [
        { put: 'kept', value: '', lease: kept },
        { put: 'dropped', value: '', lease: dropped },
      ],
    );
    for (let turn = 0; turn < 60 && (await two.get('dropped')) !== undefined; turn++) {
      await one.renewLease(kept);
      await sleep(200);
    }
    expect(await two.get('dropped')).toBeUndefined();
    expect(await two.get('kept')).toMatchObject({ lease: kept });
    await expect(one.renewLease(dropped)).rejects.toMatchObject({ code: 'lease-lost' });
    await expect(one.transact([], [{ put: 'late', value: '', lease: dropped }])).rejects.toMatchObject({
      code: 'lease-lost',
    });
  });

  test('a lease another client revokes is lost, and revoking it again does no harm', async () => {
    const lease = await one.grantLease(5000);
    await one.transact([], [{ put: 'k', value: '', lease }]);
    await two.revokeLease(lease);
    expect(await one.get('k')).toBeUndefined();
    await expect(one.renewLease(lease)).rejects.toMatchObject({ code: 'lease-lost' });
    await two.revokeLease(lease);
  });
});

describe('the loss of members', () => {
  test('a member that stands still costs a pause, and the quorum gone costs answers, not truth', async () => {
    const lease = await one.grantLease(10_000);
    let picture = '';
    const end = new AbortController();
    follow(
      two,
      ['k'],
      {
        reset: (entries) => {
          picture = entries[0]?.value ?? '';
        },
        event: (event) => {
          picture = event.value;
        },
      },
      end.signal,
    );
    await one.transact([], [{ put: 'k', value: '1', lease }]);
    await waitFor('the first value', () => picture === '1');

    etcd.members[0]!.program.child.kill('SIGSTOP');
    try {
      await waitFor('a write', () => one.transact([], [{ put: 'k', value: '2' }]), 20_000);
      await waitFor('the follower', () => picture === '2', 30_000);

      etcd.members[1]!.program.child.kill('SIGSTOP');
      // Linearizable: without a quorum there is no answer, rather than an old one.
      await expect(one.get('k')).rejects.toMatchObject({ code: 'registry-failed' });
      await expect(one.renewLease(lease)).rejects.toMatchObject({ code: 'registry-failed' });
    } finally {
      for (const index of [0, 1]) etcd.members[index]!.program.child.kill('SIGCONT');
    }
    await waitFor('answers again', async () => (await one.get('k'))?.value === '2', 20_000);
    await waitFor('a renewal', () => one.renewLease(lease).then(() => true), 20_000);
    await one.transact([], [{ put: 'k', value: '3' }]);
    await waitFor('the follower again', () => picture === '3', 20_000);
    end.abort();
  }, 120_000);
});
