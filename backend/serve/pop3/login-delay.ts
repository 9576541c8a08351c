/**
 * `pop3.login_delay` (RFC 2449 6.5 and 8.1.1): clients that poll every second
 * are told to come later. Each owner knows when its accounts were last logged in
 * to; an account that has moved may be polled once more.
 */
import type { Address } from '../../../cluster-protocol/ids.ts';

/** Accounts remembered; the ones that logged in longest ago go first. */
const rememberedMax = 100_000;

export class LoginDelay {
  readonly #lastMs = new Map<Address, number>();

  /** Counts the login, unless it comes too early. @returns ms that are left to wait; 0: it may go on. */
  enter(account: Address, delayMs: number, nowMs: number): number {
    if (delayMs === 0) return 0;
    const last = this.#lastMs.get(account);
    const leftMs = last === undefined ? 0 : Math.ceil(last + delayMs - nowMs);
    if (leftMs > 0) return leftMs;
    this.#lastMs.delete(account);
    this.#lastMs.set(account, nowMs);
    if (this.#lastMs.size > rememberedMax) this.#lastMs.delete(this.#lastMs.keys().next().value!);
    return 0;
  }
}
