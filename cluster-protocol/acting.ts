/**
 * May this backend act, and for what? Its lease and its holdings judged
 * together, the one place where both are. Pure but for the state it keeps: the
 * caller reads the clock (milliseconds of this machine's monotonic clock), so
 * that the simulator drives this very code.
 */
import { Fault } from '../base/fault.ts';
import { Holdings, type MapChange } from './holdings.ts';
import type { Address, Epoch, MemberId } from './ids.ts';
import { type LeaseView, leaseIsGood, leaseLost, leaseRenewed, renewEveryMs } from './lease.ts';
import { type Holder, type ShardMap, whereIs } from './shard-map.ts';

export type Ownership =
  | { readonly ok: true; readonly epoch: Epoch }
  /** `owner` is empty when nobody has it. */
  | { readonly ok: false; readonly owner: MemberId; readonly epoch: Epoch };

export class Acting {
  readonly holdings: Holdings;
  #view: LeaseView;

  constructor(self: Holder, view: LeaseView) {
    this.holdings = new Holdings(self);
    this.#view = view;
  }

  get goodUntilMs(): number {
    return this.#view.goodUntilMs;
  }

  get renewEveryMs(): number {
    return renewEveryMs(this.#view);
  }

  /** May this process act at all at `nowMs`? */
  leaseIsGood(nowMs: number): boolean {
    return leaseIsGood(this.#view, nowMs);
  }

  /**
   * A renewal that was sent at `sentAtMs` has succeeded.
   * @returns false when that came too late: once run out, it stays so; whoever saw that may have given up half-way.
   */
  renewed(sentAtMs: number, nowMs: number): boolean {
    if (!leaseIsGood(this.#view, nowMs)) return false;
    this.#view = leaseRenewed(this.#view, sentAtMs);
    return true;
  }

  /** Nothing may be done any more, ever. */
  freeze(): void {
    this.#view = leaseLost(this.#view);
  }

  /** Takes over a newer map. One that gives away what was not released says that the lease has ended: that freezes. */
  takeMap(map: ShardMap, revision: number): MapChange {
    const change = this.holdings.takeMap(map, revision);
    if (change.lost > 0) this.freeze();
    return change;
  }

  /** May a new session or delivery for the account be taken here? Else who should be asked. */
  owns(address: Address, nowMs: number): Ownership {
    const { holdings } = this;
    if (this.leaseIsGood(nowMs) && holdings.isOpenFor(address))
      return { ok: true, epoch: holdings.epochFor(address) };
    const where = holdings.map && whereIs(holdings.map, address);
    return { ok: false, owner: where?.owner ?? '', epoch: where?.epoch ?? 0 };
  }

  /**
   * The right to act for one account at the epoch it is held now.
   * @throws {Fault} `not-owner`, `lease-lost`
   */
  rightTo(address: Address, nowMs: number): Right {
    this.assertLease(nowMs);
    const epoch = this.holdings.epochFor(address);
    if (epoch === 0) throw new Fault('not-owner', 'this backend does not own the account');
    return new Right(this, address, epoch);
  }

  /** @throws {Fault} `lease-lost` */
  assertLease(nowMs: number): void {
    if (!leaseIsGood(this.#view, nowMs)) throw new Fault('lease-lost', 'this backend may not act any more');
  }
}

/** Judged before and after every commit: no allocation, no hashing while the map stays the same. */
export class Right {
  readonly epoch: Epoch;
  readonly #acting: Acting;
  readonly #address: Address;
  #generation = -1;

  constructor(acting: Acting, address: Address, epoch: Epoch) {
    this.#acting = acting;
    this.#address = address;
    this.epoch = epoch;
  }

  /** @throws {Fault} `not-owner`, `lease-lost` */
  assert(nowMs: number): void {
    this.#acting.assertLease(nowMs);
    const { holdings } = this.#acting;
    if (this.#generation === holdings.generation) return;
    if (holdings.epochFor(this.#address) !== this.epoch)
      throw new Fault('not-owner', 'this backend does not own the account any more');
    this.#generation = holdings.generation;
  }
}
