/**
 * `postern cluster init | token | join | leave | machines`: how machines come
 * into a cluster and go. They work on the registry and this machine's data
 * directory themselves, so that none of them needs a running Postern here.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, unlink } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { writeDurably } from '../base/durable-file.ts';
import { errnoOf, Fault } from '../base/fault.ts';
import { parseDuration } from '../base/units.ts';
import { type Authority, openAuthority, readIfThere } from '../certs/authority.ts';
import { certFilesOf } from '../certs/files.ts';
import { edgeLeaf, machineLeaf, makeLeaf } from '../certs/leaf.ts';
import { newToken, readToken } from '../certs/request.ts';
import type { MemberRecord } from '../cluster-protocol/link.ts';
import { readMachineFile } from '../cluster-protocol/machine-context.ts';
import { type MachineIdentity, type MachineRecord, readMachineRecord } from '../cluster-protocol/machines.ts';
import { connectRegistry } from '../cluster-protocol/registry/connect-registry.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { shardCountInEtcdMax } from '../cluster-protocol/shard-map.ts';
import { askForCertificates } from './certificate-request.ts';
import {
  type ClusterRecord,
  checkRoot,
  clusterFileOf,
  openCluster,
  readRecord,
  writing,
} from './cluster-record.ts';
import { type CommandCall, exitCode } from './command.ts';
import { type Configuration, loadConfiguration } from './configuration.ts';
import { DataLock } from './data-lock.ts';
import { copyEmbeddedRegistry } from './embedded-copy.ts';
import { addDomain } from './first-account.ts';

const tokenLifeDefault = '1h';
const tokenLifeMsMax = 7 * 86_400_000;

interface Place {
  readonly configuration: Configuration;
  readonly registry: Registry;
  readonly name: string;
}

async function atRegistry<T>(call: CommandCall, work: (place: Place) => Promise<T>): Promise<T> {
  const configuration = loadConfiguration(call.where);
  const { machine, layout, configDir, file } = configuration;
  if (machine['cluster.registry'] !== 'etcd')
    throw new Fault(
      'bad-config',
      `${file.place('cluster.registry')}: a cluster of several machines needs etcd; set cluster.registry = "etcd" and cluster.etcd_endpoints`,
    );
  const registry = await connectRegistry({ settings: machine, socket: layout.registrySocket, configDir });
  try {
    return await work({ configuration, registry, name: machine['cluster.machine'] });
  } finally {
    await registry.close();
  }
}

/** Nothing may run in the data directory meanwhile. */
async function stopped<T>({ configuration }: Place, work: () => Promise<T>): Promise<T> {
  const { layout } = configuration;
  await writing(layout.data, () => mkdir(layout.certs, { recursive: true, mode: 0o700 }));
  const lock = new DataLock(layout.lockFile);
  try {
    return await writing(layout.data, work);
  } finally {
    lock.release();
  }
}

