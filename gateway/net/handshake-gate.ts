/**
 * How many TLS handshakes are under way at once (CASES 62). Each costs tens of
 * kilobytes and a signature, and whoever only opens them pays nothing: a flood
 * of ClientHellos may neither take the memory nor the processor from sessions
 * that are served. Past the limit newcomers wait their turn. While somebody
 * waits, a handshake that has taken long is cut: a client completes its own in
 * a few round trips, one that never will must not hold its place.
 */
import type { Deadline, Deadlines } from './deadline.ts';

export const handshakesMax = 256;
/** A handshake that takes longer than this is cut when others wait. */
export const slowHandshakeMs = 3000;

/** One handshake's place. */
export interface Turn {
  /** Gives the place, or the place in the queue, to the next. Harmless when called again. */
  leave(): void;
}

interface Place extends Turn {
  readonly start: () => void;
  readonly cut: () => void;
  /** NaN while it waits. */
  startedMs: number;
}

export class HandshakeGate {
  readonly #deadlines: Deadlines;
  readonly #max: number;
  readonly #now: () => number;
  /** The oldest first. */
  readonly #running = new Set<Place>();
  readonly #waiting = new Set<Place>();
  #look: Deadline | undefined;

  constructor(deadlines: Deadlines, max = handshakesMax, now = () => performance.now()) {
    this.#deadlines = deadlines;
    this.#max = max;
    this.#now = now;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * @param start  Called when it may begin: now, or later. Not at all when `leave` is called first.
   * @param cut    Called when it has taken too long and others wait; it must end the handshake.
   */
  enter(start: () => void, cut: () => void): Turn {
    const place: Place = { start, cut, startedMs: Number.NaN, leave: () => this.#leave(place) };
    if (this.#running.size < this.#max) this.#begin(place);
    else {
      this.#waiting.add(place);
      this.#makeRoom();
    }
    return place;
  }

  #begin(place: Place): void {
    place.startedMs = this.#now();
    this.#running.add(place);
    place.start();
  }

  #leave(place: Place): void {
    if (!this.#running.delete(place)) {
      this.#waiting.delete(place);
      return;
    }
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    this.#begin(next);
  }

  /** Cuts what is slow, and looks again when the next one will be. */
  #makeRoom(): void {
    this.#look?.cancel();
    this.#look = undefined;
    for (const place of this.#running) {
      if (this.#waiting.size === 0) return;
      const leftMs = place.startedMs + slowHandshakeMs - this.#now();
      if (leftMs > 0) {
        this.#look = this.#deadlines.start(leftMs, () => this.#makeRoom());
        return;
      }
      place.cut();
      place.leave();
    }
  }
}
