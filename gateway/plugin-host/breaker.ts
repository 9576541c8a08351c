/**
 * Stops asking a plugin that fails every time. A scanner that is down would
 * otherwise cost every message its whole deadline; with the breaker open its
 * failure is assumed at once, and one question every few seconds finds out
 * whether it is well again. Pure: the time is an argument.
 */

/** Failures in a row that open the breaker. */
export const failuresToOpen = 5;
/** How long it stays open before one question is let through as a trial. */
export const openMs = 3000;

export interface Breaker {
  readonly failuresInRow: number;
  /** Set while it is open: when the next trial may be made. */
  readonly trialAtMs: number | undefined;
}

export const closedBreaker: Breaker = Object.freeze({ failuresInRow: 0, trialAtMs: undefined });

/** May the plugin be asked now? A trial moves the next one on, so that one question at a time tries. */
export function mayAsk(breaker: Breaker, nowMs: number): { breaker: Breaker; ask: boolean } {
  if (breaker.trialAtMs === undefined) return { breaker, ask: true };
  if (nowMs < breaker.trialAtMs) return { breaker, ask: false };
  return { breaker: { ...breaker, trialAtMs: nowMs + openMs }, ask: true };
}

/** What an answer (or the lack of one) means for the breaker. `turned` when it opened or closed by it. */
export function afterAnswer(
  breaker: Breaker,
  good: boolean,
  nowMs: number,
): { breaker: Breaker; turned: 'opened' | 'closed' | undefined } {
  if (good) return { breaker: closedBreaker, turned: breaker.trialAtMs === undefined ? undefined : 'closed' };
  const failuresInRow = breaker.failuresInRow + 1;
  if (failuresInRow < failuresToOpen)
    return { breaker: { failuresInRow, trialAtMs: undefined }, turned: undefined };
  return {
    breaker: { failuresInRow, trialAtMs: nowMs + openMs },
    turned: breaker.trialAtMs === undefined ? 'opened' : undefined,
  };
}
