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
import { addressParts, canonicalAddress, canonicalDomain } from '../cluster-protocol/ids.ts';
import type { GivenSecret } from '../cluster-protocol/link.ts';
import { maintenanceTask } from '../cluster-protocol/maintenance.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { isDrained } from '../cluster-protocol/wishes.ts';
import type { Router } from '../gateway/routing/router.ts';
import { askMember, askOwner, listAccounts } from './account-work.ts';
import type { Certificates } from './certificates.ts';
import { backendsOf, heldBy, readFacts, unsettled } from './cluster-facts.ts';
import type { ClusterRecord } from './cluster-record.ts';
import { clusterRequest } from './cluster-requests.ts';
import { performCluster } from './cluster-work.ts';
import {
  accountsPerPageMax,
  type ClusterStatus,
  type ControlRequest,
  controlPath,
  controlRequestBytesMax,
  type MemberStatus,
} from './control.ts';
import { addDomain } from './first-account.ts';
import type { MemberRole } from './member-process.ts';

const connectionsMax = 64;
const requestMsMax = 30_000;
const passwordBytesMax = 1024;
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
      await needDomain(registry, domain);
      return askOwner(router, request);
    }
    case 'account-show':
    case 'account-remove':
    case 'account-passwd':
    case 'account-quota':
    case 'account-maintain':
      return askOwner(router, request);
    case 'account-list':
      await needDomain(registry, request.domain);
      return listAccounts(router, request.domain, request.after, request.countMax);
    case 'domain-add':
      if (!(await addDomain(registry, request.domain)))
        throw new Fault('already-exists', `${request.domain} is a domain of this cluster already`);
      return { domain: request.domain };
    case 'domain-list': {
      const { entries } = await registry.list(registryKey.domainPrefix);
      return { domains: entries.map((entry) => entry.key.slice(registryKey.domainPrefix.length)) };
    }
    case 'cluster-status':
      return status(options);
    case 'cert-list':
      return { certificates: await certificates.list() };
    case 'cert-renew': {
      const renewed = await certificates.renew(request.name);
      if (renewed.length === 0)
        throw new Fault('bad-argument', `there is no certificate "${request.name}"; see "postern cert list"`);
      return { renewed };
    }
    default:
      return performCluster(request, options);
  }
}

async function needDomain(registry: Registry, domain: string): Promise<void> {
  if ((await registry.get(registryKey.domain(domain))) !== undefined) return;
  throw new Fault(
    'no-such-domain',
    `${domain} is not a domain of this cluster; add it with "postern domain add ${domain}"`,
  );
}

async function status(options: AdminServerOptions): Promise<ClusterStatus> {
  const { registry, router, cluster } = options;
  const [facts, domains] = await Promise.all([readFacts(registry), registry.list(registryKey.domainPrefix)]);
  const here = options.members();
  const elsewhere = [...facts.members.values()].filter(({ id }) => !here.some((member) => member.id === id));
  const members = await Promise.all(
    [
      ...here,
      // Of other machines the registry tells: registered there means serving.
      ...elsewhere.map(({ id, role, pid }) => ({ id, role, pid, isReady: true, restarts: 0 })),
    ].map(async (member): Promise<MemberStatus> => {
      const record = facts.members.get(member.id);
      const base = {
        id: member.id,
        role: member.role,
        pid: member.pid,
        ready: member.isReady,
        restarts: member.restarts,
        registered: record !== undefined,
        address: record?.address ?? '',
        release: record?.release ?? '',
        ...(record === undefined ? {} : { versions: record.versions }),
      };
      if (member.role === 'gateway') return base;
      const own = (await askMember(router, member.id, { op: 'status' }).catch(() => ({}))) as {
        openAccounts?: number;
        memoryBytes?: number;
        sessions?: number;
        leaseLeftMs?: number;
      };
      const { shards, pins } = heldBy(facts, member.id);
      const drained = record !== undefined && isDrained(facts.wishes, member.id, record.incarnation);
      return { ...base, shards, pins, weight: record?.weight ?? 1, drained, ...own };
    }),
  );
  const { moves, free } = unsettled(facts);
  return {
    cluster: cluster.id,
    shardCount: cluster.shardCount,
    storageRoot: options.storageRoot,
    controller: facts.controller,
    freeShards: facts.map === undefined ? cluster.shardCount : free,
    moves,
    epoch: (facts.map?.nextEpoch ?? 1) - 1,
    pins: facts.map?.pins.size ?? 0,
    movedShards: facts.wishes.shards.size,
    domains: domains.entries.length,
    backends: backendsOf(facts).length,
    members,
  };
}

