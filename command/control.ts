/** What the command line asks of the running cluster, over the admin socket: one JSON object, one answer. */
import type { Address } from '../cluster-protocol/ids.ts';
import type { GivenSecret } from '../cluster-protocol/link.ts';
import type { MaintenanceTask } from '../cluster-protocol/maintenance.ts';
import type { ClusterRequest } from './cluster-requests.ts';
import type { SettingsRequest } from './settings-requests.ts';

/** Sent as the body of `POST /control`; the answer is JSON, or `{ error, message }` with status 4xx or 5xx. */
export type ControlRequest =
  | ClusterRequest
  | SettingsRequest
  | ({
      readonly op: 'account-add';
      readonly address: string;
      readonly quotaBytes?: number;
    } & GivenSecret)
  | { readonly op: 'account-show' | 'account-remove'; readonly address: string }
  | ({ readonly op: 'account-passwd'; readonly address: string } & GivenSecret)
  | {
      readonly op: 'account-list';
      readonly domain: string;
      readonly after?: string;
      readonly countMax: number;
    }
  | {
      readonly op: 'account-quota';
      readonly address: string;
      readonly bytes?: number | null;
      readonly messages?: number | null;
    }
  /** Answered with 200 before it is done: spaces come first, and `{ error, message }` when it fails. */
  | { readonly op: 'account-maintain'; readonly address: string; readonly task: MaintenanceTask }
  | { readonly op: 'domain-add' | 'domain-remove'; readonly domain: string; readonly by: string }
  | { readonly op: 'alias-add'; readonly address: string; readonly target: string }
  | { readonly op: 'alias-remove'; readonly address: string; readonly target?: string }
  | {
      readonly op: 'alias-list';
      readonly domain: string;
      readonly after?: string;
      readonly countMax: number;
    }
  | {
      readonly op: 'domain-quota';
      readonly domain: string;
      readonly by: string;
      readonly bytes?: number | null;
      readonly messages?: number | null;
      readonly accounts?: number | null;
    }
  | { readonly op: 'domain-list' }
  | { readonly op: 'cluster-status' }
  | { readonly op: 'cert-list' }
  | { readonly op: 'cert-renew'; readonly name?: string };

export const controlPath = '/control';
export const controlRequestBytesMax = 64 * 1024;
export const controlAnswerBytesMax = 8 * 1024 * 1024;
export const accountsPerPageMax = 1000;

export interface AccountPage {
  readonly accounts: readonly Address[];
  readonly more: boolean;
}

export interface MemberStatus {
  readonly id: string;
  readonly role: 'gateway' | 'backend';
  readonly pid: number | undefined;
  readonly ready: boolean;
  readonly restarts: number;
  /** Registered under a live lease. */
  readonly registered: boolean;
  readonly address: string;
  readonly release: string;
  /** Backends: shards they own now. */
  readonly shards?: number;
  /** Backends: accounts that are theirs by themselves. */
  readonly pins?: number;
  /** What its share goes by: its weight, less while it is busier than the others. */
  readonly weight?: number;
  readonly drained?: boolean;
  readonly sessions?: number;
  /** How much longer it may act unless its lease is renewed. */
  readonly leaseLeftMs?: number;
  /** Protocol versions it speaks. */
  readonly versions?: readonly [oldest: number, newest: number];
  readonly openAccounts?: number;
  readonly memoryBytes?: number;
}

export interface ClusterStatus {
  readonly cluster: string;
  readonly shardCount: number;
  readonly storageRoot: string;
  readonly controller: string;
  readonly freeShards: number;
  /** Moves under way. */
  readonly moves: number;
  /** The newest that was granted. */
  readonly epoch: number;
  readonly pins: number;
  /** Shards that are kept somewhere by hand. */
  readonly movedShards: number;
  readonly backends: number;
  readonly domains: number;
  readonly members: readonly MemberStatus[];
}
