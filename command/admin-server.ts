/**
 * The supervisor's admin socket: `postern account …` and its like arrive here as
 * HTTP with JSON over a Unix socket only its owner may open. Account work goes on
 * to the owner of the account, domains to the registry.
 */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Fault, type FaultCode } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import { changeAndRecord } from '../cluster-protocol/change-history.ts';
import { addressParts } from '../cluster-protocol/ids.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import type { Router } from '../gateway/routing/router.ts';
import { askOwner, listAccounts, listAliases } from './account-work.ts';
import type { Certificates } from './certificates.ts';
import type { ClusterRecord } from './cluster-record.ts';
import { clusterStatus } from './cluster-status.ts';
import { performCluster } from './cluster-work.ts';
import type { Configuration } from './configuration.ts';
import { type ControlRequest, controlPath, controlRequestBytesMax } from './control.ts';
import { checkRequest, subjectOf } from './control-check.ts';
import { listDomains, needAccountRoom, noSuchDomain, setDomainLimits } from './domain-work.ts';
import type { MemberRole } from './member-process.ts';
import { performSettings, type Reloaded } from './settings-work.ts';

const connectionsMax = 64;
const requestMsMax = 30_000;
const beatMs = 10_000;

export interface SupervisedMember {
  readonly id: string;
  readonly role: MemberRole;
  readonly pid: number | undefined;
  readonly isReady: boolean;
  readonly restarts: number;
}

export interface AdminServerOptions {
  readonly socketPath: string;
  readonly registry: Registry;
  readonly router: Router;
  readonly cluster: ClusterRecord;
  readonly storageRoot: string;
  readonly certificates: Certificates;
  readonly log: Log;
  readonly leaseMs: number;
  members(): readonly SupervisedMember[];
  /** Drains a member of this machine, ends its process and starts it again. */
  restart(member: string, by: string): Promise<{ readonly tookMs: number }>;
  configuration(): Configuration;
  /** Reads the configuration again. @throws {Fault} `bad-config`: all stays as it was. */
  reload(): Promise<Reloaded>;
}

export interface AdminServer {
  close(): Promise<void>;
}

/** @throws {Fault} `cannot-write` when the socket cannot be made. */
export async function openAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { socketPath, log } = options;
  const server = createServer({ requestTimeout: requestMsMax, keepAlive: false }, (request, response) => {
    answer(request, response, options).catch((error: unknown) => {
      log.error({ error: Fault.from(error).message }, 'admin request');
      response.destroy();
    });
  });
  server.maxConnections = connectionsMax;
  await rm(socketPath, { force: true });
  // The mask counts when `listen` binds, in this turn of the loop.
  const mask = process.umask(0o177);
  try {
    server.listen(socketPath);
  } finally {
    process.umask(mask);
  }
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Fault('cannot-write', `${socketPath}: the admin socket cannot be made; mend its directory`, {
      cause,
    });
  }
  return {
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: AdminServerOptions,
): Promise<void> {
  const send = (status: number, value: unknown): void => {
    const text = JSON.stringify(value);
    if (response.headersSent) return void response.end(text);
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    });
    response.end(text);
  };
  let op = '';
  let beat: NodeJS.Timeout | undefined;
  try {
    if (request.method !== 'POST' || request.url !== controlPath)
      throw new Fault('bad-argument', `only POST ${controlPath} is served here`);
    const control = checkRequest(await readBody(request));
    op = control.op;
    if (op === 'account-maintain' || op === 'member-restart') {
      // Minutes for a large account or a busy member: a space now and then says that somebody is at work.
      beat = setInterval(() => {
        if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' });
        response.write(' ');
      }, beatMs);
    }
    const result = await perform(control, options);
    options.log.info({ op, ...subjectOf(control) }, 'admin');
    send(200, result);
  } catch (error) {
    const fault = Fault.from(error);
    const facts = {
      op,
      code: fault.code,
      error: fault.message,
      ...(fault.whose === 'bug' ? { stack: fault.stack } : {}),
    };
    options.log.warn(facts, 'admin request refused');
    const message = fault.code === 'bug' ? 'the supervisor met a defect; its log says which' : fault.message;
    send(statusOf(fault), { error: fault.code satisfies FaultCode, message });
  } finally {
    clearInterval(beat);
  }
}

