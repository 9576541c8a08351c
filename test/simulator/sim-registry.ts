/**
 * The registry as members see it: linearizable transactions, leases by its own
 * clock, watches that lag, break and find themselves compacted away, a leader
 * that is lost, a quorum that is lost, space that is used up.
 */
import type { Change, Condition, RegistryEntry, WatchEvent } from '../../cluster-protocol/registry.ts';

export interface Batch {
  readonly revision: number;
  readonly events: readonly WatchEvent[];
}

export class SimRegistry {
  readonly entries = new Map<string, RegistryEntry>();
  readonly leases = new Map<string, { ttlMs: number; deadlineMs: number }>();
  revision = 0;
  /** No answers before this: there is no leader, or no quorum. */
  silentUntilMs = 0;
  /** Nothing is written before this: its space is used up. */
  fullUntilMs = 0;
  #log: Batch[] = [];
  #compactedTo = 0;
  #lastLease = 0;
  readonly #onBatch: (batch: Batch) => void;

  constructor(onBatch: (batch: Batch) => void) {
    this.#onBatch = onBatch;
  }

  list(prefix: string): { entries: RegistryEntry[]; revision: number } {
    const entries: RegistryEntry[] = [];
    for (const entry of this.entries.values()) if (entry.key.startsWith(prefix)) entries.push(entry);
    return { entries, revision: this.revision };
  }

  /** @returns What happened after `revision`; `undefined` when that has been compacted away. */
  since(revision: number): readonly Batch[] | undefined {
    return revision < this.#compactedTo ? undefined : this.#log.filter((batch) => batch.revision > revision);
  }

  compact(): void {
    this.#compactedTo = this.revision;
    this.#log = [];
  }

  transact(
    conditions: readonly Condition[],
    changes: readonly Change[],
  ): { done: boolean; revision: number } {
    const holds = conditions.every((condition) => {
      const entry = this.entries.get(condition.key);
      return condition.is === 'absent' ? entry === undefined : entry?.revision === condition.revision;
    });
    const leasesLive = changes.every(
      (change) => !('put' in change) || change.lease === undefined || this.leases.has(change.lease),
    );
    if (!holds || !leasesLive) return { done: false, revision: this.revision };
    this.#apply(changes);
    return { done: true, revision: this.revision };
  }

  grant(ttlMs: number, nowMs: number): string {
    const lease = `lease-${++this.#lastLease}`;
    this.leases.set(lease, { ttlMs, deadlineMs: nowMs + ttlMs });
    return lease;
  }

  /** @returns false when it is gone. */
  renew(lease: string, nowMs: number): boolean {
    const found = this.leases.get(lease);
    if (found === undefined) return false;
    found.deadlineMs = nowMs + found.ttlMs;
    return true;
  }

  revoke(lease: string): void {
    if (!this.leases.delete(lease)) return;
    const removes: Change[] = [];
    for (const entry of this.entries.values()) if (entry.lease === lease) removes.push({ remove: entry.key });
    this.#apply(removes);
  }

  expire(nowMs: number): void {
    if (nowMs < this.silentUntilMs) return;
    for (const [lease, { deadlineMs }] of this.leases) if (deadlineMs <= nowMs) this.revoke(lease);
  }

  /** A new leader does not know how long leases had been running: all start again. */
  silence(untilMs: number): void {
    this.silentUntilMs = Math.max(this.silentUntilMs, untilMs);
    for (const lease of this.leases.values())
      lease.deadlineMs = Math.max(lease.deadlineMs, this.silentUntilMs + lease.ttlMs);
  }

  /** When the next lease runs out, as things stand. */
  get nextDeadlineMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.leases.values()) if (deadlineMs < next) next = deadlineMs;
    return next;
  }

  #apply(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    const revision = ++this.revision;
    const events = changes.map((change): WatchEvent => {
      if ('remove' in change) {
        this.entries.delete(change.remove);
        return { kind: 'remove', key: change.remove, value: '', revision };
      }
      const { put: key, value, lease } = change;
      this.entries.set(key, { key, value, revision, lease });
      return { kind: 'put', key, value, revision };
    });
    const batch = { revision, events };
    this.#log.push(batch);
    this.#onBatch(batch);
  }
}
