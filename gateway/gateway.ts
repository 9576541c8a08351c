/**
 * A gateway process: listeners outside, links inside, doors between. Started by
 * the supervisor (`base/member.ts`). Everything that takes time to open is
 * opened side by side.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { SecureVersion } from 'node:tls';
import { type PluginEntry, readConfigFile, readSettings } from '../base/config-file.ts';
import { hardDescriptorLimit, sessionSocketsMax } from '../base/descriptor-limit.ts';
import { Fault } from '../base/fault.ts';
import { type DataLayout, layoutOf } from '../base/layout.ts';
import { ListeningSockets } from '../base/listening-sockets.ts';
import { flushLog, type Log, openLog } from '../base/log.ts';
import {
  endFailedStart,
  type MemberStart,
  memberStartFromArgs,
  onDrain,
  onReload,
  tellSupervisor,
} from '../base/member.ts';
import { giveMemoryBackWhenQuiet } from '../base/quiet-memory.ts';
import { release } from '../base/release.ts';
import { parseAddress } from '../base/settings.ts';
import { certFilesOf } from '../certs/files.ts';
import { ticketKeysOf } from '../cluster-protocol/cluster-secret.ts';
import { connectMember } from '../cluster-protocol/connect-member.ts';
import { type MemberRecord, versionsSpoken } from '../cluster-protocol/link.ts';
import { type LoginSettings, loginSettings } from '../cluster-protocol/login-settings.ts';
import { machineSettings } from '../cluster-protocol/machine-settings.ts';
import { processIdentity } from '../cluster-protocol/revoke.ts';
import { clusterSettings } from '../cluster-protocol/settings.ts';
import { followSettings } from '../cluster-protocol/shared-settings.ts';
import { openAcme } from './acme/acme.ts';
import { acmeSettings } from './acme/settings.ts';
import { chainMetrics, countingChain } from './health/chain-metrics.ts';
import { type Health, openHealthServer } from './health/health-server.ts';
import { openMetrics } from './health/metrics.ts';
import { openHttpDoor } from './http/http-door.ts';
import { openImapDoor } from './imap/imap-door.ts';
import { parseNetwork } from './net/address.ts';
import { followBans } from './net/ban-list.ts';
import { Deadlines } from './net/deadline.ts';
import { type Listener, openListener } from './net/listener.ts';
import { Shield } from './net/shield.ts';
import { Throttle } from './net/throttle.ts';
import { openTlsContexts, type TlsContextsOptions, watchCertificate } from './net/tls-contexts.ts';
import type { Chain } from './plugin-host/chain.ts';
import { openChangingChain } from './plugin-host/changing-chain.ts';
import { checkPlugins, defaultPlugins, openChain } from './plugin-host/open-chain.ts';
import { openPop3Door } from './pop3/pop3-door.ts';
import { joinAsGateway } from './routing/membership.ts';
import { openRouter } from './routing/open-router.ts';
import type { SaslOffer } from './session/sasl-exchange.ts';
import type { MutableSession, Protocol } from './session/session.ts';
import { type GatewaySettings, gatewaySettings } from './settings.ts';
import { openSmtpDoor } from './smtp/smtp-door.ts';

/** A gateway goes on after a defect in somebody's callback; one that has so many in a minute is started anew. */
const defectsPerMinuteMax = 20;
/** How often it says that it waits for a backend; well within what the supervisor allows for a start. */
const waitingEveryMs = 10_000;
/** How long the registry may take to forget this gateway. */
const letGoMs = 500;
/** How long log lines have to reach the file before the process ends. */
const logFlushMs = 200;

/** What has to be undone when the process is told to stop, whatever it has come to. */
let stop: (reason: string) => Promise<void> = async () => {};
let stopping = false;

