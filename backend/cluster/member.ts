/**
 * This backend as a member of the cluster: its record and lease in the
 * registry, the shard map as it follows it, and the answer to the one question
 * the store asks before and after every commit: may I act for this account now?
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { Holdings, type Leaving } from '../../cluster-protocol/holdings.ts';
import type { Address, Epoch, MemberId } from '../../cluster-protocol/ids.ts';
import {
  type LeaseView,
  leaseGranted,
  leaseIsGood,
  leaseRenewed,
  renewEveryMs,
} from '../../cluster-protocol/lease.ts';
import type { MemberRecord } from '../../cluster-protocol/link.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { encodeReleased } from '../../cluster-protocol/released.ts';
import { decodeShardMap, whereIs } from '../../cluster-protocol/shard-map.ts';
import type { Guard } from '../store/store.ts';

/** How long a record of an earlier start may stand in the way: its lease runs out, or the supervisor revokes it. */
const registerWithinMs = 30_000;
const renewalsUnderWayMax = 3;

export interface MemberOptions {
  readonly registry: Registry;
  readonly record: MemberRecord;
  readonly leaseMs: number;
  readonly leaseMarginMs: number;
  readonly log: Log;
  /** Monotonic milliseconds. */
  readonly clock: () => number;
  /** Brings what is leaving to a standstill: sessions ended, all flushed and closed. It may act until it settles. */
  leave(leaving: Leaving): Promise<void>;
  /** The lease is lost: nothing may be done any more. Called once. */
  lost(reason: string): void;
}

export type Ownership =
  | { readonly ok: true; readonly epoch: Epoch }
  /** `owner` is empty when nobody has it. */
  | { readonly ok: false; readonly owner: MemberId; readonly epoch: Epoch };

/**
 * Registers this process and starts following the map.
 * @throws {Fault} `registry-failed`, `busy` (another process holds this member id)
 */
export async function joinCluster(options: MemberOptions): Promise<Member> {
  const { registry, record, leaseMs, leaseMarginMs, clock } = options;
  if (leaseMarginMs * 2 > leaseMs)
    throw new Fault('bad-config', 'cluster.lease_margin is over half of cluster.lease; make it smaller');
  const key = registryKey.member(record.id);
  const end = clock() + registerWithinMs;
  for (;;) {
    const sentAtMs = clock();
    const lease = await registry.grantLease(leaseMs);
    const { done } = await registry.transact(
      [{ key, is: 'absent' }],
      [{ put: key, value: JSON.stringify(record), lease }],
    );
    if (done) return new Member(options, lease, leaseGranted(leaseMs, leaseMarginMs, sentAtMs));
    await registry.revokeLease(lease);
    await untilGone(registry, key, end - clock());
  }
}

/** @throws {Fault} `busy` */
async function untilGone(registry: Registry, key: string, withinMs: number): Promise<void> {
  const end = new AbortController();
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Fault('busy', `${key} belongs to another process; is it started twice?`)),
        Math.max(0, withinMs),
      );
      end.signal.addEventListener('abort', () => clearTimeout(timer));
      follow(
        registry,
        [key],
        {
          reset: (entries) => {
            if (!entries.some((entry) => entry.key === key)) resolve();
          },
          event: (event) => {
            if (event.key === key && event.kind === 'remove') resolve();
          },
        },
        end.signal,
      );
    });
  } finally {
    end.abort();
  }
}

export class Member {
  readonly lease: string;
  readonly holdings: Holdings;
  readonly #options: MemberOptions;
  readonly #end = new AbortController();
  #view: LeaseView;
  #isLost = false;
  #renewals = 0;
  #renewTimer: NodeJS.Timeout;
  #lapseTimer: NodeJS.Timeout;
  #releasing = false;
  readonly #waiters = new Set<() => void>();

  constructor(options: MemberOptions, lease: string, view: LeaseView) {
    this.#options = options;
    this.lease = lease;
    this.#view = view;
    this.holdings = new Holdings({ id: options.record.id, incarnation: options.record.incarnation });
    this.#renewTimer = setInterval(() => void this.#renew(), renewEveryMs(view));
    this.#lapseTimer = this.#armLapse();
    follow(
      options.registry,
      [registryKey.shardMap],
      {
        reset: (entries) => {
          for (const entry of entries) if (entry.key === registryKey.shardMap) this.#takeMap(entry);
        },
        event: (event) => {
          if (event.key === registryKey.shardMap && event.kind === 'put') this.#takeMap(event);
        },
        trouble: (error) => options.log.warn({ err: error }, 'the shard map cannot be read'),
      },
      this.#end.signal,
    );
  }

  get id(): MemberId {
    return this.#options.record.id;
  }

