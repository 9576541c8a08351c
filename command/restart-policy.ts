/**
 * How long a member that has died waits before it is started again. At once,
 * as a rule: its accounts are without an owner. Longer only while it keeps
 * dying before it has done anything, which no restart mends.
 */

export interface MemberLife {
  /** Did it say that it is ready? */
  readonly wasReady: boolean;
  /** From `ready` to its end, ms; 0 when it never was. */
  readonly servedMs: number;
  /** Ended by SIGKILL: somebody else's doing, which says nothing of whether it can start. */
  readonly wasKilled: boolean;
}

/** Consecutive lives that were too short, newest last is all that counts. */
export interface RestartState {
  readonly shortLives: number;
}

export const restartAtFirst: RestartState = { shortLives: 0 };

/** Serving for this long is a life, not a failed start. */
const livedMs = 1000;
const delaysMs = [0, 100, 250, 500, 1000, 2000] as const;
export const restartDelayMsMax = 5000;
/** A member that served shortly, or was killed while it started: it must be back in under 2 s all the same. */
const servedDelayMsMax = 500;

export function afterDeath(state: RestartState, life: MemberLife): { state: RestartState; delayMs: number } {
  if (life.servedMs >= livedMs) return { state: restartAtFirst, delayMs: 0 };
  const delayMs = delaysMs[state.shortLives] ?? restartDelayMsMax;
  return {
    state: { shortLives: state.shortLives + 1 },
    delayMs: life.wasReady || life.wasKilled ? Math.min(delayMs, servedDelayMsMax) : delayMs,
  };
}
