/**
 * At most so many at a time. A scanner takes only so many messages at once;
 * the rest waits here, and what does not fit is refused instead of piling up.
 */
import { Fault } from '../../base/fault.ts';

/** Runs `work` when it is its turn. */
export type Queue = <T>(work: () => Promise<T>) => Promise<T>;

/**
 * @param runningMax  How many run at a time.
 * @param waitingMax  How many may wait; one more rejects at once with `busy`.
 */
export function openQueue(runningMax: number, waitingMax: number): Queue {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= runningMax) {
      if (waiting.length >= waitingMax) throw new Fault('busy', `${waiting.length} are waiting already`);
      // The one that ends hands its place over, so `running` stays as it is.
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      running++;
    }
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}
