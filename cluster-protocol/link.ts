/**
 * What travels between a gateway and a backend: one HTTP/2 stream per client
 * session or request (DESIGN section 3). This file names the headers and the
 * answers; the streams themselves are the session's own bytes, unframed.
 */
import type { Address, Epoch, MemberId } from './ids.ts';
import type { MaintenanceTask } from './maintenance.ts';

/** A member speaks this version and the one before it. */
export const protocolVersion = 1;
/** What a member says in its record; a link between two members speaks `commonVersion` of both. */
export const versionsSpoken: readonly [oldest: number, newest: number] = [
  Math.max(1, protocolVersion - 1),
  protocolVersion,
];

/** The newest version both speak; `undefined` when there is none. */
export function commonVersion(
  a: readonly [oldest: number, newest: number],
  b: readonly [oldest: number, newest: number],
): number | undefined {
  const newest = Math.min(a[1], b[1]);
  return newest >= a[0] && newest >= b[0] ? newest : undefined;
}

/**
 * Services of a backend, as `:path`.
 * - `/imap`, `/pop3`: opens with credentials, or with the state of a session that ran at another owner; the stream then
 *   carries the session after login, both ways.
 * - `/recipient`: may this address receive mail of this size? No body. 200, 404 no such account, 413 over quota.
 * - `/deliver`: body is the message as stored. Answer: `outcomes` when every recipient has it durably, else a body,
 *   JSON `DeliveryAnswer[]`, one per recipient.
 * - `/settle`: the senders have seen their 250s: the delivery keys in `settled` need not be kept. Answer 200, best effort.
 * - `/login`: checks credentials only (submission, SCRAM). 200 or 401. With `scramStart` in place of credentials: what a
 *   SCRAM exchange of the account begins with, whether there is such an account or not.
 * - `/http`: one HTTP request of a logged-in user (JMAP); inner status in `postern-status`.
 * - `/admin`: JSON `AdminRequest` in, JSON out: account work of the command line, answered by the owner.
 * - `/domain`: does the backend ... (domains stand in the registry; there is no such service.)
 */
export type ServiceName = 'imap' | 'pop3' | 'recipient' | 'deliver' | 'settle' | 'login' | 'http' | 'admin';

/** Request headers. Texts that may hold other than printable ASCII are percent-encoded. */
export const linkHeader = {
  version: 'postern-version',
  /** Canonical address; `/deliver` uses `recipients` instead. */
  account: 'postern-account',
  /** `/deliver`: comma-separated canonical addresses, percent-encoded each, all of one owner; at most `recipientsPerDeliveryMax`. */
  recipients: 'postern-recipients',
  /** The epoch the gateway believes in (of the account's shard), decimal. */
  epoch: 'postern-epoch',
  /** The client's true address and port: `[2001:db8::1]:4711` or `192.0.2.1:4711`. */
  client: 'postern-client',
  /** `TLSv1.3 TLS_AES_256_GCM_SHA384`, or absent without TLS. */
  tls: 'postern-tls',
  /** Trace id: follows a message or session through all logs. */
  trace: 'postern-trace',
  /** base64 of JSON `Credentials`; sent as a never-indexed header. */
  credentials: 'postern-credentials',
  /** `/login`: `1` asks for `scramSalt`. */
  scramStart: 'postern-scram-start',
  /** `/imap`, `/pop3`: `1` when both ends frame the backend's bytes as `session-marks.ts` says; in the answer too. */
  marks: 'postern-marks',
  /** `/imap`, with `marks`: `1` when the gateway can compress the client's side (RFC 4978). */
  compress: 'postern-compress',
  /**
   * base64 of the state of a session's checkpoint. In an opening: in place of credentials, the session goes on from
   * there. In the answer to a login: the first checkpoint.
   */
  state: 'postern-state',
  /** With `state`: what else the new owner has to know, see `formatTaking`. */
  taking: 'postern-taking',
  /** `/deliver`: reverse-path without brackets, percent-encoded, may be empty. */
  reversePath: 'postern-reverse-path',
  /** `/deliver`: `junk`, or absent for the inbox. */
  fileInto: 'postern-file-into',
  /** `/deliver`, `/recipient`: message bytes, decimal. */
  size: 'postern-size',
  /** `/settle`: comma-separated `key=address`, the address percent-encoded; at most `settledPerRequestMax`. */
  settled: 'postern-settled',
  /** `/deliver`: 32 hex digits; the same for a retry of the same message by its sender. */
  deliveryKey: 'postern-delivery-key',
  /** `/http`: inner method and path with query. */
  httpMethod: 'postern-http-method',
  httpPath: 'postern-http-path',
  /** Host and port the client asked, checked by the gateway: what the answer's own addresses are made from. */
  httpAuthority: 'postern-http-authority',
  httpContentType: 'content-type',
  // answers
  /** Answer of `/recipient` for an alias: comma-separated canonical addresses of accounts, percent-encoded each. */
  alias: 'postern-alias',
  /** Answer of `/deliver`: `stored` or `already`, comma-separated, in the order of `recipients`. */
  outcomes: 'postern-outcomes',
  /** Answer of `not-owner`: who is, and at what epoch. */
  owner: 'postern-owner',
  /** Answer of refused openings: a `RefusalReason`. */
  reason: 'postern-reason',
  /** Answer of `/imap`, `/pop3`: the capability list after login, space-separated. */
  capability: 'postern-capability',
  /** Answer of `/login` to `scramStart`: base64 of the salt, a comma, the iterations. */
  scramSalt: 'postern-scram-salt',
  /** Answer of `/login` to a good SCRAM proof: base64 of the server's signature, for the client. */
  scramSignature: 'postern-scram-signature',
  /** Answer of `/http`. */
  httpStatus: 'postern-status',
} as const;

