/**
 * Accounts of this backend: the only way to an account's data. What is written
 * to an account passes here, where ownership, fence and limits are checked.
 */
import { Fault } from '../../base/fault.ts';
import type { Address } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { MaintenanceTask } from '../../cluster-protocol/maintenance.ts';
import type { Store } from '../store/store.ts';
import type { ScramStart } from './scram-keys.ts';

/** An open account, shared by all its sessions; stays open for a while after the last one leaves. */
export interface Account {
  readonly address: Address;
  readonly store: Store;
  /** Says that the caller no longer needs it. Call once per `open`. */
  release(): void;
  /** Aborts when the account must be left: moved, removed, lease lost. Sessions end with the reason. */
  readonly ended: AbortSignal;
}

/** Why an account is left by sessions that go on at its next owner. */
export function movingFault(reason: string): Fault {
  return new Fault('unavailable', reason, { detail: { moving: true } });
}

/** Is this the reason of an account that goes to another owner (or back to this one)? */
export function isMoving(reason: unknown): boolean {
  return reason instanceof Fault && reason.detail.moving === true;
}

export interface AccountSummary {
  readonly address: Address;
  readonly createdAt: string;
  /** 0: no limit. */
  readonly quotaBytes: number;
  readonly quotaMessages: number;
  readonly usedBytes: number;
  readonly messages: number;
}

/** What an account may hold: 0 for no limit, null for the site's default, absent for what it was. */
export interface QuotaChange {
  readonly bytes?: number | null;
  readonly messages?: number | null;
}

/** A password, or a hash of one that another server made. */
export type NewSecret = string | { readonly hash: string };

export interface Accounts {
  /** Is there such an account, and may it receive `sizeBytes` more? Reads at most one small file; remembers. */
  mayReceive(address: Address, sizeBytes: number): Promise<'yes' | 'no-such-account' | 'over-quota'>;
  /**
   * Checks a password, a SCRAM proof or a token. Takes as long for an unknown account as for a wrong password
   * (CASES 69). What verified is remembered as a keyed digest for a bounded time, so that a mail client's next login
   * costs no slow hash.
   * @throws {Fault} `unavailable`: the issuer of tokens cannot be asked. `busy`, `not-owner`, `lease-lost`, `storage-failed`.
   */
  verify(credentials: Credentials): Promise<boolean>;
  /** What a SCRAM exchange begins with, for any name. */
  scramStart(address: Address): Promise<ScramStart>;
  /** Our side of a proof that is right, in base64; `undefined` for a wrong one. */
  scramSignature(credentials: Credentials & { readonly mechanism: 'scram' }): Promise<string | undefined>;
  /** @throws {Fault} `no-such-account`, `not-owner`, `lease-lost`, `storage-failed` */
  open(address: Address): Promise<Account>;
  /** @throws {Fault} `already-exists`, `bad-name`, `bad-argument` for a password or hash that cannot be used */
  add(address: Address, secret: NewSecret, quota?: QuotaChange): Promise<AccountSummary>;
  setPassword(address: Address, secret: NewSecret): Promise<void>;
  /** Counts at once, for sessions that are open too. @throws {Fault} `no-such-account`, `bad-argument` */
  setQuota(address: Address, quota: QuotaChange): Promise<AccountSummary>;
  /** Ends its sessions and moves its directory aside (`<root>/removed/`), never deletes it. */
  remove(address: Address): Promise<void>;
  show(address: Address): Promise<AccountSummary>;
  /** Accounts of a domain whose shard this backend owns, sorted, after `after`. */
  list(domain: string, after: string | undefined, countMax: number): Promise<readonly Address[]>;
  /**
   * Ends the sessions of an account and works on it while nobody has it open; who opens it meanwhile waits.
   * @returns what the command prints, as JSON. @throws {Fault} `no-such-account`, `busy`, `bad-argument`, `storage-failed`
   */
  maintain(address: Address, task: MaintenanceTask): Promise<unknown>;
  /** Brings every account that `leaving` names to a standstill: sessions ended, all flushed and closed. */
  leave(leaving: (address: Address) => boolean, reason: string): Promise<void>;
  readonly openCount: number;
}
