/** Account work of the `postern` command, done by the owner of the account: JSON in, JSON out. */
import type { ServerHttp2Stream } from 'node:http2';
import { Fault, isFault } from '../../base/fault.ts';
import { canonicalAddress, canonicalDomain } from '../../cluster-protocol/ids.ts';
import { type AdminRequest, type GivenSecret, linkStatus } from '../../cluster-protocol/link.ts';
import { maintenanceTask } from '../../cluster-protocol/maintenance.ts';
import type { NewSecret } from '../accounts/accounts.ts';
import type { Aliases } from '../accounts/aliases.ts';
import { answerJson, factsOf, ownerHint, statusOf } from './answers.ts';
import type { Service, ServiceContext } from './service.ts';
import { sessionsNow } from './session-count.ts';

export const adminRequestBytesMax = 64 * 1024;
export const passwordBytesMax = 1024;
export const accountsPerListMax = 10_000;
const bodyMs = 10_000;
/** Operations that change nothing. */
const onlyAsks: ReadonlySet<AdminRequest['op']> = new Set(['account-show', 'account-sessions']);
/** Work on an account that takes longer is answered while it runs. */
const quickMs = 1000;
const beatMs = 10_000;

/**
 * `/admin`: body JSON `AdminRequest`. 200 with the answer's JSON (`AccountSummary`, `{ accounts }`, `{ ok: true }`
 * or a status), else `{ error: FaultCode, message }` with 400, 404, 421 (and the owner), 500 or 503.
 */
export const adminService: Service = async (stream, opening, context) => {
  stream.on('error', () => {});
  let request: AdminRequest | undefined;
  try {
    request = adminRequest(await readBody(stream, adminRequestBytesMax, bodyMs));
    if (request.op === 'account-maintain') {
      await maintainSlowly(stream, request, opening.trace, context);
      return;
    }
    const answer = await perform(request, context);
    if ('address' in request && !onlyAsks.has(request.op)) {
      context.log.info({ trace: opening.trace, op: request.op, account: request.address }, 'account changed');
    }
    answerJson(stream, linkStatus.accepted, answer);
  } catch (error) {
    const address = request !== undefined && 'address' in request ? request.address : undefined;
    context.log.warn(
      { trace: opening.trace, op: request?.op, account: address, ...factsOf(error) },
      'admin request failed',
    );
    const status = statusOf(error);
    const hint = status === linkStatus.notOwner && address !== undefined ? ownerHint(context, address) : {};
    answerJson(stream, status, errorOf(error), hint);
  }
};

/** Work that may take minutes: the head goes out at once, then a space now and then, so that nobody gives up on it. */
async function maintainSlowly(
  stream: ServerHttp2Stream,
  { address, task }: AdminRequest & { readonly op: 'account-maintain' },
  trace: string,
  context: ServiceContext,
): Promise<void> {
  const standing = context.owns(address);
  if (!standing.ok) throw new Fault('not-owner', 'another backend owns this account', { detail: standing });
  const working = context.accounts.maintain(address, task);
  const early = await Promise.race([
    working.then(
      () => true,
      () => true,
    ),
    new Promise<false>((resolve) => setTimeout(resolve, quickMs, false)),
  ]);
  // What fails at once is answered with the status it has.
  if (early) {
    answerJson(stream, linkStatus.accepted, await working);
  } else {
    stream.respond({ ':status': linkStatus.accepted, 'content-type': 'application/json' });
    const beat = setInterval(() => stream.writable && stream.write(' '), beatMs);
    const result = await working
      .catch((error: unknown) => {
        context.log.warn(
          { trace, op: task.kind, account: address, ...factsOf(error) },
          'account work failed',
        );
        return errorOf(error);
      })
      .finally(() => clearInterval(beat));
    stream.end(JSON.stringify(result));
  }
  context.log.info({ trace, op: task.kind, account: address }, 'account work done');
}

function errorOf(error: unknown): { error: string; message: string } {
  return isFault(error)
    ? { error: error.code, message: error.message }
    : { error: 'bug', message: 'the backend failed; its log says why' };
}

async function perform(
  request: Exclude<AdminRequest, { op: 'account-maintain' }>,
  context: ServiceContext,
): Promise<unknown> {
  const { accounts } = context;
  if ('address' in request) {
    const standing = context.owns(request.address);
    if (!standing.ok) throw new Fault('not-owner', 'another backend owns this account', { detail: standing });
  }
  switch (request.op) {
    case 'account-add':
      return await accounts.add(request.address, newSecret(request), {
        ...(request.quotaBytes === undefined ? {} : { bytes: request.quotaBytes }),
      });
    case 'account-quota':
      return await accounts.setQuota(request.address, request);
    case 'account-show':
      return await accounts.show(request.address);
    case 'account-passwd':
      await accounts.setPassword(request.address, newSecret(request));
      return { ok: true };
    case 'account-remove':
      await accounts.remove(request.address);
      return { ok: true };
    case 'account-list':
      return { accounts: await accounts.list(request.domain, request.after, request.countMax) };
    case 'alias-add':
      return await aliasesOf(context).add(request.address, request.target);
    case 'alias-remove':
      return await aliasesOf(context).remove(request.address, request.target);
    case 'alias-list':
      return { aliases: await aliasesOf(context).list(request.domain, request.after, request.countMax) };
    case 'account-sessions':
      return { sessions: sessionsNow(request.address) };
    case 'status':
      return {
        openAccounts: accounts.openCount,
        memoryBytes: process.memoryUsage.rss(),
        sessions: sessionsNow(),
        leaseLeftMs: Math.round(context.leaseLeftMs?.() ?? 0),
      };
  }
}

