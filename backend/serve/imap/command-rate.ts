/** `imap.commands_per_second`: a session that has had its commands of this second waits for the next one. */
import { setTimeout } from 'node:timers/promises';

export class CommandRate {
  readonly #perSecondMax: number;
  #sinceMs = 0;
  #count = 0;

  constructor(perSecondMax: number) {
    this.#perSecondMax = perSecondMax;
  }

  /** Counts a command. @returns has this second had its commands? */
  used(): boolean {
    const now = performance.now();
    if (now - this.#sinceMs >= 1000) {
      this.#sinceMs = now;
      this.#count = 0;
    }
    return ++this.#count >= this.#perSecondMax;
  }

  /** Resolves when the next second begins. */
  async next(): Promise<void> {
    await setTimeout(Math.max(0, this.#sinceMs + 1000 - performance.now()));
  }
}
