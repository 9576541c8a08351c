/**
 * This backend as a member of the cluster: its record and lease in the
 * registry, the shard map as it follows it, and the answer to the one question
 * the store asks before and after every commit: may I act for this account now?
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { Acting, type Ownership, type Right } from '../../cluster-protocol/acting.ts';
import type { Holdings, Leaving } from '../../cluster-protocol/holdings.ts';
import type { Address, Epoch, MemberId } from '../../cluster-protocol/ids.ts';
import { type LeaseView, leaseGranted } from '../../cluster-protocol/lease.ts';
import type { MemberRecord } from '../../cluster-protocol/link.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { Releasing, writeOf } from '../../cluster-protocol/releasing.ts';
import { decodeShardMap } from '../../cluster-protocol/shard-map.ts';
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
  readonly #acting: Acting;
  readonly #round: Releasing;
  readonly #options: MemberOptions;
  readonly #end = new AbortController();
  #isLost = false;
  #renewals = 0;
  #renewTimer: NodeJS.Timeout;
  #lapseTimer: NodeJS.Timeout;
  #releasing = false;
  #unwell: string | undefined;
  readonly #waiters = new Set<() => void>();

  constructor(options: MemberOptions, lease: string, view: LeaseView) {
    this.#options = options;
    this.lease = lease;
    this.#acting = new Acting({ id: options.record.id, incarnation: options.record.incarnation }, view);
    this.#round = new Releasing(this.#acting.holdings);
    this.#renewTimer = setInterval(() => void this.#renew(), this.#acting.renewEveryMs);
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

  get holdings(): Holdings {
    return this.#acting.holdings;
  }

  /** May this process act at all now? */
  get leaseIsGood(): boolean {
    return this.#acting.leaseIsGood(this.#options.clock());
  }

  /** How much longer this process may act unless the lease is renewed. */
  get leaseLeftMs(): number {
    return Math.max(0, this.#acting.goodUntilMs - this.#options.clock());
  }

  /** May a new session or delivery for the account be taken here? Else who should be asked. */
  owns(address: Address): Ownership {
    return this.#acting.owns(address, this.#options.clock());
  }

  /**
   * The right to act for one account at the epoch it is held now. `assert` costs a clock reading and two comparisons.
   * @throws {Fault} `not-owner`, `lease-lost`
   */
  guardFor(address: Address): Guard {
    const { clock } = this.#options;
    return new AccountGuard(this.#acting.rightTo(address, clock()), clock);
  }

  /** @throws {Fault} `lease-lost` */
  assertLease(): void {
    this.#acting.assertLease(this.#options.clock());
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

  /**
   * Says in the registry that this backend is not well (its storage is not) and should have nothing, or that it is well
   * again. What the registry could not take is said again until it has, or until something else is to be said.
   */
  async sayUnwell(why: string | undefined): Promise<void> {
    this.#unwell = why;
    const { registry, record, log } = this.#options;
    const key = registryKey.member(record.id);
    const said = why === undefined ? record : { ...record, draining: true, unwell: why };
    while (!this.#end.signal.aborted && this.#unwell === why) {
      try {
        const entry = await registry.get(key);
        if (entry === undefined || entry.lease !== this.lease) return; // lost: the next renewal finds out
        const { done } = await registry.transact(
          [{ key, is: 'at', revision: entry.revision }],
          [{ put: key, value: JSON.stringify(said), lease: this.lease }],
        );
        if (done) return;
      } catch (error) {
        log.warn({ err: error }, 'the state of the storage cannot be told');
      }
      await sleep(200, undefined, { ref: false });
    }
  }

  /** Is anything to be handed over that is held still? */
  get isLeaving(): boolean {
    return this.#releasing || this.holdings.leaving() !== undefined;
  }

  /** Gives up for good, without releasing: what is held goes to others when the lease has run out. */
  abandon(reason: string): void {
    this.#lose(reason);
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
      const { gained, lost } = this.#acting.takeMap(decodeShardMap(entry.value), entry.revision);
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
      for (;;) {
        const step = this.#round.next();
        if (step.kind === 'rest' || this.#end.signal.aborted) return;
        if (step.kind === 'leave') {
          await this.#options.leave(step.leaving);
          this.#round.left(step.leaving);
        } else if (await this.#stands(step.key, step.value)) {
          this.#round.wrote(step.value);
        } else {
          await sleep(50, undefined, { ref: false });
        }
      }
    } catch (error) {
      // Something did not come to a standstill: what is held stays held; going on in doubt would risk two owners.
      if (!this.#end.signal.aborted) this.#lose(`shards cannot be released: ${Fault.from(error).message}`);
    } finally {
      this.#releasing = false;
    }
  }

  /** Writes what has been released. @returns false when it has to be looked at again. */
  async #stands(key: string, value: string): Promise<boolean> {
    const { registry, log } = this.#options;
    try {
      const write = writeOf(key, value, this.lease, await registry.get(key));
      return write === undefined || (await registry.transact(write.conditions, write.changes)).done;
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
      if (this.#acting.renewed(sentAtMs, this.#options.clock())) {
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
    const inMs = this.#acting.goodUntilMs - this.#options.clock();
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
    this.#acting.freeze();
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

class AccountGuard implements Guard {
  readonly epoch: Epoch;
  readonly #right: Right;
  readonly #clock: () => number;

  constructor(right: Right, clock: () => number) {
    this.#right = right;
    this.epoch = right.epoch;
    this.#clock = clock;
  }

  assert(): void {
    this.#right.assert(this.#clock());
  }
}