export function init(call: CommandCall): Promise<number> {
  return atRegistry(call, (place) =>
    stopped(place, async () => {
      const { configuration, registry, name } = place;
      const { layout, backend, cluster: settings, storageRoot, file } = configuration;
      if (backend['backend.count'] === 0)
        throw new Fault(
          'bad-config',
          `${file.place('backend.count')}: the cluster is made where the storage is; run this on a machine with backends`,
        );
      if (settings['cluster.shards'] > shardCountInEtcdMax)
        throw new Fault(
          'bad-config',
          `${file.place('cluster.shards')}: etcd takes no map of more than ${shardCountInEtcdMax} shards; use that or less`,
        );
      const files = certFilesOf(layout.certs);
      const [there, own, known] = await Promise.all([
        readRecord(clusterFileOf(storageRoot)),
        readMachineFile(layout),
        registry.get(registryKey.cluster),
      ]);
      const knownId = known === undefined ? undefined : (JSON.parse(known.value) as ClusterRecord).id;
      if (knownId !== undefined && own?.cluster !== knownId)
        throw new Fault(
          'already-exists',
          `etcd has cluster ${knownId} already; join it with "postern cluster join", or set another cluster.etcd_prefix`,
        );
      const id = knownId ?? there?.id ?? own?.cluster ?? randomUUID();
      const authority = await openAuthority(files, id, Date.now());
      // Accounts that are there already belong to whoever has the CA of that cluster.
      if (there !== undefined && !authority.certificate.subject.includes(there.id))
        throw new Fault(
          'wrong-root',
          `${storageRoot}: this storage belongs to cluster ${there.id}; run this with that cluster's data directory, or set storage.root to an empty directory`,
        );
      const identity: MachineIdentity =
        own?.cluster === id && own.machine === name
          ? own
          : { cluster: id, machine: name, id: randomBytes(16).toString('hex') };
      await makeOwnLeaves(configuration, identity, authority);
      await writeDurably(layout.machineFile, `${JSON.stringify(identity)}\n`, 0o600);
      const shardCount = there?.shardCount ?? settings['cluster.shards'];
      if (knownId === undefined) await bringAlong(registry, layout.registryFile, storageRoot);
      await openCluster({ registry, data: layout.data, root: storageRoot, shardCount, id });
      const record: MachineRecord = { name, id: identity.id, signer: true, joinedMs: Date.now() };
      const key = registryKey.machine(name);
      await registry.transact([{ key, is: 'absent' }], [{ put: key, value: JSON.stringify(record) }]);
      call.print(
        { cluster: id, machine: name, shards: shardCount },
        `cluster ${id} made, with ${shardCount} shards; this is machine ${name}\nnext: postern start; then, for each further machine, postern cluster token\n`,
      );
      return exitCode.done;
    }),
  );
}

async function makeOwnLeaves(
  { layout, gateway, machine }: Configuration,
  { cluster, machine: name, id }: MachineIdentity,
  authority: Authority,
): Promise<void> {
  const files = certFilesOf(layout.certs);
  const lifeMs = machine['cluster.certificate_life'];
  await makeLeaf(machineLeaf(files, cluster, name, id, lifeMs), authority, cluster, Date.now());
  const edge = { ...edgeLeaf(files, gateway.hostname || os.hostname()), lifeMs };
  await makeLeaf(edge, authority, cluster, Date.now());
}

/** What a single machine had in its own registry; and domains, when even that is lost. */
async function bringAlong(registry: Registry, registryFile: string, root: string): Promise<void> {
  await copyEmbeddedRegistry(registryFile, registry);
  const domains = await readdir(path.join(root, 'domains')).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  for (const domain of domains) if (!domain.startsWith('.')) await addDomain(registry, domain);
}

export function token(call: CommandCall): Promise<number> {
  return atRegistry(call, async ({ configuration, registry }) => {
    const { layout } = configuration;
    const words = String(call.values.expires ?? tokenLifeDefault);
    const lifeMs = parseDuration(words);
    if (lifeMs === undefined || lifeMs < 1000 || lifeMs > tokenLifeMsMax)
      throw new Fault('bad-argument', `--expires: "${words}" is not a duration from 1s to 7d; try "1h"`);
    const identity = await readMachineFile(layout);
    const files = certFilesOf(layout.certs);
    if (identity === undefined || (await readIfThere(files.authorityKey)) === undefined)
      throw new Fault(
        'bad-argument',
        `${files.authorityKey}: not here, and tokens are made where the key of the CA is; "postern cluster machines" names those machines`,
      );
    const authority = await openAuthority(files, identity.cluster, Date.now());
    const expiresMs = Date.now() + lifeMs;
    const made = newToken(identity.cluster, authority, expiresMs);
    const lease = await registry.grantLease(lifeMs);
    await registry.transact(
      [],
      [{ put: registryKey.joinToken(made.id), value: JSON.stringify(made.record), lease }],
    );
    const until = new Date(expiresMs).toISOString();
    call.print(
      { token: made.token, expires: until },
      `${made.token}\n\ngood for one machine, until ${until}; there: postern cluster join TOKEN\n`,
    );
    return exitCode.done;
  });
}