/** Checks the form; names come out canonical. @throws {Fault} `bad-argument`, `bad-name` */
function checkRequest(body: string): ControlRequest {
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(body) as Record<string, unknown>;
  } catch (cause) {
    throw new Fault('bad-argument', 'the request is not JSON', { cause });
  }
  const text = (name: string, bytesMax = 1024): string => {
    const value = raw?.[name];
    if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > bytesMax)
      throw new Fault('bad-argument', `${name} is missing, empty or too long`);
    return value;
  };
  const count = (name: string, max: number): number => {
    const value = raw[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max)
      throw new Fault('bad-argument', `${name} is not a whole number up to ${max}`);
    return value;
  };
  const secret = (): GivenSecret => {
    if (raw.hash !== undefined) return { hash: text('hash', passwordBytesMax) };
    const value = text('password', passwordBytesMax);
    // RFC 4616: NUL separates the parts of PLAIN; line ends cannot be typed in IMAP quoted strings.
    if (/[\0\r\n]/.test(value))
      throw new Fault('bad-argument', 'a password cannot hold NUL or line ends; choose another');
    return { password: value };
  };
  switch (raw?.op) {
    case 'account-add':
      return {
        op: raw.op,
        address: canonicalAddress(text('address')),
        ...secret(),
        ...(raw.quotaBytes === undefined ? {} : { quotaBytes: count('quotaBytes', Number.MAX_SAFE_INTEGER) }),
      };
    case 'account-passwd':
      return {
        op: raw.op,
        address: canonicalAddress(text('address')),
        ...secret(),
      };
    case 'account-quota': {
      const quota = (name: 'bytes' | 'messages') =>
        raw[name] === undefined
          ? {}
          : { [name]: raw[name] === null ? null : count(name, Number.MAX_SAFE_INTEGER) };
      return {
        op: raw.op,
        address: canonicalAddress(text('address')),
        ...quota('bytes'),
        ...quota('messages'),
      };
    }
    case 'account-maintain':
      return {
        op: raw.op,
        address: canonicalAddress(text('address')),
        task: maintenanceTask(raw.task),
      };
    case 'account-show':
    case 'account-remove':
      return { op: raw.op, address: canonicalAddress(text('address')) };
    case 'account-list':
      return {
        op: raw.op,
        domain: canonicalDomain(text('domain')),
        countMax: Math.max(1, count('countMax', accountsPerPageMax)),
        ...(raw.after === undefined ? {} : { after: text('after') }),
      };
    case 'domain-add':
      return { op: raw.op, domain: canonicalDomain(text('domain')) };
    case 'domain-list':
    case 'cluster-status':
    case 'cert-list':
      return { op: raw.op };
    case 'cert-renew':
      return { op: raw.op, ...(raw.name === undefined ? {} : { name: text('name') }) };
    default: {
      const request = clusterRequest(raw);
      if (request !== undefined) return request;
      throw new Fault('bad-argument', 'there is no such operation');
    }
  }
}

/** For the log: whom it was about, never a password. */
function subjectOf(request: ControlRequest): Record<string, string> {
  const by = 'by' in request ? { by: request.by } : {};
  if ('address' in request) return { account: request.address, ...by };
  if ('domain' in request) return { domain: request.domain };
  if ('member' in request && request.member !== undefined) return { name: request.member, ...by };
  return by;
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
