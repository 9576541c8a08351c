/**
 * A backend process: joins the cluster, serves the accounts it is granted, and
 * leaves in order. Started by the supervisor (`base/member.ts`).
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { readConfigFile, readSettings } from '../base/config-file.ts';
import { hardDescriptorLimit, sessionSocketsOfBackendMax } from '../base/descriptor-limit.ts';
import { Fault } from '../base/fault.ts';
import { layoutOf, storageRootOf } from '../base/layout.ts';
import { openLog } from '../base/log.ts';
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
import { secretOf } from '../cluster-protocol/cluster-secret.ts';
import { connectMember } from '../cluster-protocol/connect-member.ts';
import { type MemberRecord, versionsSpoken } from '../cluster-protocol/link.ts';
import { checkLoginSettings, loginSettings } from '../cluster-protocol/login-settings.ts';
import { linkAddressOf, machineSettings } from '../cluster-protocol/machine-settings.ts';
import { registryKey } from '../cluster-protocol/registry.ts';
import { processIdentity } from '../cluster-protocol/revoke.ts';
import { clusterSettings } from '../cluster-protocol/settings.ts';
import { followSettings } from '../cluster-protocol/shared-settings.ts';
import { Aliases } from './accounts/aliases.ts';
import { DomainQuotas } from './accounts/domain-quotas.ts';
import { openAccounts } from './accounts/local-accounts.ts';
import { openTokenVerifier } from './accounts/token-verifier.ts';
import { Controller } from './cluster/controller.ts';
import { openLinkServer } from './cluster/link-server.ts';
import { reportLoad } from './cluster/load-report.ts';
import { joinCluster, type Member } from './cluster/member.ts';
import { probeStorage, storageOnceWell } from './cluster/storage-health.ts';
import { readClusterRecord } from './cluster/storage-root.ts';
import { type StorageWatch, watchStorage } from './cluster/storage-watch.ts';
import { adminService } from './serve/admin-service.ts';
import { deliverService, recipientService, settleService } from './serve/deliver/deliver-service.ts';
import { httpService } from './serve/http/http-service.ts';
import { imapService } from './serve/imap/imap-service.ts';
import { loginService } from './serve/login-service.ts';
import { pop3Service } from './serve/pop3/pop3-service.ts';
import { SessionBook } from './serve/session-book.ts';
import { backendSettings } from './settings.ts';
import type { Guard } from './store/store.ts';

/** Nothing is moved for balance while backends come and go. */
const settleMs = 1000;
/** A backend beside others may be granted its share only after `settleMs`: it is ready all the same. */
const grantWaitMs = 3000;
const requestsWaitMs = 500;
const leaveWaitMs = 1500;
const linksGraceMs = 200;

const services = {
  imap: imapService,
  pop3: pop3Service,
  recipient: recipientService,
  deliver: deliverService,
  settle: settleService,
  login: loginService,
  http: httpService,
  admin: adminService,
};

/** What has to be undone when the process is told to stop, whatever it has come to. */
let stop: (reason: string) => Promise<void> = async () => {};

