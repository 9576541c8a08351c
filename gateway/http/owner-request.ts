/**
 * A checked request on its way to the account's owner: credentials travel with
 * it, so that login and request are one round trip and only the owner remembers
 * what verified.
 */
import type { OutgoingHttpHeaders } from 'node:http2';
import { type Credentials, linkHeader } from '../../cluster-protocol/link.ts';
import { clientHeaders, credentialHeaders } from '../routing/headers.ts';
import type { Session } from '../session/session.ts';
import type { HeaderFields } from './refusals.ts';

/** Fields of an owner's answer that reach the client. */
const passedFields = [
  'content-type',
  'content-length',
  'content-disposition',
  'cache-control',
  'etag',
] as const;

export interface OwnerRequest {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly contentType: string | undefined;
  readonly trace: string;
}

export function ownerHeaders(
  session: Session,
  credentials: Credentials,
  request: OwnerRequest,
): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    ...clientHeaders(session),
    ...credentialHeaders(credentials),
    // A connection carries many requests: each has a trace of its own that starts with the connection's.
    [linkHeader.trace]: request.trace,
    [linkHeader.httpMethod]: request.method,
    [linkHeader.httpPath]: request.path,
    [linkHeader.httpAuthority]: request.authority,
  };
  if (request.contentType !== undefined && /^[\x20-\x7e]{1,255}$/.test(request.contentType)) {
    headers[linkHeader.httpContentType] = request.contentType;
  }
  return headers;
}

/** Status and fields for the client, of an owner's answer with link status 200. */
export function innerAnswer(headers: Readonly<Record<string, string | string[] | undefined>>): {
  status: number;
  fields: HeaderFields;
} {
  const text = headers[linkHeader.httpStatus];
  const status = typeof text === 'string' && /^[2-5]\d\d$/.test(text) ? Number(text) : 502;
  const fields: HeaderFields = {};
  for (const name of passedFields) {
    const value = headers[name];
    if (typeof value === 'string') fields[name] = value;
  }
  return { status, fields };
}
