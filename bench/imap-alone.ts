/**
 * The IMAP door by itself: listener, TLS, chain, router and links, log; and an
 * owner in a process of its own that says yes (`yes-owner.ts`).
 * `node bench/imap-alone.ts DIRECTORY`; prints its two ports, plain and TLS.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { openLog } from '../base/log.ts';
import { openAuthority } from '../certs/authority.ts';
import { certFilesOf } from '../certs/files.ts';
import { edgeLeaf, ensureLeaf } from '../certs/leaf.ts';
import { type MemberRecord, protocolVersion } from '../cluster-protocol/link.ts';
import { openEmbeddedRegistry } from '../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../cluster-protocol/registry.ts';
import { emptyShardMap, encodeShardMap } from '../cluster-protocol/shard-map.ts';
import { openMetrics } from '../gateway/health/metrics.ts';
import { openImapDoor } from '../gateway/imap/imap-door.ts';
import { Deadlines } from '../gateway/net/deadline.ts';
import { openListener } from '../gateway/net/listener.ts';
import { Throttle } from '../gateway/net/throttle.ts';
import { openTlsContexts } from '../gateway/net/tls-contexts.ts';
import { defaultPlugins, openChain } from '../gateway/plugin-host/open-chain.ts';
import { openRouter } from '../gateway/routing/open-router.ts';

const directory = path.resolve(process.argv[2] ?? '.');
const log = openLog({ member: 'gateway-1', file: path.join(directory, 'door.log') });
const connectionsMax = 20_000;

const address = path.join(directory, 'owner.sock');
const script = path.join(import.meta.dirname, 'yes-owner.ts');
const owner = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, address], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
process.on('SIGTERM', () => {
  owner.kill();
  process.exit();
});
await once(owner.stdout, 'data');

const { registry } = await openEmbeddedRegistry(
  path.join(directory, 'registry.sqlite'),
  path.join(directory, 'registry.sock'),
);
const record: MemberRecord = {
  id: 'backend-1',
  role: 'backend',
  address,
  sessions: `${address}-sessions`,
  versions: [protocolVersion, protocolVersion],
  incarnation: 'only',
  pid: owner.pid ?? 0,
  release: 'bench',
};
const map = { ...emptyShardMap(4096, 2), holders: [{ id: record.id, incarnation: record.incarnation }] };
map.owners.fill(1);
map.epochs.fill(1);
await registry.transact(
  [],
  [
    { put: registryKey.member(record.id), value: JSON.stringify(record) },
    { put: registryKey.shardMap, value: encodeShardMap(map) },
  ],
);

const files = certFilesOf(directory);
const authority = await openAuthority(files, 'bench', Date.now());
await ensureLeaf(edgeLeaf(files, 'localhost'), authority, 'bench', Date.now());
const deadlines = new Deadlines();
const metrics = openMetrics();
const lifted = { per_network: connectionsMax, per_wide_network: connectionsMax };
const door = openImapDoor({
  chain: await openChain({
    plugins: defaultPlugins.map((plugin) =>
      plugin.use === 'connection-limit' ? { ...plugin, options: { ...plugin.options, ...lifted } } : plugin,
    ),
    configDir: directory,
    log,
  }),
  router: await openRouter({ registry, log, metrics, sessionSocketsMax: connectionsMax }),
  log,
  metrics,
  deadlines,
  tls: await openTlsContexts({
    certificate: files.edge,
    key: files.edgeKey,
    place: 'tls.certificate',
    minimum: 'TLSv1.2',
    handshakeMs: 10_000,
    deadlines,
  }),
  greetingMs: 30_000,
  loginMs: 60_000,
  plaintextLogin: true,
  sasl: { scram: true },
});
const throttle = new Throttle({ connectionsMax, perNetworkMax: connectionsMax });
const ports: string[] = [];
for (const implicitTls of [false, true]) {
  const listener = await openListener({
    name: implicitTls ? 'imaps' : 'imap',
    protocol: 'imap',
    address: { host: '127.0.0.1', port: 0 },
    implicitTls,
    allowHalfOpen: true,
    reusePort: false,
    proxyFrom: [],
    throttle,
    deadlines,
    log,
    metrics,
    accept: (socket, session) => door.accept(socket, session, implicitTls),
  });
  ports.push(listener.address.split(':').at(-1)!);
}
console.log(ports.join(' '));
