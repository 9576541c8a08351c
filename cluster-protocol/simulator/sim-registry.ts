/** The registry as a simulator sees it: linearizable, with leases by virtual time, and every batch told. */
import type { Change, Condition, RegistryEntry, WatchEvent } from '../registry.ts';

export class SimRegistry {
  readonly entries = new Map<string, RegistryEntry>();
  readonly #leases = new Map<string, { ttlMs: number; deadlineMs: number }>();
  revision = 0;
  #lastLease = 0;
  readonly #onBatch: (events: readonly WatchEvent[]) => void;

  constructor(onBatch: (events: readonly WatchEvent[]) => void) {
    this.#onBatch = onBatch;
  }

  list(prefixes: readonly string[]): { entries: RegistryEntry[]; revision: number } {
    const entries = [...this.entries.values()].filter((entry) =>
      prefixes.some((prefix) => entry.key.startsWith(prefix)),
    );
    return { entries, revision: this.revision };
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
      (change) => !('put' in change) || change.lease === undefined || this.#leases.has(change.lease),
    );
    if (!holds || !leasesLive) return { done: false, revision: this.revision };
    this.#apply(changes);
    return { done: true, revision: this.revision };
  }

  grant(ttlMs: number, nowMs: number): string {
    const lease = `lease-${++this.#lastLease}`;
    this.#leases.set(lease, { ttlMs, deadlineMs: nowMs + ttlMs });
    return lease;
  }

  /** @returns false when it is gone. */
  renew(lease: string, nowMs: number): boolean {
    const found = this.#leases.get(lease);
    if (found === undefined) return false;
    found.deadlineMs = nowMs + found.ttlMs;
    return true;
  }

  revoke(lease: string): void {
    if (!this.#leases.delete(lease)) return;
    const changes = [...this.entries.values()].filter((entry) => entry.lease === lease);
    this.#apply(changes.map((entry) => ({ remove: entry.key })));
  }

  expire(nowMs: number): void {
    for (const [lease, { deadlineMs }] of [...this.#leases]) if (deadlineMs <= nowMs) this.revoke(lease);
  }

  /** When the next lease runs out, as things stand; at most a little later than a lease granted meanwhile. */
  get nextDeadlineMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.#leases.values()) next = Math.min(next, deadlineMs);
    return Number.isFinite(next) ? next : 0;
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
    this.#onBatch(events);
  }
}
