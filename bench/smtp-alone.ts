/**
 * The SMTP door by itself: listener, chain without scanners, Haraka, log; and
 * owners that say yes and keep nothing. What is measured beside a bare Haraka
 * that queues nothing. `node bench/smtp-alone.ts DIRECTORY`; prints its port.
 */
import net from 'node:net';
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import { layoutOf } from '../base/layout.ts';
import { openLog } from '../base/log.ts';
import { defaultsOf } from '../base/settings.ts';
import { defaultPlugins, openChain } from '../gateway/plugin-host/open-chain.ts';
import type { Router } from '../gateway/routing/router.ts';
import { newSession } from '../gateway/session/new-session.ts';
import { gatewaySettings } from '../gateway/settings.ts';
import { openSmtpDoor } from '../gateway/smtp/smtp-door.ts';

const directory = process.argv[2] ?? '.';
const log = openLog({ member: 'gateway-1', file: path.join(directory, 'door.log') });
const notHere = (): never => {
  throw new Fault('unavailable', 'there is nobody behind this door');
};

const router: Router = {
  isLocalDomain: () => true,
  recipient: async () => 'yes',
  deliver: async (_session, { recipients }) =>
    recipients.map((recipient) => ({ recipient, outcome: 'stored' })),
  settle: () => {},
  login: async () => 'unavailable',
  scramStart: async () => 'unavailable',
  scramProof: async () => 'unavailable',
  openSession: async () => ({ outcome: 'unavailable' }),
  request: notHere,
  backends: () => [],
  requestMember: notHere,
  ready: async () => {},
  close: async () => {},
};

const lifted = { per_network: 20_000, per_wide_network: 20_000 };
const chain = await openChain({
  plugins: defaultPlugins.map((plugin) =>
    plugin.use === 'connection-limit' ? { ...plugin, options: { ...plugin.options, ...lifted } } : plugin,
  ),
  configDir: directory,
  log,
});
const door = await openSmtpDoor({
  settings: defaultsOf(gatewaySettings),
  layout: layoutOf(directory),
  chain,
  router,
  log,
  hostname: 'bench.example.test',
  tls: { startTls: notHere },
  sasl: { scram: false },
});

const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
  const client = {
    address: '127.0.0.1',
    port: socket.remotePort ?? 0,
    network: '127.0.0.1',
    wideNetwork: '127.0.0.0/24',
  };
  door.accept(socket, newSession('smtp', client, '[::]:25'), 'mx');
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as net.AddressInfo).port));