/**
 * Checks the form of a request; nothing is taken over that is not named in `AdminRequest`.
 * @throws {Fault} `bad-syntax`, `bad-name`
 */
export function adminRequest(body: Buffer): AdminRequest {
  let raw: unknown;
  try {
    raw = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new Fault('bad-syntax', 'the request is not JSON', { cause });
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new Fault('bad-syntax', 'the request is not a JSON object');
  }
  const fields = raw as Record<string, unknown>;
  const { op } = fields;
  switch (op) {
    case 'status':
      return { op };
    case 'account-show':
    case 'account-sessions':
    case 'account-remove':
      return { op, address: addressIn(fields) };
    case 'account-quota':
      return {
        op,
        address: addressIn(fields),
        ...quotaIn(fields, 'bytes'),
        ...quotaIn(fields, 'messages'),
      };
    case 'account-maintain':
      return { op, address: addressIn(fields), task: maintenanceTask(fields.task) };
    case 'account-passwd':
      return { op, address: addressIn(fields), ...secretIn(fields) };
    case 'account-add': {
      const request = { op, address: addressIn(fields), ...secretIn(fields) } as const;
      if (fields.quotaBytes === undefined) return request;
      return { ...request, quotaBytes: countIn(fields, 'quotaBytes', Number.MAX_SAFE_INTEGER) };
    }
    case 'alias-add':
      return { op, address: addressIn(fields), target: addressIn(fields, 'target') };
    case 'alias-remove':
      return {
        ...{ op, address: addressIn(fields) },
        ...(fields.target === undefined ? {} : { target: addressIn(fields, 'target') }),
      };
    case 'alias-list':
    case 'account-list': {
      const request = {
        op,
        domain: canonicalDomain(textIn(fields, 'domain', 253)),
        countMax: countIn(fields, 'countMax', accountsPerListMax),
      } as const;
      return fields.after === undefined ? request : { ...request, after: textIn(fields, 'after', 1024) };
    }
    default:
      throw new Fault('bad-syntax', 'there is no such operation');
  }
}

function aliasesOf({ aliases }: ServiceContext): Aliases {
  if (aliases === undefined) throw new Fault('unavailable', 'this backend has no aliases');
  return aliases;
}

function addressIn(fields: Record<string, unknown>, name = 'address'): string {
  const text = textIn(fields, name, 1024);
  const address = canonicalAddress(text);
  // The stream was routed by the canonical name; any other spelling was routed by chance.
  if (address !== text) throw new Fault('bad-name', 'the address is not in its canonical form');
  return address;
}

function secretIn(fields: Record<string, unknown>): GivenSecret {
  if (fields.hash !== undefined) return { hash: textIn(fields, 'hash', passwordBytesMax) };
  const password = textIn(fields, 'password', passwordBytesMax);
  if (password === '') throw new Fault('bad-syntax', 'a password cannot be empty');
  return { password };
}

function newSecret(given: GivenSecret): NewSecret {
  return 'hash' in given ? { hash: given.hash } : given.password;
}

function quotaIn(fields: Record<string, unknown>, name: 'bytes' | 'messages'): object {
  if (fields[name] === undefined) return {};
  return { [name]: fields[name] === null ? null : countIn(fields, name, Number.MAX_SAFE_INTEGER) };
}

function textIn(fields: Record<string, unknown>, name: string, bytesMax: number): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new Fault('bad-syntax', `${name} is not a text`);
  if (Buffer.byteLength(value) > bytesMax)
    throw new Fault('bad-syntax', `${name} is longer than ${bytesMax} bytes`);
  return value;
}

function countIn(fields: Record<string, unknown>, name: string, max: number): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max) {
    throw new Fault('bad-syntax', `${name} is not a whole number up to ${max}`);
  }
  return value;
}

/**
 * A whole small body.
 * @throws {Fault} `command-too-big` past `bytesMax`; `deadline-passed` when it takes longer than `deadlineMs`;
 *     `peer-protocol` when the stream breaks off.
 */
export async function readBody(
  stream: ServerHttp2Stream,
  bytesMax: number,
  deadlineMs: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const late = new Fault('deadline-passed', 'the request body took too long');
  const timer = setTimeout(() => stream.destroy(late), deadlineMs);
  try {
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax)
        throw new Fault('command-too-big', `the request is larger than ${bytesMax} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault('peer-protocol', 'the request broke off', { cause });
  } finally {
    clearTimeout(timer);
  }
  if (stream.aborted) throw new Fault('peer-protocol', 'the request broke off');
  return Buffer.concat(chunks, bytes);
}
