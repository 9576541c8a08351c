/**
 * Turns for slow hashes: they run in the same thread pool as the file system, so
 * only a few run at a time and only so many may wait.
 */
import { Fault } from '../../base/fault.ts';

const atOnceMax = 2;
const waitingMax = 1000;

let running = 0;
const waiting: (() => void)[] = [];

/** @throws {Fault} `busy` */
export async function hashInTurn(
  work: (done: (error: Error | null, key: Buffer) => void) => void,
): Promise<Buffer> {
  if (running >= atOnceMax) {
    if (waiting.length >= waitingMax) throw new Fault('busy', 'too many logins at once');
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else running++;
  try {
    return await new Promise((resolve, reject) => {
      work((error, key) => (error ? reject(error) : resolve(key)));
    });
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
}
