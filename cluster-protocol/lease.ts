/**
 * How a member judges its own lease. The registry counts a renewal from when it
 * *received* it; the member counts from when it *sent* it, and stops a margin
 * earlier: so, by any clock that runs at about the same rate, the member has
 * stopped before the registry gives its keys away (DESIGN section 2.2).
 *
 * All times are milliseconds of the member's own monotonic clock.
 */

export interface LeaseView {
  readonly ttlMs: number;
  readonly marginMs: number;
  /** The lease may be acted under strictly before this. */
  readonly goodUntilMs: number;
}

/** A lease whose grant was asked for at `sentAtMs`. */
export function leaseGranted(ttlMs: number, marginMs: number, sentAtMs: number): LeaseView {
  return { ttlMs, marginMs, goodUntilMs: sentAtMs + ttlMs - marginMs };
}

/** A renewal that was sent at `sentAtMs` has succeeded. Answers that overtake each other never shorten it. */
export function leaseRenewed(view: LeaseView, sentAtMs: number): LeaseView {
  const goodUntilMs = sentAtMs + view.ttlMs - view.marginMs;
  return goodUntilMs > view.goodUntilMs ? { ...view, goodUntilMs } : view;
}

/** The registry said it is gone: never good again. */
export function leaseLost(view: LeaseView): LeaseView {
  return { ...view, goodUntilMs: Number.NEGATIVE_INFINITY };
}

export function leaseIsGood(view: LeaseView, nowMs: number): boolean {
  return nowMs < view.goodUntilMs;
}

/** How long to wait between renewals: two may fail before the lease is in danger. */
export function renewEveryMs(view: LeaseView): number {
  return Math.max(10, Math.floor((view.ttlMs - view.marginMs) / 3));
}