async function perform(request: ControlRequest, options: AdminServerOptions): Promise<unknown> {
  const { registry, router, certificates } = options;
  switch (request.op) {
    case 'account-add': {
      const { domain } = addressParts(request.address);
      await needAccountRoom(registry, router, domain);
      return askOwner(router, request);
    }
    case 'account-show':
    case 'account-remove':
    case 'account-passwd':
    case 'account-quota':
    case 'account-maintain':
      return askOwner(router, request);
    case 'alias-add': {
      await needDomain(registry, addressParts(request.address).domain);
      // It has to lead to an account that is there now; whatever becomes of it later.
      await askOwner(router, { op: 'account-show', address: request.target });
      return askOwner(router, request);
    }
    case 'alias-remove':
      return askOwner(router, request);
    case 'alias-list':
      await needDomain(registry, request.domain);
      return listAliases(router, request.domain, request.after, request.countMax);
    case 'account-list':
      await needDomain(registry, request.domain);
      return listAccounts(router, request.domain, request.after, request.countMax);
    case 'domain-add':
      if ((await recordDomain(registry, request.domain, request.by)) === undefined)
        throw new Fault('already-exists', `${request.domain} is a domain of this cluster already`);
      return { domain: request.domain };
    case 'domain-list':
      return listDomains(registry);
    case 'domain-quota':
      return setDomainLimits(registry, request);
    case 'cluster-status':
      return clusterStatus(options);
    case 'cert-list':
      return { certificates: await certificates.list() };
    case 'cert-renew': {
      const renewed = await certificates.renew(request.name);
      if (renewed.length === 0)
        throw new Fault('bad-argument', `there is no certificate "${request.name}"; see "postern cert list"`);
      return { renewed };
    }
    case 'domain-remove': {
      const { domain, by } = request;
      await needDomain(registry, domain);
      await needEmptyDomain(router, domain);
      const wanted = {
        by,
        what: `remove domain ${domain}`,
        key: registryKey.domain(domain),
        after: () => undefined,
      };
      await changeAndRecord(registry, wanted, Date.now());
      return { domain };
    }
    case 'settings-set':
    case 'settings-unset':
    case 'settings-show':
    case 'settings-history':
    case 'settings-revert':
    case 'ban-add':
    case 'ban-remove':
    case 'ban-list':
    case 'reload':
      return performSettings(request, {
        registry,
        configuration: options.configuration,
        reload: options.reload,
        needEmptyDomain: (domain) => needEmptyDomain(router, domain),
      });
    default:
      return performCluster(request, options);
  }
}

/** @returns `undefined` when it is there already. */
function recordDomain(registry: Registry, domain: string, by: string) {
  const after = JSON.stringify({ name: domain });
  const wanted = { by, what: `add domain ${domain}`, key: registryKey.domain(domain), after: () => after };
  return changeAndRecord(registry, wanted, Date.now());
}

/** @throws {Fault} `not-allowed` */
async function needEmptyDomain(router: Router, domain: string): Promise<void> {
  const { accounts } = await listAccounts(router, domain, undefined, 1);
  if (accounts.length > 0)
    throw new Fault(
      'not-allowed',
      `${domain} has accounts, ${accounts[0]} among them; remove them first: nobody could log in to them`,
    );
  const { aliases } = await listAliases(router, domain, undefined, 1);
  if (aliases.length > 0)
    throw new Fault(
      'not-allowed',
      `${domain} has aliases, ${aliases[0]!.address} among them; remove them first`,
    );
}

async function needDomain(registry: Registry, domain: string): Promise<void> {
  if ((await registry.get(registryKey.domain(domain))) !== undefined) return;
  throw noSuchDomain(domain);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > controlRequestBytesMax) throw new Fault('bad-argument', 'the request is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function statusOf(fault: Fault): number {
  if (fault.whose === 'client' || fault.whose === 'operator') return 400;
  return fault.whose === 'peer' ? 503 : 500;
}
