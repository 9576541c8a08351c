/** Who may be in the cluster, and what becomes of links when that changes (CASES 110). */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../base/layout.ts';
import { openAuthority } from '../../certs/authority.ts';
import { certFilesOf } from '../../certs/files.ts';
import { ensureLeaf, machineHost, machineLeaf } from '../../certs/leaf.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { type Machine, type MachineCluster, startMachines } from '../support/machines.ts';
import { waitFor } from '../support/process.ts';

let etcd: Etcd;
let cluster: MachineCluster;
let m1: Machine;
let m2: Machine;

beforeAll(async () => {
  await requireDebianPackages(['etcd-server', 'etcd-client']);
  etcd = await startEtcd();
  cluster = await startMachines({
    endpoints: etcd.hosts,
    machines: [
      { name: 'm1', host: '127.0.0.2', gateways: 0 },
      // Gateways only: everything it serves goes over links between machines.
      { name: 'm2', host: '127.0.0.3', backends: 0, gateways: 1 },
    ],
  });
  m1 = cluster.machine('m1');
  m2 = cluster.machine('m2');
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
  await etcd?.stop();
}, 60_000);

const token = async (): Promise<string> =>
  (JSON.parse(await m1.command(['cluster', 'token', '--json'])) as { token: string }).token;

/** Opens a TLS connection to m1's backend; resolves to why it was closed, or `open` when it says something. */
async function knock(pair: { cert?: Buffer; key?: Buffer } = {}): Promise<string> {
  const ca = await readFile(certFilesOf(layoutOf(m1.data).certs).authority);
  const { cluster: id } = JSON.parse(await readFile(layoutOf(m1.data).machineFile, 'utf8')) as {
    cluster: string;
  };
  return new Promise((resolve) => {
    const socket = tls.connect({
      host: m1.host,
      port: m1.ports.link,
      servername: machineHost('m1', id),
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      ca,
      ...pair,
    });
    // An HTTP/2 server speaks first: its SETTINGS.
    socket.on('data', () => {
      resolve('open');
      socket.destroy();
    });
    socket.on('error', (error) => resolve(error.message));
    socket.on('close', () => resolve('closed'));
  });
}

const pairOf = async (certificate: string, key: string): Promise<{ cert: Buffer; key: Buffer }> => ({
  cert: await readFile(certificate),
  key: await readFile(key),
});

describe('a backend', () => {
  test('takes links of machines that are in', async () => {
    const files = certFilesOf(layoutOf(m2.data).certs);
    expect(await knock(await pairOf(files.machine, files.machineKey))).toBe('open');
    await cluster.answering(m2);
  });

  test('refuses whoever shows no certificate, one of the public listeners, or one of another CA', async () => {
    expect(await knock()).not.toBe('open');
    const files = certFilesOf(layoutOf(m2.data).certs);
    expect(await knock(await pairOf(files.edge, files.edgeKey))).not.toBe('open');

    const { cluster: id, id: machineId } = JSON.parse(
      await readFile(layoutOf(m2.data).machineFile, 'utf8'),
    ) as { cluster: string; id: string };
    const theirs = certFilesOf(path.join(cluster.dir, 'theirs'));
    const authority = await openAuthority(theirs, id, Date.now());
    const leaf = machineLeaf(theirs, id, 'm2', machineId, 3_600_000);
    await ensureLeaf(leaf, authority, id, Date.now());
    expect(await knock(await pairOf(theirs.machine, theirs.machineKey))).not.toBe('open');
  });

  test('refuses a certificate of its CA for a machine that never joined', async () => {
    const files = certFilesOf(layoutOf(m1.data).certs);
    const { cluster: id } = JSON.parse(await readFile(layoutOf(m1.data).machineFile, 'utf8')) as {
      cluster: string;
    };
    const authority = await openAuthority(files, id, Date.now());
    const other = certFilesOf(path.join(cluster.dir, 'other'));
    await openAuthority(other, id, Date.now());
    const leaf = machineLeaf(other, id, 'm7', '0'.repeat(32), 3_600_000);
    await ensureLeaf(leaf, authority, id, Date.now());
    expect(await knock(await pairOf(other.machine, other.machineKey))).not.toBe('open');
  });
});

