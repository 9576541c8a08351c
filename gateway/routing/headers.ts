/** The headers a stream to a backend opens with (`cluster-protocol/link.ts`). */
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, sensitiveHeaders } from 'node:http2';
import { type Address, canonicalAddress, type Epoch } from '../../cluster-protocol/ids.ts';
import {
  aliasTargetsMax,
  type Credentials,
  linkHeader,
  protocolVersion,
  type ServiceName,
} from '../../cluster-protocol/link.ts';
import type { Session } from '../session/session.ts';

const version = String(protocolVersion);

/** Service, version, epoch: what every stream has. */
export function serviceHeaders(service: ServiceName, epoch: Epoch): OutgoingHttpHeaders {
  return { ':path': `/${service}`, [linkHeader.version]: version, [linkHeader.epoch]: String(epoch) };
}

/** Who the client is, for the owner's log and limits. */
export function clientHeaders(session: Session): OutgoingHttpHeaders {
  const { address, port } = session.client;
  const headers: OutgoingHttpHeaders = {
    [linkHeader.client]: address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
    [linkHeader.trace]: session.id,
  };
  if (session.tls) headers[linkHeader.tls] = `${session.tls.version} ${session.tls.cipher}`;
  return headers;
}

/** Percent-encoded as a whole: `@` and all that is not unreserved. */
export function accountHeader(account: Address): OutgoingHttpHeaders {
  return { [linkHeader.account]: encodeURIComponent(account) };
}

/** Never indexed: a password must not stand in a compression table (RFC 7541 7.1.3). */
export function credentialHeaders(credentials: Credentials): OutgoingHttpHeaders {
  return {
    [linkHeader.credentials]: Buffer.from(JSON.stringify(credentials)).toString('base64'),
    [sensitiveHeaders]: [linkHeader.credentials],
  } as OutgoingHttpHeaders;
}

/** `SALT,ITERATIONS` of an answer to `scramStart`; `undefined` when it is not in form. */
export function scramRecordOf(
  headers: IncomingHttpHeaders,
): { readonly salt: Buffer; readonly iterations: number } | undefined {
  const text = headers[linkHeader.scramSalt];
  const found = typeof text === 'string' ? /^([A-Za-z0-9+/]+={0,2}),(\d{1,8})$/.exec(text) : null;
  return found === null
    ? undefined
    : { salt: Buffer.from(found[1]!, 'base64'), iterations: Number(found[2]) };
}

/** Comma-separated, each percent-encoded, so that no address can be two. */
export function recipientsHeader(recipients: readonly Address[]): OutgoingHttpHeaders {
  return { [linkHeader.recipients]: recipients.map(encodeURIComponent).join(',') };
}

/** Where an alias leads; `undefined` when the answer was about an account. */
export function aliasTargets(
  headers: IncomingHttpHeaders,
): { readonly targets: readonly Address[] } | undefined {
  const text = headers[linkHeader.alias];
  if (typeof text !== 'string') return undefined;
  const targets = new Set<Address>();
  for (const word of text.split(',', aliasTargetsMax)) {
    try {
      targets.add(canonicalAddress(decodeURIComponent(word)));
    } catch {
      // No address: it would lead nowhere.
    }
  }
  return { targets: [...targets] };
}