  /** May this process act at all now? */
  get leaseIsGood(): boolean {
    return leaseIsGood(this.#view, this.#options.clock());
  }

  /** How much longer this process may act unless the lease is renewed. */
  get leaseLeftMs(): number {
    return Math.max(0, this.#view.goodUntilMs - this.#options.clock());
  }

  /** May a new session or delivery for the account be taken here? Else who should be asked. */
  owns(address: Address): Ownership {
    const { holdings } = this;
    if (this.leaseIsGood && holdings.isOpenFor(address))
      return { ok: true, epoch: holdings.epochFor(address) };
    const where = holdings.map && whereIs(holdings.map, address);
    return { ok: false, owner: where?.owner ?? '', epoch: where?.epoch ?? 0 };
  }

  /**
   * The right to act for one account at the epoch it is held now. `assert` costs a clock reading and two comparisons.
   * @throws {Fault} `not-owner`, `lease-lost`
   */
  guardFor(address: Address): Guard {
    this.assertLease();
    const epoch = this.holdings.epochFor(address);
    if (epoch === 0) throw new Fault('not-owner', 'this backend does not own the account');
    return new AccountGuard(this, address, epoch);
  }

  /** @throws {Fault} `lease-lost` */
  assertLease(): void {
    if (!(this.#options.clock() < this.#view.goodUntilMs))
      throw new Fault('lease-lost', 'this backend may not act any more');
  }

  /** Resolves when `holds` is true of what is held; looked at after every change of the map. @throws {Fault} `no-owner` in time. */
  until(holds: (holdings: Holdings) => boolean, withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!holds(this.holdings)) return;
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(look);
        reject(new Fault('no-owner', 'the controller has not granted anything to this backend'));
      }, withinMs);
      this.#waiters.add(look);
      look();
    });
  }

  /** Stops acting and gives everything back at once: call it when all accounts are flushed and closed. */
  async stop(): Promise<void> {
    if (this.#isLost) return;
    this.#freeze();
    await this.#options.registry.revokeLease(this.lease);
  }

  #takeMap(entry: { value: string; revision: number }): void {
    const { log } = this.#options;
    try {
      const { gained, lost } = this.holdings.takeMap(decodeShardMap(entry.value), entry.revision);
      if (gained > 0 || lost > 0)
        log.info({ gained, lost, held: this.holdings.shardsHeld, revision: entry.revision }, 'shards');
      if (lost > 0) {
        this.#lose('the shard map gives away what this backend has not released');
        return;
      }
    } catch (error) {
      log.error({ err: error }, 'the shard map cannot be understood');
      return;
    }
    for (const look of [...this.#waiters]) look();
    void this.#release();
  }

  /** Leaves what the map wants handed over, then says so in the registry. One round at a time; rounds follow until nothing is left. */
  async #release(): Promise<void> {
    if (this.#releasing) return;
    this.#releasing = true;
    try {
      while (!this.#end.signal.aborted) {
        const { revision } = this.holdings;
        const leaving = this.holdings.leaving();
        if (leaving !== undefined) {
          await this.#options.leave(leaving);
          this.holdings.letGo(leaving);
        }
        const written = await this.#writeReleased();
        // A map that came while this was written has been passed over by `#takeMap`: look again.
        if (leaving === undefined && written && this.holdings.revision === revision) return;
        if (!written) await sleep(50, undefined, { ref: false });
      }
    } catch (error) {
      // Something did not come to a standstill: what is held stays held; going on in doubt would risk two owners.
      if (!this.#end.signal.aborted) this.#lose(`shards cannot be released: ${Fault.from(error).message}`);
    } finally {
      this.#releasing = false;
    }
  }

  /** @returns false when it has to be tried again. */
  async #writeReleased(): Promise<boolean> {
    const released = this.holdings.released();
    if (released === undefined) return true;
    const { registry, log } = this.#options;
    const key = registryKey.released(this.id);
    const value = encodeReleased(released);
    try {
      const before = await registry.get(key);
      if (before?.value === value && before.lease === this.lease) return true;
      // The condition keeps a write that was thought lost from replacing a newer one.
      const { done } = await registry.transact(
        [before ? { key, is: 'at', revision: before.revision } : { key, is: 'absent' }],
        [{ put: key, value, lease: this.lease }],
      );
      return done;
    } catch (error) {
      log.warn({ err: error }, 'released shards cannot be written');
      return false;
    }
  }

  async #renew(): Promise<void> {
    if (this.#renewals >= renewalsUnderWayMax) return;
    this.#renewals++;
    const sentAtMs = this.#options.clock();
    try {
      await this.#options.registry.renewLease(this.lease);
      // Once frozen, frozen for good: whoever saw `lease-lost` may already have given up half-way.
      if (!this.#isLost && this.leaseIsGood) {
        this.#view = leaseRenewed(this.#view, sentAtMs);
        clearTimeout(this.#lapseTimer);
        this.#lapseTimer = this.#armLapse();
      }
    } catch (error) {
      if (isFault(error, 'lease-lost')) this.#lose('the registry has ended the lease');
      else if (!this.#end.signal.aborted) this.#options.log.warn({ err: error }, 'the lease was not renewed');
    } finally {
      this.#renewals--;
    }
  }

  #armLapse(): NodeJS.Timeout {
    const inMs = this.#view.goodUntilMs - this.#options.clock();
    return setTimeout(
      () => {
        if (this.leaseIsGood) this.#lapseTimer = this.#armLapse();
        else this.#lose('the lease has run out');
      },
      Math.max(1, Math.ceil(inMs)),
    );
  }

  #freeze(): void {
    this.#isLost = true;
    this.#view = { ...this.#view, goodUntilMs: Number.NEGATIVE_INFINITY };
    this.#end.abort();
    clearInterval(this.#renewTimer);
    clearTimeout(this.#lapseTimer);
  }

  #lose(reason: string): void {
    if (this.#isLost) return;
    this.#freeze();
    this.#options.log.error({ reason }, 'lease lost: this backend stops');
    this.#options.lost(reason);
  }
}

/** Called before and after every commit: no allocation, no hashing while the map stays the same. */
class AccountGuard implements Guard {
  readonly epoch: Epoch;
  readonly #member: Member;
  readonly #address: Address;
  #generation = -1;

  constructor(member: Member, address: Address, epoch: Epoch) {
    this.#member = member;
    this.#address = address;
    this.epoch = epoch;
  }

  assert(): void {
    this.#member.assertLease();
    const { holdings } = this.#member;
    if (this.#generation === holdings.generation) return;
    if (holdings.epochFor(this.#address) !== this.epoch)
      throw new Fault('not-owner', 'this backend does not own the account any more');
    this.#generation = holdings.generation;
  }
}
