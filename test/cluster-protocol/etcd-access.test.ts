/** etcd behind TLS with client certificates, and with authentication on, as the settings name them. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { defaultsOf } from '../../base/settings.ts';
import { openAuthority } from '../../certs/authority.ts';
import { certFilesOf } from '../../certs/files.ts';
import { makeLeaf } from '../../certs/leaf.ts';
import { type MachineSettings, machineSettings } from '../../cluster-protocol/machine-settings.ts';
import { connectRegistry } from '../../cluster-protocol/registry/connect-registry.ts';
import type { Registry } from '../../cluster-protocol/registry.ts';
import { run } from '../clients/mail-readers.ts';
import { requireDebianPackages } from '../support/debian.ts';
import {
  freePorts,
  programPath,
  type RunningProgram,
  startProgram,
  temporaryDir,
  waitFor,
} from '../support/process.ts';

let dir: { path: string; remove(): Promise<void> };
let etcd: RunningProgram;
let endpoint: string;
const opened: Registry[] = [];

beforeAll(async () => {
  await requireDebianPackages(['etcd-server', 'etcd-client']);
  dir = await temporaryDir('etcd-tls');
  const files = certFilesOf(dir.path);
  await mkdir(dir.path, { recursive: true });
  const authority = await openAuthority(files, 'etcd', Date.now());
  const pair = (name: string) => ({
    certificate: path.join(dir.path, `${name}.pem`),
    key: path.join(dir.path, `${name}.key`),
  });
  for (const name of ['server', 'root', 'client'])
    await makeLeaf(
      { ...pair(name), use: 'member', names: [name, '127.0.0.1'] },
      authority,
      'etcd',
      Date.now(),
    );
  await writeFile(path.join(dir.path, 'password'), 'right horse\n');
  await writeFile(path.join(dir.path, 'wrong'), 'wrong horse\n');
  const [client, peer] = await freePorts(2);
  endpoint = `https://127.0.0.1:${client}`;
  const at = `http://127.0.0.1:${peer}`;
  etcd = startProgram(programPath('etcd'), [
    ...['--name', 'e', '--data-dir', path.join(dir.path, 'data'), '--log-level', 'warn', '--unsafe-no-fsync'],
    ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
    ...['--listen-peer-urls', at, '--initial-advertise-peer-urls', at, '--initial-cluster', `e=${at}`],
    ...['--cert-file', pair('server').certificate, '--key-file', pair('server').key],
    ...['--client-cert-auth', '--trusted-ca-file', files.authority],
  ]);
  const ctl = (...words: string[]) =>
    run(
      programPath('etcdctl'),
      [
        ...['--endpoints', endpoint, '--cacert', files.authority],
        ...['--cert', pair('root').certificate, '--key', pair('root').key, ...words],
      ],
      { env: { ETCDCTL_API: '3' } },
    );
  await waitFor('etcd', async () => (await ctl('endpoint', 'health')) !== undefined);
  await ctl('user', 'add', 'root:top');
  await ctl('user', 'grant-role', 'root', 'root');
  await ctl('user', 'add', 'postern:right horse');
  await ctl('role', 'add', 'postern');
  await ctl('role', 'grant-permission', 'postern', '--prefix=true', 'readwrite', 'postern/');
  await ctl('user', 'grant-role', 'postern', 'postern');
  await ctl('auth', 'enable');
}, 120_000);

afterAll(async () => {
  for (const registry of opened) await registry.close();
  await etcd?.stop();
  await dir?.remove();
});

async function access(changes: Partial<MachineSettings>): Promise<Registry> {
  const settings: MachineSettings = {
    ...defaultsOf(machineSettings),
    'cluster.registry': 'etcd',
    'cluster.etcd_endpoints': [endpoint],
    'cluster.etcd_ca': 'ca.pem',
    'cluster.etcd_certificate': 'client.pem',
    'cluster.etcd_key': 'client.key',
    'cluster.etcd_user': 'postern',
    'cluster.etcd_password_file': 'password',
    ...changes,
  };
  const registry = await connectRegistry({ settings, configDir: dir.path, socket: '' });
  opened.push(registry);
  return registry;
}

test('with certificate, user and password the registry works, leases and watches too', async () => {
  const registry = await access({});
  // The first call logs in, which takes etcd a slow hash.
  await waitFor('an answer', () => registry.get('k').then(() => true));
  const lease = await registry.grantLease(60_000);
  const seen: string[] = [];
  const end = new AbortController();
  registry.watch('k', 0, { event: ({ value }) => seen.push(value), resynchronise() {} }, end.signal);
  expect(await registry.transact([], [{ put: 'k', value: 'v', lease }])).toMatchObject({ done: true });
  await registry.renewLease(lease);
  expect(await registry.get('k')).toMatchObject({ value: 'v', lease });
  await waitFor('the event', () => seen.includes('v'));
  end.abort();
});

test.each([
  ['a wrong password', { 'cluster.etcd_password_file': 'wrong' }],
  ['no client certificate', { 'cluster.etcd_certificate': '', 'cluster.etcd_key': '' }],
  ['keys outside what the user may touch', { 'cluster.etcd_prefix': 'other/' }],
])('with %s it does not', async (_what, changes) => {
  const registry = await access(changes);
  await expect(registry.get('k')).rejects.toMatchObject({ code: 'registry-failed' });
});

test('a file that is not there is named with its setting', async () => {
  await expect(access({ 'cluster.etcd_ca': 'nowhere.pem' })).rejects.toMatchObject({
    code: 'bad-config',
    message: expect.stringMatching(/^cluster\.etcd_ca: .*nowhere\.pem cannot be read/),
  });
});