export function join(call: CommandCall): Promise<number> {
  return atRegistry(call, (place) =>
    stopped(place, async () => {
      const { configuration, registry, name } = place;
      const { layout, backend, gateway, storageRoot } = configuration;
      const given = call.positionals[0]!;
      const joining = readToken(given === '-' ? await readAll(process.stdin) : given);
      const known = await registry.get(registryKey.cluster);
      const record = known === undefined ? undefined : (JSON.parse(known.value) as ClusterRecord);
      if (record?.id !== joining.cluster)
        throw new Fault(
          'bad-config',
          `the token is of cluster ${joining.cluster}, and etcd has ${record === undefined ? 'none' : `cluster ${record.id}`} under this prefix; correct cluster.etcd_endpoints or cluster.etcd_prefix`,
        );
      const own = await readMachineFile(layout);
      const entry = own && (await registry.get(registryKey.machine(own.machine)));
      if (own !== undefined && entry !== undefined && readMachineRecord(entry.value)?.id === own.id)
        throw new Fault('already-exists', `this is machine ${own.machine} of cluster ${own.cluster} already`);
      if (backend['backend.count'] > 0) await checkRoot(storageRoot, record);
      const identity = { cluster: record.id, machine: name, id: randomBytes(16).toString('hex') };
      await askForCertificates({
        registry,
        identity,
        files: certFilesOf(layout.certs),
        hostname: gateway.hostname || os.hostname(),
        pin: joining.pin,
        token: joining,
      });
      await writeDurably(layout.machineFile, `${JSON.stringify(identity)}\n`, 0o600);
      call.print(
        { cluster: identity.cluster, machine: name },
        `this is machine ${name} of cluster ${identity.cluster} now\nnext: postern start\n`,
      );
      return exitCode.done;
    }),
  );
}

interface MachineSummary extends MachineRecord {
  readonly members: readonly string[];
}

async function machinesOf(registry: Registry): Promise<MachineSummary[]> {
  const [machines, members] = await Promise.all([
    registry.list(registryKey.machinePrefix),
    registry.list(registryKey.memberPrefix),
  ]);
  const records = members.entries.map((entry) => JSON.parse(entry.value) as MemberRecord);
  return machines.entries.flatMap((entry) => {
    const record = readMachineRecord(entry.value);
    if (record === undefined) return [];
    return [
      { ...record, members: records.filter(({ machine }) => machine === record.name).map(({ id }) => id) },
    ];
  });
}

export function leave(call: CommandCall): Promise<number> {
  return atRegistry(call, async (place) => {
    const { configuration, registry, name } = place;
    const leaving = call.positionals[0] ?? name;
    const force = call.values.force === true;
    const go = async (): Promise<void> => {
      const machines = await machinesOf(registry);
      const machine = machines.find((one) => one.name === leaving);
      if (machine === undefined)
        throw new Fault(
          'bad-argument',
          `there is no machine ${leaving}; there is: ${machines.map((one) => one.name).join(', ') || 'none'}`,
        );
      if (!force && machine.members.length > 0)
        throw new Fault(
          'not-allowed',
          `${leaving} still runs ${machine.members.join(', ')}; stop it first, or add --force to cut it off now`,
        );
      if (!force && machine.signer && machines.every((one) => one === machine || !one.signer))
        throw new Fault(
          'not-allowed',
          `${leaving} alone has the key of the CA; copy its certs/ca.key to another machine and restart that, or add --force`,
        );
      await registry.transact([], [{ remove: registryKey.machine(leaving) }]);
    };
    if (leaving !== name) await go();
    else {
      await stopped(place, async () => {
        await go();
        const { layout } = configuration;
        const files = certFilesOf(layout.certs);
        for (const file of [layout.machineFile, files.machine, files.machineKey])
          await unlink(file).catch(() => {});
      });
    }
    call.print(
      { left: leaving },
      `${leaving} is out of the cluster: its certificate is refused from now on\n`,
    );
    return exitCode.done;
  });
}

export function machines(call: CommandCall): Promise<number> {
  return atRegistry(call, async ({ registry }) => {
    const list = await machinesOf(registry);
    const lines = list.map(({ name, signer, joinedMs, members }) =>
      [
        name.padEnd(12),
        `since ${new Date(joinedMs).toISOString().slice(0, 10)}`,
        signer ? 'key of the CA' : '             ',
        members.join(', ') || 'runs nothing',
      ].join('  '),
    );
    call.print({ machines: list }, lines.map((line) => `${line}\n`).join(''));
    return exitCode.done;
  });
}