async function start(memberStart: MemberStart): Promise<void> {
  const passing = ListeningSockets.receive(memberStart.listeners);
  const layout = layoutOf(memberStart.data);
  const config = await readConfigFile(memberStart.config);
  const settings = readSettings(config, gatewaySettings);
  const { 'cluster.lease': leaseMs } = readSettings(config, clusterSettings);
  const logins = readSettings(config, loginSettings);
  const configDir = memberStart.config === '' ? layout.data : path.dirname(memberStart.config);
  const log = openLog({ member: memberStart.id, file: path.join(layout.log, `${memberStart.id}.log`) });
  surviveDefects(log);

  const hostname = settings.hostname || os.hostname();
  const deadlines = new Deadlines();
  const metrics = openMetrics();
  const { registry, machine } = await connectMember({
    layout,
    settings: readSettings(config, machineSettings),
    configDir,
    log,
    waiting: () => void tellSupervisor({ word: 'waiting' }),
  });
  const following = new AbortController();
  const bans = followBans(registry, log, following.signal);
  let changePlugins: (entries: readonly PluginEntry[]) => void = () => {};
  const shared = await followSettings({
    ...{ registry, file: config, log },
    sheets: [
      { table: gatewaySettings, values: settings },
      { table: loginSettings, values: logins },
    ],
    plugins: { defaults: defaultPlugins, changed: (entries) => changePlugins(entries) },
  });
  const sasl = saslOffer(logins);
  const openPlugins = (plugins: readonly PluginEntry[]): Promise<Chain> =>
    openChain({ plugins, configDir, log, metrics: chainMetrics(metrics) });
  const [tls, plainChain] = await Promise.all([
    ticketKeysOf(registry).then((ticketKeys) =>
      openTlsContexts({ ...tlsOptions(settings, layout, configDir, deadlines), ticketKeys }),
    ),
    openChangingChain(shared.file.plugins ?? defaultPlugins, openPlugins, log),
  ]);
  changePlugins = (entries) => void plainChain.change(entries);
  const acme = openAcme({
    ...{ registry, log, member: memberStart.id, configDir, tls },
    settings: readSettings(config, acmeSettings),
    place: config.place,
    waitMs: settings['net.greeting_timeout'],
  });
  // Told even where it is the same file: a certificate may be another.
  const watchedTls = watchCertificate(tls, log);
  onReload(async () => {
    const file = await readConfigFile(memberStart.config);
    for (const table of [gatewaySettings, loginSettings]) readSettings(file, table);
    await checkPlugins(file.plugins ?? defaultPlugins, configDir);
    await tls.reload();
    return shared.fileChanged(file);
  });
  const throttle = new Throttle({
    get connectionsMax() {
      return settings['net.connections_max'];
    },
    get perNetworkMax() {
      return settings['net.connections_per_network_max'];
    },
  });
  const descriptorsMax = await hardDescriptorLimit();
  const shield = new Shield({
    settings,
    connections: () => throttle.total,
    descriptorsMax,
    log,
    gauge: metrics.shield,
  });
  shield.start();
  const doorSettings = shield.settings();
  const chain = countingChain(plainChain, metrics, (client) => shield.wasGood(client));
  const compresses = settings['imap.compress'];
  const router = await openRouter({
    ...{ registry, log, metrics, linkIdentity: machine, compresses },
    sessionSocketsMax: sessionSocketsMax(descriptorsMax, settings['net.connections_max']),
  });
  const login = {
    ...{ chain, router, log, metrics, deadlines, tls },
    get greetingMs() {
      return doorSettings['net.greeting_timeout'];
    },
    get loginMs() {
      return doorSettings['net.login_timeout'];
    },
    plaintextLogin: settings['login.plaintext'],
    sasl,
  };
  const imap = openImapDoor(login);
  const pop3 = openPop3Door(login);
  const http = openHttpDoor({
    ...{ chain, router, log, sasl },
    startTls: tls.startTls,
    get greetingMs() {
      return doorSettings['net.greeting_timeout'];
    },
  });
  const smtp = await openSmtpDoor({
    settings: doorSettings,
    layout,
    chain,
    router,
    log,
    hostname,
    tls,
    sasl,
  });

  const proxyFrom = settings['net.proxy_from'].map((text) => {
    try {
      return parseNetwork(text);
    } catch (error) {
      throw new Fault('bad-config', `${config.place('net.proxy_from')}: ${Fault.from(error).message}`, {
        cause: error,
      });
    }
  });
  const doors: Record<string, Door> = {
    smtp: {
      protocol: 'smtp',
      halfOpen: true,
      accept: (socket, session) => smtp.accept(socket, session, 'mx'),
    },
    submission: {
      protocol: 'submission',
      halfOpen: true,
      accept: (socket, session) => smtp.accept(socket, session, 'submission'),
    },
    submissions: {
      protocol: 'submission',
      implicitTls: true,
      accept: (socket, session) => smtp.accept(socket, session, 'submissions'),
    },
    imap: {
      protocol: 'imap',
      halfOpen: true,
      accept: (socket, session) => imap.accept(socket, session, false),
    },
    imaps: {
      protocol: 'imap',
      halfOpen: true,
      implicitTls: true,
      accept: (socket, session) => imap.accept(socket, session, true),
    },
    pop3: {
      protocol: 'pop3',
      halfOpen: true,
      accept: (socket, session) => pop3.accept(socket, session, false),
    },
    pop3s: {
      protocol: 'pop3',
      halfOpen: true,
      implicitTls: true,
      accept: (socket, session) => pop3.accept(socket, session, true),
    },
    http: { protocol: 'http', accept: (socket, session) => acme.door.accept(socket, session) },
    https: { protocol: 'http', implicitTls: true, accept: (socket, session) => http.accept(socket, session) },
  };
  let state = 'starting';
  const sockets = await passing;
  const openings = Object.entries(doors).flatMap(([name, door]) =>
    settings[`listen.${name}` as 'listen.smtp'].map((address) =>
      openListener({
        name,
        protocol: door.protocol,
        address: parseAddress(address)!,
        implicitTls: door.implicitTls ?? false,
        allowHalfOpen: door.halfOpen ?? false,
        reusePort: settings['gateway.count'] > 1,
        sockets,
        proxyFrom,
        throttle,
        shield,
        isBanned: (address) => bans.has(address, Date.now()),
        deadlines,
        log,
        metrics,
        accept: door.accept,
      }),
    ),
  );
  const healthOpenings = settings['listen.health'].map((text) => {
    const { host, port } = parseAddress(text)!;
    // Port 0 lets the system choose; else every gateway of the machine has its own.
    const address = { host, port: port === 0 ? 0 : port + memberStart.number - 1 };
    const healthNow = (): Health => ({
      ok: state === 'serving' && router.backends().length > 0,
      member: memberStart.id,
      state,
      backends: router.backends(),
      connections: throttle.total,
      stress: shield.stressed,
    });
    return openHealthServer(address, metrics, healthNow, sockets);
  });
  const [listeners, health] = await Promise.all([Promise.all(openings), Promise.all(healthOpenings)]);

  const record: MemberRecord = {
    id: memberStart.id,
    role: 'gateway',
    address: listeners[0]?.address ?? '',
    ...(machine === undefined ? {} : { machine: machine.machine }),
    versions: versionsSpoken,
    incarnation: randomBytes(8).toString('hex'),
    pid: process.pid,
    process: processIdentity(),
    release,
  };
  const membership = joinAsGateway(registry, record, leaseMs, log);
  stop = async (reason) => {
    state = 'stopping';
    log.info({ reason, connections: throttle.total }, 'stopping');
    for (const listener of listeners) listener.stop();
    shield.close();
    following.abort();
    shared.close();
    watchedTls.close();
    // The next process may answer for this member's health already.
    for (const server of health) server.close();
    const graceMs = settings['gateway.drain'];
    await Promise.all([imap.close(graceMs), pop3.close(graceMs), http.close(graceMs), smtp.close()]);
    const letGo = Promise.allSettled([chain.close(), router.close(), membership.leave(), acme.close()]);
    // Where the supervisor has gone its registry has gone too, and nobody answers.
    await Promise.race([letGo, new Promise((resolve) => setTimeout(resolve, letGoMs))]);
    await registry.close();
    deadlines.close();
    metrics.close();
    log.info({}, 'stopped');
    await Promise.race([flushLog(log), new Promise((resolve) => setTimeout(resolve, logFlushMs))]);
  };
  // No backend of the cluster can be reached: that is no reason to be ended and started again.
  const waiting = setInterval(() => void tellSupervisor({ word: 'waiting' }), waitingEveryMs);
  await router.ready().finally(() => clearInterval(waiting));
  state = 'serving';
  const addresses = addressesOf(listeners);
  if (health.length > 0) addresses.health = health.map((server) => server.address);
  log.info({ addresses, ms: Math.round(performance.now()) }, 'ready');
  giveMemoryBackWhenQuiet(log);
  await tellSupervisor({ word: 'ready', addresses, listeners: sockets.settle() });
}