describe('a machine', () => {
  test('that renews its certificate goes on without a restart', async () => {
    const files = certFilesOf(layoutOf(m2.data).certs);
    const before = await readFile(files.machine, 'utf8');
    const pids = await m2.memberPids();
    await m2.command(['cert', 'renew', 'machine']);
    expect(await readFile(files.machine, 'utf8')).not.toBe(before);
    await waitFor('the gateway to read it', async () =>
      (await m2.logs()).some(
        ({ msg, member }) => msg === 'new machine certificate' && member === 'm2-gateway-1',
      ),
    );
    await m1.command(['cert', 'renew', 'machine']);
    await waitFor('the backend to read it', async () =>
      (await m1.logs()).some(
        ({ msg, member }) => msg === 'new machine certificate' && member === 'm1-backend-1',
      ),
    );
    // New links, with the new pairs on both sides: the backend starts anew, the gateway does not.
    const killed = (await m1.memberPids())['m1-backend-1'];
    await m1.kill('m1-backend-1');
    await waitFor('the next backend', async () => {
      const now = (await m1.memberPids())['m1-backend-1'];
      return now !== undefined && now !== killed;
    });
    await cluster.answering(m2);
    expect(await m2.memberPids()).toEqual(pids);
  }, 60_000);

  test('cannot be made twice, nor join twice, nor without a good token', async () => {
    await expect(m1.command(['cluster', 'init'])).rejects.toThrow(/runs here already/);
    await expect(m2.command(['cluster', 'join', 'postern-join-1.xyz'])).rejects.toThrow(/runs here already/);
    await m2.stop();
    await expect(m2.command(['cluster', 'join', 'postern-join-1.xyz'])).rejects.toThrow(/no join token/);
    await expect(m2.command(['cluster', 'join', await token()])).rejects.toThrow(/machine m2 .* already/);
    await m2.start();
  }, 60_000);

  test('that is cut off while it runs is refused at once, stops, and may join again', async () => {
    await cluster.answering(m2);
    await expect(m1.command(['cluster', 'leave', 'm2'])).rejects.toThrow(/still runs m2-gateway-1/);
    const files = certFilesOf(layoutOf(m2.data).certs);
    const pair = await pairOf(files.machine, files.machineKey);
    await m1.command(['cluster', 'leave', 'm2', '--force']);
    await waitFor('refusal', async () => (await knock(pair)) !== 'open', 5000);
    const code = await m2.ended();
    expect([code, m2.output()]).toEqual([78, expect.stringMatching(/machine m2 is not in cluster/)]);
    await expect(m2.start()).rejects.toThrow(/machine m2 is not in cluster/);
    await m2.command(['cluster', 'join', '-'], await token());
    await m2.start();
    await cluster.answering(m2);
    // The old certificate is of another time the machine was in.
    expect(await knock(pair)).not.toBe('open');
  }, 60_000);

  test('leaves by itself when it is stopped, unless it alone has the key of the CA', async () => {
    await m2.stop();
    await m2.command(['cluster', 'leave']);
    const { machines } = JSON.parse(await m1.command(['cluster', 'machines', '--json'])) as {
      machines: { name: string }[];
    };
    expect(machines.map(({ name }) => name)).toEqual(['m1']);
    await m1.stop();
    await expect(m1.command(['cluster', 'leave'])).rejects.toThrow(/alone has the key of the CA/);
  }, 60_000);

  test('does not start on storage that is not there', async () => {
    const text = await readFile(m1.config, 'utf8');
    const elsewhere = path.join(cluster.dir, 'not-mounted');
    await writeFile(m1.config, text.replace(/^storage\.root = .*$/m, `storage.root = "${elsewhere}"`));
    await expect(m1.start()).rejects.toThrow(/not the storage of cluster/);
    await writeFile(m1.config, text);
    await m1.start();
  }, 60_000);
});
