/** The form of what arrives at the admin socket, before anything is done: names come out canonical. Pure. */
import { Fault } from '../base/fault.ts';
import { canonicalAddress, canonicalDomain } from '../cluster-protocol/ids.ts';
import type { GivenSecret } from '../cluster-protocol/link.ts';
import { maintenanceTask } from '../cluster-protocol/maintenance.ts';
import { clusterRequest } from './cluster-requests.ts';
import { accountsPerPageMax, type ControlRequest } from './control.ts';
import { settingsRequest } from './settings-requests.ts';

const passwordBytesMax = 1024;

/** @throws {Fault} `bad-argument`, `bad-name` */
export function checkRequest(body: string): ControlRequest {
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
  const by = (): string =>
    typeof raw.by === 'string' ? raw.by.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 64) : '';
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
    case 'alias-add':
      return {
        ...{ op: raw.op, address: canonicalAddress(text('address')) },
        target: canonicalAddress(text('target')),
      };
    case 'alias-remove':
      return {
        ...{ op: raw.op, address: canonicalAddress(text('address')) },
        ...(raw.target === undefined ? {} : { target: canonicalAddress(text('target')) }),
      };
    case 'alias-list':
    case 'account-list':
      return {
        op: raw.op,
        domain: canonicalDomain(text('domain')),
        countMax: Math.max(1, count('countMax', accountsPerPageMax)),
        ...(raw.after === undefined ? {} : { after: text('after') }),
      };
    case 'domain-add':
    case 'domain-remove':
      return { op: raw.op, domain: canonicalDomain(text('domain')), by: by() };
    case 'domain-quota': {
      const limit = (name: 'bytes' | 'messages' | 'accounts') =>
        raw[name] === undefined
          ? {}
          : { [name]: raw[name] === null ? null : count(name, Number.MAX_SAFE_INTEGER) };
      return {
        ...{ op: raw.op, domain: canonicalDomain(text('domain')), by: by() },
        ...{ ...limit('bytes'), ...limit('messages'), ...limit('accounts') },
      };
    }
    case 'domain-list':
    case 'cluster-status':
    case 'cert-list':
      return { op: raw.op };
    case 'cert-renew':
      return { op: raw.op, ...(raw.name === undefined ? {} : { name: text('name') }) };
    default: {
      const request = clusterRequest(raw) ?? settingsRequest(raw);
      if (request !== undefined) return request;
      throw new Fault('bad-argument', 'there is no such operation');
    }
  }
}

/** For the log: whom it was about, never a password. */
export function subjectOf(request: ControlRequest): Record<string, string> {
  const by = 'by' in request ? { by: request.by } : {};
  if ('address' in request) return { account: request.address, ...by };
  if ('domain' in request) return { domain: request.domain };
  if ('key' in request) return { setting: request.key, ...by };
  if ('network' in request) return { network: request.network, ...by };
  if ('member' in request && request.member !== undefined) return { name: request.member, ...by };
  return by;
}
