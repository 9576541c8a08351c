/**
 * Reads the headers with which a gateway opens a stream. Gateways are ours and
 * known by certificate or socket mode, but versions differ and defects happen:
 * what is not in form is refused, never guessed.
 */
import type { IncomingHttpHeaders } from 'node:http2';
import { Fault } from '../../base/fault.ts';
import { parseAddress } from '../../base/settings.ts';
import { type Address, canonicalAddress } from '../../cluster-protocol/ids.ts';
import {
  type Credentials,
  credentialBytesMax,
  linkHeader,
  type ServiceName,
  versionsSpoken,
} from '../../cluster-protocol/link.ts';
import type { Opening } from '../serve/service.ts';

/** Services whose opening names one account, which this backend must own. Others check ownership themselves. */
const ofOneAccount: Readonly<Record<ServiceName, boolean>> = {
  imap: true,
  pop3: true,
  recipient: true,
  login: true,
  http: true,
  deliver: false,
  settle: false,
  admin: false,
};

/** Base64 of JSON, in which a character may be escaped. */
const credentialsCharsMax = 2 * credentialBytesMax;
const traceForm = /^[\w.:-]{1,64}$/;

/** The service a `:path` names. */
export function serviceOfPath(path: string | undefined): ServiceName | undefined {
  const name = path?.slice(1) ?? '';
  return path === `/${name}` && Object.hasOwn(ofOneAccount, name) ? (name as ServiceName) : undefined;
}

/** Does this backend speak the version the opening is written in? The current one and the one before it. */
export function speaksVersion(headers: IncomingHttpHeaders): boolean {
  const version = single(headers, linkHeader.version);
  if (version === undefined || !/^\d{1,6}$/.test(version)) return false;
  const [oldest, newest] = versionsSpoken;
  return oldest <= Number(version) && Number(version) <= newest;
}

/**
 * @returns The opening; `account` is empty for services that are not of one account.
 * @throws {Fault} `bad-syntax`, `bad-name`
 */
export function readOpening(service: ServiceName, headers: IncomingHttpHeaders): Opening {
  const account = ofOneAccount[service] ? accountOf(headers) : '';
  const credentials = credentialsOf(headers);
  // Taken out so that nobody logs it with the other headers.
  delete headers[linkHeader.credentials];
  // Whose password is checked and whose account is opened must be the same name.
  if (credentials !== undefined && account !== '' && credentials.user !== account)
    throw bad('the credentials are of another account');
  const trace = single(headers, linkHeader.trace) ?? '';
  if (trace !== '' && !traceForm.test(trace)) throw bad('the trace id is malformed');
  const epoch = single(headers, linkHeader.epoch) ?? '0';
  if (!/^\d{1,16}$/.test(epoch)) throw bad('the epoch is malformed');
  return {
    account,
    epoch: Number(epoch),
    client: clientOf(headers),
    tls: single(headers, linkHeader.tls),
    trace,
    credentials,
    headers,
  };
}

function accountOf(headers: IncomingHttpHeaders): Address {
  const text = single(headers, linkHeader.account);
  if (text === undefined) throw bad('the opening names no account');
  const account = decoded(text);
  if (canonicalAddress(account) !== account) throw bad('the account is not in its canonical spelling');
  return account;
}

function clientOf(headers: IncomingHttpHeaders): Opening['client'] {
  const text = single(headers, linkHeader.client);
  if (text === undefined) return { address: '', port: 0 };
  const client = parseAddress(text);
  if (client === undefined) throw bad('the client address is malformed');
  return { address: client.host, port: client.port };
}

function credentialsOf(headers: IncomingHttpHeaders): Credentials | undefined {
  const text = single(headers, linkHeader.credentials);
  if (text === undefined) return undefined;
  if (text.length > credentialsCharsMax) throw bad('the credentials are too long');
  let raw: Partial<Record<string, unknown>> | null;
  try {
    raw = JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
  } catch {
    // Without a cause: a parser's message may quote the password.
    throw bad('the credentials are malformed');
  }
  const { mechanism, user } = raw ?? {};
  if (typeof user === 'string') {
    const { password, authMessage, proof, token } = raw ?? {};
    if (mechanism === 'password' && typeof password === 'string') return { mechanism, user, password };
    if (mechanism === 'token' && typeof token === 'string') return { mechanism, user, token };
    if (mechanism === 'scram' && typeof authMessage === 'string' && typeof proof === 'string')
      return { mechanism, user, authMessage, proof };
  }
  throw bad('the credentials are malformed');
}

function single(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  if (Array.isArray(value)) throw bad(`${name} is given twice`);
  return value;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw bad('the percent-encoding is malformed');
  }
}

function bad(message: string): Fault {
  return new Fault('bad-syntax', message);
}