/** `:status` of an answer. */
export const linkStatus = {
  accepted: 200,
  badRequest: 400,
  /** Credentials were wrong, or the account does not exist: never told apart. */
  refused: 401,
  noSuchAccount: 404,
  /** The session of `state` cannot be taken up again. */
  notResumable: 409,
  overQuota: 413,
  /** This backend does not own the account: see `owner` and `epoch`. */
  notOwner: 421,
  versionUnknown: 426,
  failed: 500,
  busy: 503,
  noSpace: 507,
} as const;

export type RefusalReason = 'credentials' | 'disabled' | 'limit' | 'busy';

export const recipientsPerDeliveryMax = 100;
/** Accounts an alias may lead to. */
export const aliasTargetsMax = 50;
export const settledPerRequestMax = 100;
/** Longest body of an `/http` request, in bytes; announced to JMAP clients as `maxSizeRequest`. */
export const httpBodyBytesMax = 1024 * 1024;
/** Flow-control window of one stream, in bytes: what a slow client can make its gateway or backend hold. */
export const streamWindowBytes = 256 * 1024;
/**
 * Flow-control window of one link, in bytes. Node gives link credit back on arrival, so a stream nobody reads does
 * not use it up. It is safe above the kernel's buffers (about 208 KiB on a Unix socket) only because the backend's
 * end reads on while it writes: see `backend/cluster/draining-socket.ts`.
 */
export const linkWindowBytes = 1024 * 1024;

/** What a client proves itself with. Only the owner of the account judges it; it may be judged more than once. */
export type Credentials =
  | { readonly mechanism: 'password'; readonly user: Address; readonly password: string }
  /** The gateway has carried the exchange and checked nonce and channel binding; `proof` is base64. */
  | {
      readonly mechanism: 'scram';
      readonly user: Address;
      readonly authMessage: string;
      readonly proof: string;
    }
  /** An OAuth access token. */
  | { readonly mechanism: 'token'; readonly user: Address; readonly token: string };

/** Longest token, SCRAM message or password in credentials, in bytes. */
export const credentialBytesMax = 8192;

export interface DeliveryAnswer {
  readonly recipient: Address;
  /** `already`: an earlier attempt with the same delivery key had stored it. */
  readonly outcome:
    | 'stored'
    | 'already'
    | 'no-such-account'
    | 'over-quota'
    | 'no-space'
    | 'not-owner'
    | 'too-big'
    | 'failed';
  /** For the log. */
  readonly detail?: string;
}

/** A password, or a hash of one that another server made: `{SHA512-CRYPT}$6$…`. */
export type GivenSecret = { readonly password: string } | { readonly hash: string };

export type AdminRequest =
  | ({
      readonly op: 'account-add';
      readonly address: Address;
      readonly quotaBytes?: number;
    } & GivenSecret)
  | { readonly op: 'account-show' | 'account-remove' | 'account-sessions'; readonly address: Address }
  | ({ readonly op: 'account-passwd'; readonly address: Address } & GivenSecret)
  /** Bytes and messages: 0 for no limit, null for the site's default, absent for what it was. */
  | {
      readonly op: 'account-quota';
      readonly address: Address;
      readonly bytes?: number | null;
      readonly messages?: number | null;
    }
  /** Minutes for a large account: spaces come before the answer's JSON, and `{ error, message }` may follow a 200. */
  | { readonly op: 'account-maintain'; readonly address: Address; readonly task: MaintenanceTask }
  /** Every account of the domain this backend owns (asked of each backend), sorted, after `after`, at most `countMax`. */
  | {
      readonly op: 'account-list';
      readonly domain: string;
      readonly after?: string;
      readonly countMax: number;
    }
  | { readonly op: 'alias-add'; readonly address: Address; readonly target: Address }
  /** Without `target` the alias goes. */
  | { readonly op: 'alias-remove'; readonly address: Address; readonly target?: Address }
  /** As `account-list`. */
  | {
      readonly op: 'alias-list';
      readonly domain: string;
      readonly after?: string;
      readonly countMax: number;
    }
  | { readonly op: 'status' };

/** What the registry holds under `member/<id>`, bound to the member's lease. */
export interface MemberRecord {
  readonly id: MemberId;
  readonly role: 'gateway' | 'backend';
  /** Where its links are: a Unix socket path, or host:port. */
  readonly address: string;
  /** The machine it runs on, and its Unix socket there, where a cluster has several. */
  readonly machine?: string;
  readonly socket?: string;
  /** Backends: the Unix socket where gateways of this machine open a session's own socket (`session-opening.ts`). */
  readonly sessions?: string;
  readonly versions: readonly [oldest: number, newest: number];
  /** Changes with every start. */
  readonly incarnation: string;
  readonly pid: number;
  /** `processIdentity()` of the member: lets a restarted supervisor see that it is gone. */
  readonly process?: string;
  readonly release: string;
  /** Backends: share of the shards relative to others; 1 when absent. */
  readonly weight?: number;
  /** Backends: true while it hands everything over before it stops. */
  readonly draining?: boolean;
  /** Backends: why it is draining by itself: its storage does not answer, or fails. */
  readonly unwell?: string;
}

export interface OwnerHint {
  readonly owner: MemberId;
  readonly epoch: Epoch;
}
