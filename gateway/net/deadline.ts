/**
 * Total deadlines for connections: greeting, TLS, login. One coarse clock for
 * all of them, because ten thousand clients that trickle bytes must not be ten
 * thousand timers that are armed again with each byte. A deadline is never
 * moved by what a client sends (CASES 60).
 */

export interface Deadline {
  /** Takes it back. Harmless when it has passed or was cancelled. */
  cancel(): void;
}

interface Entry extends Deadline {
  passed: (() => void) | undefined;
}

export class Deadlines {
  readonly #tickMs: number;
  readonly #now: () => number;
  readonly #slots = new Map<number, Set<Entry>>();
  #timer: NodeJS.Timeout | undefined;
  #lastTick: number;

  /**
   * @param tickMs  How coarse it is: a deadline passes up to this much late, never early.
   * @param now  A clock in ms that never steps back.
   */
  constructor(tickMs = 250, now: () => number = () => performance.now()) {
    this.#tickMs = tickMs;
    this.#now = now;
    this.#lastTick = this.#tickOf(0);
  }

  /** Deadlines still to pass. */
  get size(): number {
    let size = 0;
    for (const slot of this.#slots.values()) size += slot.size;
    return size;
  }

  /** Calls `passed` once, `afterMs` from now, unless cancelled. */
  start(afterMs: number, passed: () => void): Deadline {
    if (this.#slots.size === 0) this.#lastTick = this.#tickOf(0);
    const tick = this.#tickOf(afterMs) + 1;
    const slot = this.#slots.get(tick) ?? new Set<Entry>();
    if (slot.size === 0) this.#slots.set(tick, slot);
    const entry: Entry = {
      passed,
      cancel: () => {
        if (entry.passed === undefined) return;
        entry.passed = undefined;
        slot.delete(entry);
        if (slot.size === 0) this.#slots.delete(tick);
      },
    };
    slot.add(entry);
    this.#arm();
    return entry;
  }

  /** Lets pass what is due. The clock calls it; tests with a clock of their own do too. */
  turn(): void {
    const tick = this.#tickOf(0);
    while (this.#lastTick < tick && this.#slots.size > 0) {
      this.#lastTick++;
      const due = this.#slots.get(this.#lastTick);
      if (!due) continue;
      this.#slots.delete(this.#lastTick);
      for (const entry of due) {
        const { passed } = entry;
        entry.passed = undefined;
        passed?.();
      }
    }
    this.#lastTick = Math.max(this.#lastTick, tick);
    if (this.#slots.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#slots.clear();
  }

  #tickOf(afterMs: number): number {
    return Math.floor((this.#now() + afterMs) / this.#tickMs);
  }

  #arm(): void {
    this.#timer ??= setInterval(() => this.turn(), this.#tickMs).unref();
  }
}
