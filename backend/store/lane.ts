/**
 * One change of an account at a time. Changes of one account come from a few
 * sessions of one person: putting them in a row costs little, and means that
 * journal, file names and columns never see two half-done changes at once.
 */
import { Fault } from '../../base/fault.ts';

/** Changes that may wait before the next is turned away. */
const waitingMax = 10_000;

export class Lane {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Runs `work` when everything before it has settled. @throws {Fault} `busy` when too much waits already. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= waitingMax) {
      return Promise.reject(new Fault('busy', 'too many changes wait for this account'));
    }
    this.#waiting++;
    const done = this.#tail.then(work);
    const after = (): void => {
      this.#waiting--;
    };
    this.#tail = done.then(after, after);
    return done;
  }

  /** Settles when everything that was in the lane at the call has settled. */
  async drained(): Promise<void> {
    await this.#tail;
  }

  get idle(): boolean {
    return this.#waiting === 0;
  }
}
