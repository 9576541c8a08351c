/**
 * What a gateway knows of the cluster, from the registry it watches: members,
 * shard map, domains. Always a little behind; a wrong guess costs a retry.
 */
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Address, Epoch, MemberId } from '../../cluster-protocol/ids.ts';
import { commonVersion, type MemberRecord, versionsSpoken } from '../../cluster-protocol/link.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { decodeShardMap, type ShardMap, whereIs } from '../../cluster-protocol/shard-map.ts';

/** Longest `nextChange` waits: what changed may not have come by an event. */
const recheckMs = 200;

export class ClusterView {
  readonly #backends = new Map<MemberId, MemberRecord>();
  readonly #domains = new Set<string>();
  readonly #log: Log;
  #map: ShardMap | undefined;
  #mapRevision = 0;
  #listed = false;
  #next: { promise: Promise<void>; resolve: () => void; timer: NodeJS.Timeout } | undefined;
  /** Called with every backend record that came, changed or went (`undefined`). */
  onBackend: (id: MemberId, record: MemberRecord | undefined) => void = () => {};

  constructor(log: Log) {
    this.#log = log;
  }

  /** Follows the registry until `signal` aborts. */
  watch(registry: Registry, signal: AbortSignal): void {
    const prefixes = [registryKey.shardMap, registryKey.memberPrefix, registryKey.domainPrefix];
    follow(
      registry,
      prefixes,
      {
        reset: (entries) => {
          const members = new Set(entries.map((entry) => entry.key));
          for (const id of this.#backends.keys()) {
            if (!members.has(registryKey.member(id))) this.#setMember(id, undefined);
          }
          this.#domains.clear();
          for (const entry of entries) this.#put(entry.key, entry.value, entry.revision);
          this.#listed = true;
          this.changed();
        },
        event: (event) => {
          if (event.kind === 'put') this.#put(event.key, event.value, event.revision);
          else this.#remove(event.key);
          this.changed();
        },
        // What is known goes on being used: owners answer for themselves.
        trouble: (error) => this.#log.warn({ error: String(error) }, 'registry cannot be read'),
      },
      signal,
    );
  }

  /** Members, domains and a map were read. */
  get known(): boolean {
    return this.#listed && this.#map !== undefined;
  }

  get backends(): ReadonlyMap<MemberId, MemberRecord> {
    return this.#backends;
  }

  isLocalDomain(domain: string): boolean {
    return this.#domains.has(domain);
  }

  whereIs(address: Address): { readonly owner: MemberId; readonly epoch: Epoch } | undefined {
    return this.#map === undefined ? undefined : whereIs(this.#map, address);
  }

  /** Something may be otherwise now: wakes everybody in `nextChange`. */
  changed(): void {
    const next = this.#next;
    if (next === undefined) return;
    this.#next = undefined;
    clearTimeout(next.timer);
    next.resolve();
  }

  /** Resolves when something changed, or a short while later: look again then. One timer for all who wait. */
  nextChange(): Promise<void> {
    if (this.#next === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#next = { promise, resolve, timer: setTimeout(() => this.changed(), recheckMs) };
    }
    return this.#next.promise;
  }

  #put(key: string, value: string, revision: number): void {
    try {
      if (key === registryKey.shardMap) {
        if (revision < this.#mapRevision) return;
        this.#map = decodeShardMap(value);
        this.#mapRevision = revision;
      } else if (key.startsWith(registryKey.memberPrefix)) {
        this.#setMember(key.slice(registryKey.memberPrefix.length), JSON.parse(value));
      } else if (key.startsWith(registryKey.domainPrefix)) {
        this.#domains.add(key.slice(registryKey.domainPrefix.length));
      }
    } catch (error) {
      // One unreadable value must not take the rest away; what it said before still stands.
      this.#log.error({ key, error: Fault.from(error).message }, 'registry value cannot be read');
    }
  }

  #remove(key: string): void {
    if (key.startsWith(registryKey.memberPrefix))
      this.#setMember(key.slice(registryKey.memberPrefix.length), undefined);
    else if (key.startsWith(registryKey.domainPrefix))
      this.#domains.delete(key.slice(registryKey.domainPrefix.length));
  }

  #setMember(id: MemberId, record: MemberRecord | undefined): void {
    const before = this.#backends.get(id);
    if (record === undefined || record.role !== 'backend') {
      if (this.#backends.delete(id)) this.onBackend(id, undefined);
      return;
    }
    if (commonVersion(record.versions, versionsSpoken) === undefined) {
      this.#log.error(
        { backend: id, versions: record.versions },
        'backend speaks no version this gateway knows',
      );
      if (this.#backends.delete(id)) this.onBackend(id, undefined);
      return;
    }
    this.#backends.set(id, record);
    if (before?.incarnation !== record.incarnation || before.address !== record.address)
      this.onBackend(id, record);
  }
}
