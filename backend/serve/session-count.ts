/**
 * `account.sessions_max`: how many sessions an account has now, over all
 * protocols and gateways together. Only its owner can count them, because every
 * session of an account is here. Requests (JMAP, deliveries) are no sessions.
 */
import type { Address } from '../../cluster-protocol/ids.ts';
import type { Account } from '../accounts/accounts.ts';

/** By what the sessions of an account share while it is open. */
const counts = new WeakMap<object, number>();
/** The same by name, for those who only ask. No longer than there are sessions. */
const named = new Map<Address, number>();
let total = 0;

/** @returns false when the account has `max` already. Else give back with `leaveSession`, once. */
export function enterSession({ store, address }: Account, max: number): boolean {
  const count = counts.get(store) ?? 0;
  if (count >= max) return false;
  counts.set(store, count + 1);
  named.set(address, (named.get(address) ?? 0) + 1);
  total++;
  return true;
}

export function leaveSession({ store, address }: Account): void {
  counts.set(store, (counts.get(store) ?? 1) - 1);
  const left = (named.get(address) ?? 1) - 1;
  if (left > 0) named.set(address, left);
  else named.delete(address);
  total--;
}

/** Sessions of this backend: of one account, or all. */
export function sessionsNow(address?: Address): number {
  return address === undefined ? total : (named.get(address) ?? 0);
}