function saslOffer(settings: LoginSettings): SaslOffer {
  const issuer = settings['login.oauth_issuer'];
  return {
    scram: settings['login.scram'],
    oauth: issuer === '' ? undefined : { issuer, userClaim: settings['login.oauth_user_claim'] },
  };
}

interface Door {
  readonly protocol: Protocol;
  readonly implicitTls?: boolean;
  /** The door answers a client that has closed its half. */
  readonly halfOpen?: boolean;
  accept(socket: Socket, session: MutableSession): void;
}

function addressesOf(listeners: readonly Listener[]): Record<string, string[]> {
  const addresses: Record<string, string[]> = {};
  for (const { name, address } of listeners) {
    addresses[name] ??= [];
    addresses[name].push(address);
  }
  return addresses;
}

/** The admin's certificate where one is named, else the cluster's own. */
function tlsOptions(
  settings: GatewaySettings,
  layout: DataLayout,
  configDir: string,
  deadlines: Deadlines,
): TlsContextsOptions {
  const own = certFilesOf(layout.certs);
  const { 'tls.certificate': certificate, 'tls.key': key, 'tls.directory': directory } = settings;
  if ((certificate === '') !== (key === ''))
    throw new Fault('bad-config', 'tls.certificate and tls.key go together; set both or neither');
  return {
    certificate: certificate === '' ? own.edge : path.resolve(configDir, certificate),
    key: key === '' ? own.edgeKey : path.resolve(configDir, key),
    place: certificate === '' ? "the cluster's own certificate" : 'tls.certificate',
    ...(directory === ''
      ? {}
      : { directory: path.resolve(configDir, directory), directoryPlace: 'tls.directory' }),
    minimum: settings['tls.minimum'] as SecureVersion,
    handshakeMs: settings['net.greeting_timeout'],
    deadlines,
  };
}

/**
 * What is thrown where nobody can catch it comes from a plugin's timer or a library's callback. The gateway holds
 * nothing that could be spoilt by it, and ten thousand sessions are worth more than a clean end (CASES 54).
 */
function surviveDefects(log: Log): void {
  let defects = 0;
  setInterval(() => {
    defects = 0;
  }, 60_000).unref();
  process.on('uncaughtException', (error, origin) => {
    log.error({ error: error instanceof Error ? error.stack : String(error), origin }, 'defect');
    if (++defects > defectsPerMinuteMax) process.exit(1);
  });
}

onDrain((reason) => {
  stopping = true;
  return stop(reason);
});
start(memberStartFromArgs()).catch((error: unknown) => {
  // What was being opened was closed under it: the end is under way already, and in order.
  if (stopping) return;
  const fault = Fault.from(error);
  process.stderr.write(`gateway: ${fault.message}\n`);
  if (fault.whose === 'bug') process.stderr.write(`${fault.stack}\n`);
  endFailedStart(fault.whose === 'operator' ? fault.message : undefined);
});
