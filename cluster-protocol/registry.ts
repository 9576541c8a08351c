/**
 * The small strongly consistent store: members under leases, the controller's
 * election, the shard map, domains and cluster settings. Drivers: `embedded`
 * (one machine) and, for several machines, `etcd`. Everything is asynchronous
 * and linearizable; a driver that cannot answer rejects with `registry-failed`.
 */

export interface RegistryEntry {
  readonly key: string;
  readonly value: string;
  /** Revision of the store at which this value was written; grows with every change to any key. */
  readonly revision: number;
  readonly lease?: string | undefined;
}

export type Condition =
  | { readonly key: string; readonly is: 'absent' }
  | { readonly key: string; readonly is: 'at'; readonly revision: number };

export type Change =
  | { readonly put: string; readonly value: string; readonly lease?: string }
  | { readonly remove: string };

export interface WatchEvent {
  readonly kind: 'put' | 'remove';
  readonly key: string;
  /** Empty on `remove`. */
  readonly value: string;
  readonly revision: number;
}

export interface Registry {
  get(key: string): Promise<RegistryEntry | undefined>;
  /** All entries whose key starts with `prefix`, sorted by key, with the revision they were read at. */
  list(prefix: string): Promise<{ entries: RegistryEntry[]; revision: number }>;
  /** Makes all changes if all conditions hold; else none. */
  transact(
    conditions: readonly Condition[],
    changes: readonly Change[],
  ): Promise<{ done: boolean; revision: number }>;
  /**
   * Every change under `prefix` after `fromRevision`, in order, until `signal` ends it. When the driver cannot
   * go back that far or loses its place it calls `resynchronise`, once, and this watch is over: the caller lists
   * again and watches from there. `registry/follow.ts` does all of it.
   */
  watch(
    prefix: string,
    fromRevision: number,
    on: { event(event: WatchEvent): void; resynchronise(): void },
    signal: AbortSignal,
  ): void;
  /** A new lease; keys put under it vanish with it. */
  grantLease(ttlMs: number): Promise<string>;
  /** @throws {Fault} `lease-lost` when the lease is gone: the registry has already removed its keys. */
  renewLease(lease: string): Promise<void>;
  revokeLease(lease: string): Promise<void>;
  close(): Promise<void>;
}

/** Keys of the registry. */
export const registryKey = {
  /** JSON `{ id, shardCount, format }`, written once. */
  cluster: 'cluster',
  member: (id: string) => `member/${id}`,
  memberPrefix: 'member/',
  /** Member id of the controller, under its lease. */
  controller: 'controller',
  /** The shard map, written by the controller alone. */
  shardMap: 'map',
  /** What a backend has released, written by that backend. */
  released: (id: string) => `released/${id}`,
  releasedPrefix: 'released/',
  /** base64 of 32 random bytes, written once: what is shown of accounts that are none is made from it. */
  loginSecret: 'login-secret',
  /** base64 of 32 random bytes, written once: backends sign the tickets of sessions with it. */
  sessionSecret: 'session-secret',
  /** base64 of 32 random bytes, written once: keys of TLS session tickets are made from it. */
  ticketSecret: 'ticket-secret',
  /** The gateway that renews certificates, under its lease. */
  acmeRenewer: 'acme/renewer',
  /** An answer to a challenge of RFC 8555 8.3, under a lease. */
  acmeChallenge: (token: string) => `acme/challenge/${token}`,
  acmeChallengePrefix: 'acme/challenge/',
  /** JSON `{ names, cert, key }`: what was issued. */
  acmeCertificatePrefix: 'acme/certificate/',
  /** PEM of the account's key at the authority. */
  acmeAccount: 'acme/account',
  /** A domain whose accounts live here, and its limits: `domains.ts`. */
  domain: (name: string) => `domain/${name}`,
  domainPrefix: 'domain/',
  /** How busy a backend is, in processor seconds per second; under its lease. */
  load: (id: string) => `load/${id}`,
  loadPrefix: 'load/',
  /** What admins want of the controller: `wishes.ts`. */
  wishPrefix: 'wish/',
  /** JSON of a value as the file would have it: a setting for the whole cluster. */
  setting: (key: string) => `setting/${key}`,
  settingPrefix: 'setting/',
  /** A network nobody may connect from: `bans.ts`. */
  banPrefix: 'ban/',
  /** What admins changed: `change-history.ts`. */
  historyPrefix: 'history/',
  /** Number of the newest of them. */
  historyLast: 'history-last',
  /** The last grants: `move-log.ts`, written by the controller. */
  moves: 'moves',
  /** JSON `MachineRecord` (`machines.ts`): a machine that has joined and not left. */
  machine: (name: string) => `machine/${name}`,
  machinePrefix: 'machine/',
  /** A token with which one machine may join, under a lease that ends with it. */
  joinToken: (id: string) => `join/${id}`,
  /** A machine asks for certificates; under a lease. */
  certificateRequest: (id: string) => `certificate-request/${id}`,
  certificateRequestPrefix: 'certificate-request/',
  /** The answer, under a lease. */
  certificateAnswer: (id: string) => `certificate/${id}`,
} as const;
