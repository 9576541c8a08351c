/**
 * The supervisor: opens a data directory and the registry, starts the
 * members this machine's settings ask for, starts one again that dies, and stops
 * them in order. It carries no mail.
 */
import { mkdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { descriptorAdvice, hardDescriptorLimit } from '../base/descriptor-limit.ts';
import { Fault, isFault } from '../base/fault.ts';
import { flushLog, type Log, openLog } from '../base/log.ts';
import { release } from '../base/release.ts';
import type { AdminRequest } from '../cluster-protocol/link.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import { revokeGoneMembers } from '../cluster-protocol/revoke.ts';
import { openRouter } from '../gateway/routing/open-router.ts';
import type { Router } from '../gateway/routing/router.ts';
import { askOwner } from './account-work.ts';
import { type AdminServer, openAdminServer } from './admin-server.ts';
import { type Certificates, openCertificates } from './certificates.ts';
import { type ClusterRecord, openCluster, writing } from './cluster-record.ts';
import { type Configuration, loadConfiguration, type Where } from './configuration.ts';
import { DeadMembers } from './dead-members.ts';
import { ensureFirstAccount, ensureFirstDomain, type FirstAccount } from './first-account.ts';
import { handOverBeforeStop } from './hand-over.ts';
import { type OpenedCluster, openMachineCluster, type SupervisedMachine } from './machine-cluster.ts';
import { type Addresses, MemberProcess, type MemberRole, mergedAddresses } from './member-process.ts';
import { memberProcesses, ProcessRecord } from './process-record.ts';
import { readyScreen } from './ready-screen.ts';
import { reloadConfiguration } from './reload.ts';
import { restartByHand } from './restart-by-hand.ts';
import type { Reloaded } from './settings-work.ts';
import { openSupervisorRegistry, type SupervisorRegistry } from './supervisor-registry.ts';

/** A member that ends this often before it is ready, while the cluster starts, will not make it. */
const failedStartsMax = 3;
/** libuv threads of a member: the file system calls it has under way at once (8 was the best measured). */
const threadPoolSize = '8';
/**
 * glibc keeps what a thread frees, and learns to keep ever larger pieces: after a few logins every thread of the pool
 * sits on the 16 MiB of a password hash. With a fixed threshold large pieces go back to the system at once.
 */
const mallocMmapThresholdBytes = String(1024 * 1024);
/** Ending takes at most gateway.drain and this much for gateways, then this much for backends. */
const gatewayStopMs = 300;
const backendStopMs = 1400;
/** How long a machine of several waits for a link to some backend before it says that it is ready. */
const reachableMs = 5000;
/** A member whose configuration was spoilt while it ran is tried again, until somebody has mended it. */
const mendedEveryMs = 5000;
/** One Ctrl-C can arrive three times: from the terminal, from npm and from npm's child. Within this it is one. */
const sameSignalMs = 700;

export interface SupervisorIo {
  /** For people: the screen and later events. */
  say(text: string): void;
  readonly cwd: string;
}

/**
 * Runs a machine's part of a cluster until it is told to stop.
 * @returns The exit code: 0 after an orderly stop.
 * @throws {Fault} what kept it from starting; whatever it had started is stopped by then.
 */
export async function supervise(where: Where, io: SupervisorIo): Promise<number> {
  const supervisor = new Supervisor(loadConfiguration(where), where, io);
  return supervisor.run();
}

class Supervisor {
  #configuration: Configuration;
  readonly #where: Where;
  readonly #io: SupervisorIo;
  readonly #members: MemberProcess[] = [];
  /** What the gateways listen on, by member. */
  readonly #addresses = new Map<string, Addresses>();
  #dead!: DeadMembers;
  readonly #stopAsked = Promise.withResolvers<void>();
  /** Rejects with what makes going on pointless. */
  readonly #failed = Promise.withResolvers<never>();
  #allReady = Promise.withResolvers<void>();
  #log!: Log;
  #record!: ProcessRecord;
  #registry: SupervisorRegistry | undefined;
  /** Where the cluster has several machines. */
  #machine: SupervisedMachine | undefined;
  #router: Router | undefined;
  #adminServer: AdminServer | undefined;
  #up = false;
  #stopSignalAtMs: number | undefined;

  constructor(configuration: Configuration, where: Where, io: SupervisorIo) {
    this.#configuration = configuration;
    this.#where = where;
    this.#io = io;
    this.#failed.promise.catch(() => {}); // it is raced against; nobody may be waiting yet
  }

  async run(): Promise<number> {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => this.#signalled(signal));
    try {
      const starting = this.#start();
      starting.catch(() => {});
      await Promise.race([starting, this.#failed.promise, this.#stopAsked.promise]);
      await Promise.race([this.#stopAsked.promise, this.#failed.promise]);
      await this.#stop();
      return 0;
    } catch (error) {
      for (const member of this.#members) member.kill();
      await this.#stop().catch(() => {});
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { backend, gateway, storageRoot } = this.#configuration;
    const { registry } = await this.#openData();
    const backends = this.#create('backend', backend['backend.count']);
    const gateways = this.#create('gateway', gateway['gateway.count']);
    const { cluster, certificates, machine } = await this.#openCluster(registry);
    this.#machine = machine;
    this.#log.info({ cluster: cluster.id, root: storageRoot, new: cluster.isNew }, 'cluster');
    if (this.#stopSignalAtMs !== undefined) return;
    for (const member of [...gateways, ...backends]) member.start();
    this.#router = await openRouter({ registry, log: this.#log, linkIdentity: machine?.link });
    await Promise.all([this.#allReady.promise, this.#reachable(this.#router)]);
    await this.#greet(registry, cluster, certificates);
  }

  /** A single machine makes its cluster at the first start; of several, each has joined one before. */
  async #openCluster(registry: Registry): Promise<OpenedCluster> {
    const { layout, machine, backend, gateway, cluster: clusterSettings, storageRoot } = this.#configuration;
    const hostname = gateway.hostname || os.hostname();
    if (machine['cluster.registry'] === 'etcd')
      return openMachineCluster({
        ...{ registry, layout, settings: machine, hostname, log: this.#log },
        storageRoot: backend['backend.count'] > 0 ? storageRoot : undefined,
        waiting: (line) => this.#io.say(`postern: ${line}\n`),
        left: (fault) => this.#failed.reject(fault),
      });
    const cluster = await openCluster({
      registry,
      data: layout.data,
      root: storageRoot,
      shardCount: clusterSettings['cluster.shards'],
    });
    const [certificates] = await Promise.all([
      openCertificates({
        directory: layout.certs,
        clusterId: cluster.id,
        hostname,
        members: this.#members.map((member) => member.id),
        nowMs: Date.now,
      }),
      ensureFirstDomain(registry),
    ]);
    return { cluster, certificates, machine: undefined };
  }

  /** Of several machines, this one may be the first of all, or run gateways only: it does not wait long for the others. */
  async #reachable(router: Router): Promise<void> {
    const ready = router.ready();
    if (this.#machine === undefined) return ready;
    await Promise.race([ready, sleep(reachableMs, undefined, { ref: false })]);
    ready.catch(() => {}); // closed while it still waits
  }

  /** The data directory, its lock, the log, the registry; nothing of an earlier start runs afterwards. */
  async #openData(): Promise<SupervisorRegistry> {
    const { layout } = this.#configuration;
    await writing(layout.data, async () => {
      await mkdir(layout.data, { recursive: true, mode: 0o700 });
      for (const directory of [layout.run, layout.log, layout.certs])
        await mkdir(directory, { recursive: true, mode: 0o700 });
    });
    this.#record = new ProcessRecord(layout.data);
    const running = (pid: number | undefined): Fault =>
      new Fault(
        'already-running',
        `${layout.data}: Postern runs here already${pid === undefined ? '' : ` (process ${pid})`}; stop it, or choose another directory with --data`,
      );
    const before = await this.#record.runningSupervisor();
    if (before !== undefined && before !== process.pid) throw running(before);
    try {
      this.#registry = await openSupervisorRegistry(this.#configuration);
    } catch (error) {
      throw isFault(error, 'already-running') ? running(before) : error;
    }
    // Only now is it certain that what the record names is left over, and not somebody else's.
    const { registry } = this.#registry;
    this.#log = openLog({ member: 'supervisor', file: path.join(layout.log, 'supervisor.log') });
    const { machine } = this.#configuration;
    await this.#record.endLeftovers(
      await memberProcesses(
        registry,
        machine['cluster.registry'] === 'etcd' ? machine['cluster.machine'] : undefined,
      ),
    );
    this.#dead = new DeadMembers(registry, this.#log);
    await revokeGoneMembers(registry).catch((error: unknown) => {
      // etcd is away: the leases run out by themselves.
      this.#log.warn({ error: Fault.from(error).message }, 'leases of an earlier start not revoked');
    });
    this.#record.write();
    this.#log.info({ pid: process.pid, release, node: process.version, data: layout.data }, 'starting');
    return this.#registry;
  }

  #create(role: MemberRole, count: number): MemberProcess[] {
    const { layout, configPath } = this.#configuration;
    const dead = this.#dead;
    const made = Array.from(
      { length: count },
      (_, index) =>
        new MemberProcess({
          role,
          number: index + 1,
          machine: this.#configuration.machine['cluster.machine'],
          data: layout.data,
          config: configPath,
          env: {
            MALLOC_MMAP_THRESHOLD_: mallocMmapThresholdBytes,
            ...process.env,
            UV_THREADPOOL_SIZE: threadPoolSize,
          },
          log: this.#log,
          started: (id, pid) => this.#record.note(id, pid),
          died: async (id) => {
            this.#addresses.delete(id);
            await dead.died(id);
          },
          ready: (id, addresses, tookMs) => this.#ready(id, addresses, tookMs),
          cannotStart: (id, line) => {
            if (!this.#up) {
              this.#failed.reject(new Fault(codeOf(line), line));
              return undefined;
            }
            // The others go on with what they have: a file that was spoilt must not end a machine (CASES 115).
            this.#io.say(`postern: ${id} cannot start: ${line}\n`);
            return mendedEveryMs;
          },
          restarting: (id, how, delayMs) => this.#restarting(id, how, delayMs),
        }),
    );
    this.#members.push(...made);
    return made;
  }

  #ready(id: string, addresses: Addresses, tookMs: number): void {
    this.#log.info({ name: id, addresses, ms: tookMs }, 'member ready');
    this.#addresses.set(id, addresses);
    if (this.#up) this.#io.say(`postern: ${id} serves again after ${tookMs} ms\n`);
    if (this.#members.every((member) => member.isReady)) this.#allReady.resolve();
  }

  #restarting(id: string, how: string, delayMs: number): void {
    const { layout } = this.#configuration;
    const member = this.#members.find((one) => one.id === id)!;
    if (!this.#up && member.failedStarts >= failedStartsMax) {
      const logFile = path.join(layout.log, 'supervisor.log');
      this.#failed.reject(
        new Fault('unavailable', `${id} ends while it starts (${how}); the reason is in ${logFile}`),
      );
      return;
    }
    this.#log.warn({ name: id, how, delayMs }, 'starting it again');
    if (this.#up) this.#io.say(`postern: ${id} has ended (${how}), starting it again\n`);
  }

  /** First account, admin socket, screen: everything answers now. */
  async #greet(
    registry: Registry,
    cluster: ClusterRecord & { isNew: boolean },
    certificates: Certificates,
  ): Promise<void> {
    const { layout, storageRoot, configPath } = this.#configuration;
    const router = this.#router!;
    const account = await this.#firstAccount(registry, router);
    this.#adminServer = await openAdminServer({
      socketPath: layout.adminSocket,
      registry,
      router,
      cluster,
      storageRoot,
      certificates,
      log: this.#log,
      leaseMs: this.#configuration.cluster['cluster.lease'],
      restart: (member, by) => this.#restart(member, by),
      configuration: () => this.#configuration,
      reload: () => this.#reload(),
      members: () =>
        this.#members.map(({ id, role, pid, isReady, restarts }) => ({ id, role, pid, isReady, restarts })),
    });
    await this.#record.written();
    this.#up = true;
    const connectionsMax = this.#configuration.gateway['net.connections_max'];
    const advice = descriptorAdvice(await hardDescriptorLimit(), connectionsMax);
    if (advice !== undefined) {
      this.#log.warn({ advice }, 'open files');
      this.#io.say(`postern: ${advice}\n`);
    }
    const tookMs = Math.round(performance.now());
    this.#log.info({ ms: tookMs }, 'ready');
    this.#io.say(
      readyScreen({
        release,
        data: layout.data,
        storageRoot,
        configPath,
        isNew: cluster.isNew,
        caFile: path.join(layout.certs, 'ca.pem'),
        account,
        listeners: mergedAddresses(this.#addresses.values()),
        members: this.#members.map((member) => member.id),
        tookMs,
        cwd: this.#io.cwd,
      }),
    );
  }

  async #restart(id: string, by: string): Promise<{ tookMs: number }> {
    const registry = this.#registry!.registry;
    const stopMs = {
      gateway: this.#configuration.gateway['gateway.drain'] + gatewayStopMs,
      backend: backendStopMs,
    };
    const wanted = (): boolean => this.#stopSignalAtMs === undefined;
    return restartByHand({ registry, members: this.#members, log: this.#log, stopMs, wanted }, id, by);
  }

  async #reload(): Promise<Reloaded> {
    const { say, cwd } = this.#io;
    const options = { where: this.#where, cwd, before: this.#configuration, members: this.#members };
    const { configuration, result } = await reloadConfiguration({ ...options, log: this.#log, say });
    this.#configuration = configuration;
    return result;
  }

  /** Of several machines only one that has the key of the CA makes it: two at once would each note a password. */
  async #firstAccount(registry: Registry, router: Router): Promise<FirstAccount | undefined> {
    if (this.#machine?.signs === false || router.backends().length === 0) return undefined;
    await ensureFirstDomain(registry);
    return ensureFirstAccount({
      registry,
      file: this.#configuration.layout.firstAccount,
      admin: (request) => askOwner(router, request as AdminRequest & { address: string }),
    });
  }

  #signalled(signal: NodeJS.Signals): void {
    // Without a terminal a hangup asks for the new configuration; with one, the terminal has gone.
    if (signal === 'SIGHUP' && this.#up && !process.stdout.isTTY) {
      this.#reload().catch(() => {}); // said and logged
      return;
    }
    const nowMs = performance.now();
    if (this.#stopSignalAtMs === undefined) {
      this.#stopSignalAtMs = nowMs;
      this.#log?.info({ signal }, 'stopping');
      this.#stopAsked.resolve();
      return;
    }
    if (nowMs - this.#stopSignalAtMs < sameSignalMs) return;
    for (const member of this.#members) member.kill();
    process.exit(1);
  }

  /** Gateways first: they finish what clients have under way while the backends still answer. */
  async #stop(): Promise<void> {
    const drainMs = this.#configuration.gateway['gateway.drain'];
    await this.#adminServer?.close();
    if (this.#up) {
      const backends = this.#members.filter(({ role }) => role === 'backend').map(({ id }) => id);
      await handOverBeforeStop(this.#registry!.registry, backends, this.#log);
    }
    const of = (role: MemberRole) => this.#members.filter((member) => member.role === role);
    await Promise.all(of('gateway').map((member) => member.drain(drainMs + gatewayStopMs)));
    await this.#router?.close();
    await Promise.all(of('backend').map((member) => member.drain(backendStopMs)));
    this.#machine?.close();
    this.#dead?.close();
    await this.#registry?.close();
    if (this.#log === undefined) return;
    this.#log.info({}, 'stopped');
    await flushLog(this.#log);
  }
}

/** One word for the one-line errors members report: a port that is taken is no mistake in the file. */
function codeOf(line: string): 'bad-config' | 'port-taken' {
  return /\b(EADDRINUSE|in use|taken)\b/.test(line) ? 'port-taken' : 'bad-config';
}
