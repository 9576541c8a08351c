/**
 * One coarse timer for all IMAP sessions of the process: a timer object per
 * session or command would cost more than an idle session may.
 */

export interface Ticking {
  /** Called every `tickMs`, `nowMs` by a monotonic clock. */
  tick(nowMs: number): void;
}

export const tickMs = 5000;

export class SessionClock {
  readonly #sessions = new Set<Ticking>();
  #timer: NodeJS.Timeout | undefined;

  add(session: Ticking): void {
    this.#sessions.add(session);
    this.#timer ??= setInterval(() => this.tick(performance.now()), tickMs).unref();
  }

  remove(session: Ticking): void {
    this.#sessions.delete(session);
    if (this.#sessions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Ticks every session; tests call it with a time of theirs. */
  tick(nowMs: number): void {
    for (const session of this.#sessions) session.tick(nowMs);
  }
}

export const sharedClock = new SessionClock();

/** Lets others run when the caller has been busy for a few milliseconds. */
export class Slice {
  #startedAt = performance.now();

  /** A promise to await when the slice is used up, else `undefined`. */
  used(): Promise<void> | undefined {
    if (performance.now() - this.#startedAt < 2) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#startedAt = performance.now();
        resolve();
      });
    });
  }
}
