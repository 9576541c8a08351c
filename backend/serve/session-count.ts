/**
 * `account.sessions_max`: how many sessions an account has now, over all
 * protocols and gateways together. Only its owner can count them, because every
 * session of an account is here. Requests (JMAP, deliveries) are no sessions.
 */
import type { Account } from '../accounts/accounts.ts';

/** By what the sessions of an account share while it is open. */
const counts = new WeakMap<object, number>();

/** @returns false when the account has `max` already. Else give back with `leaveSession`, once. */
export function enterSession({ store }: Account, max: number): boolean {
  const count = counts.get(store) ?? 0;
  if (count >= max) return false;
  counts.set(store, count + 1);
  return true;
}

export function leaveSession({ store }: Account): void {
  counts.set(store, (counts.get(store) ?? 1) - 1);
}