async function start(memberStart: MemberStart): Promise<void> {
  const layout = layoutOf(memberStart.data);
  const config = await readConfigFile(memberStart.config);
  const settings = readSettings(config, backendSettings);
  const leases = readSettings(config, clusterSettings);
  const machines = readSettings(config, machineSettings);
  const logins = readSettings(config, loginSettings);
  checkLoginSettings(logins, config.place);
  const log = openLog({ member: memberStart.id, file: path.join(layout.log, `${memberStart.id}.log`) });
  process.on('uncaughtException', (error) => {
    log.error({ err: error }, 'a defect ended this backend');
    process.exit(1);
  });

  const { registry, clusterText, machine } = await connectMember({
    layout,
    settings: machines,
    configDir: path.dirname(memberStart.config),
    log,
    waiting: () => void tellSupervisor({ word: 'waiting' }),
  });
  if (clusterText === undefined) throw new Fault('registry-failed', 'the registry knows no cluster');
  const cluster = readClusterRecord(clusterText, 'the registry’s cluster record');
  const shared = await followSettings({
    ...{ registry, file: config, log },
    sheets: [
      { table: backendSettings, values: settings },
      { table: loginSettings, values: logins },
    ],
  });
  onReload(async () => {
    const file = await readConfigFile(memberStart.config);
    for (const table of [backendSettings, loginSettings]) readSettings(file, table);
    return shared.fileChanged(file);
  });
  const root = storageRootOf(layout, settings['storage.root'], memberStart.config);
  const probe = (): Promise<void> => probeStorage(root, cluster, memberStart.id);
  await storageOnceWell(probe, (why, forMs) => {
    log.error({ why, forMs: Math.round(forMs) }, 'waiting for the storage');
    void tellSupervisor({ word: 'waiting' });
  });

  let member: Member | undefined;
  let storage: StorageWatch | undefined;
  const owns: Member['owns'] = (address) => member?.owns(address) ?? { ok: false, owner: '', epoch: 0 };
  const guardFor = (address: string): Guard => {
    if (member === undefined) throw new Fault('not-owner', 'this backend has not joined the cluster yet');
    return member.guardFor(address);
  };
  const following = new AbortController();
  const domains = await DomainQuotas.follow(registry, log, following.signal);
  const aliases = new Aliases({ root, log, guardFor, owns: (address) => owns(address).ok });
  const accounts = await openAccounts({
    root,
    settings,
    log,
    guardFor,
    owns: (address) => owns(address).ok,
    scram: logins['login.scram'],
    domainLimits: (domain) => domains.of(domain),
    loginSecret: await secretOf(registry, registryKey.loginSecret),
    tokens: await openTokenVerifier(logins, path.dirname(memberStart.config), log),
  });
  domains.onChange = (changed) => void accounts.quotasChanged(changed);
  const socket = layout.linkSocket(memberStart.id);
  const sessions = layout.sessionSocket(memberStart.id);
  const remote = machine && linkAddressOf(machines, memberStart.number);
  const links = await openLinkServer(
    [
      { kind: 'unix', path: socket },
      {
        kind: 'sessions',
        path: sessions,
        socketsMax: sessionSocketsOfBackendMax(await hardDescriptorLimit()),
      },
      ...(remote === undefined
        ? []
        : [
            { kind: 'tls' as const, listen: remote.listen, pair: machine!.pair, isMember: machine!.isMember },
          ]),
    ],
    services,
    {
      ...{ accounts, aliases, log, settings, owns },
      leaseLeftMs: () => member?.leaseLeftMs ?? 0,
      book: new SessionBook(await secretOf(registry, registryKey.sessionSecret)),
    },
  );
  machine?.onRenewal((pair) => links.renew(pair));
  machine?.onMachines(() => links.recheck());
  const record: MemberRecord = {
    id: memberStart.id,
    role: 'backend',
    address: remote?.advertised ?? socket,
    ...(machine === undefined ? {} : { machine: machine.machine, socket }),
    sessions,
    versions: versionsSpoken,
    incarnation: randomBytes(8).toString('hex'),
    pid: process.pid,
    process: processIdentity(),
    release,
    weight: settings['backend.weight'],
  };
  const joined = await joinCluster({
    registry,
    record,
    leaseMs: leases['cluster.lease'],
    leaseMarginMs: leases['cluster.lease_margin'],
    log,
    clock: () => performance.now(),
    leave: (leaving) => accounts.leave((address) => leaving.has(address), 'moved'),
    // Guards throw from here on, and the process ends before anything can be answered.
    lost: () => {
      // An orderly exit joins the threads of the pool, and waits for those that hang in the storage.
      if (storage?.isWell === false) process.once('exit', () => process.kill(process.pid, 'SIGKILL'));
      process.exit(1);
    },
  });
  member = joined;
  storage = watchStorage({ member: joined, probe, unwellAfterMs: settings['storage.unwell_after'], log });
  const controller = new Controller({
    registry,
    config: {
      self: record.id,
      lease: joined.lease,
      shardCount: cluster.shardCount,
      firstEpoch: firstEpoch(Date.now()),
      settleMs,
    },
    log,
    clock: () => performance.now(),
  });
  const loadReport = reportLoad({
    ...{ registry, log, self: record.id, lease: joined.lease },
    isController: () => controller.elected,
  });
  stop = async (reason) => {
    log.info({ reason, streams: links.streams }, 'stopping');
    storage?.close();
    links.stopOpenings();
    await links.requestsDone(requestsWaitMs);
    await within(
      leaveWaitMs,
      accounts.leave(() => true, 'stopping'),
    );
    await links.close(linksGraceMs);
    await accounts.close();
    shared.close();
    following.abort();
    loadReport.stop();
    controller.stop();
    await joined.stop();
    await registry.close();
    log.info({}, 'stopped');
  };
  await joined
    .until((holdings) => holdings.shardsHeld > 0, grantWaitMs)
    .catch((error) => {
      log.warn({ error: Fault.from(error).message }, 'no shards yet');
    });
  log.info(
    { addresses: links.addresses, shards: joined.holdings.shardsHeld, ms: Math.round(performance.now()) },
    'ready',
  );
  giveMemoryBackWhenQuiet(log);
  await tellSupervisor({ word: 'ready', addresses: { link: links.addresses } });
}

/**
 * The first epoch of a new shard map, in seconds of the calendar: should the registry be lost and made anew, its
 * grants are still greater than those the accounts' fences have recorded, because grants are rarer than seconds.
 */
function firstEpoch(nowMs: number): number {
  return Math.max(1, Math.floor((nowMs - Date.UTC(2020, 0)) / 1000));
}

/** @throws {Fault} `deadline-passed` */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Fault('deadline-passed', 'accounts were not closed in time')), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

onDrain((reason) => stop(reason));
start(memberStartFromArgs()).catch((error: unknown) => {
  const fault = Fault.from(error);
  process.stderr.write(`backend: ${fault.message}\n`);
  endFailedStart(fault.whose === 'operator' ? fault.message : undefined);
});
