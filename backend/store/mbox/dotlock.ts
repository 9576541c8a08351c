/**
 * The lock every mbox program knows: a file `<mbox>.lock` that only one can
 * create. Node has no fcntl locks; programs that use those alone are noticed by
 * looking at the mbox again before it is replaced (see `mbox-file.ts`).
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, Fault } from '../../../base/fault.ts';
import { closeFile, openFile, readWhole, statFile, unlinkFile, writeAt } from '../files.ts';

/** A lock nobody has touched for so long was left by a program that died (as procmail and Dovecot have it). */
const staleMs = 120_000;
const retryMs = 50;

/**
 * Holds the lock of an mbox while `work` runs. The lock is not touched again: work must end well before it is stale.
 * @throws {Fault} `busy` when another program holds it for `waitMs`.
 */
export async function withDotlock<T>(mbox: string, waitMs: number, work: () => Promise<T>): Promise<T> {
  const lock = `${mbox}.lock`;
  const mine = `${process.pid}\n${hostname()}\n`;
  const give = performance.now() + waitMs;
  while (!(await tryLock(lock, mine))) {
    if (await isLeft(lock)) {
      await unlinkFile(lock).catch(() => {});
      continue;
    }
    if (performance.now() > give) throw new Fault('busy', 'another program has locked the mailbox');
    await sleep(retryMs);
  }
  try {
    return await work();
  } finally {
    // Not if it was taken for stale and given to another.
    const text = await readWhole(lock).catch(() => undefined);
    if (text?.toString() === mine) await unlinkFile(lock).catch(() => {});
  }
}

async function tryLock(lock: string, mine: string): Promise<boolean> {
  let fd: number;
  try {
    fd = await openFile(lock, 'wx', 0o644);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
  try {
    await writeAt(fd, Buffer.from(mine), 0);
  } finally {
    await closeFile(fd);
  }
  return true;
}

async function isLeft(lock: string): Promise<boolean> {
  try {
    const stats = await statFile(lock);
    if (Date.now() - stats.mtimeMs > staleMs) return true;
    const [pid, host] = ((await readWhole(lock))?.toString() ?? '').split('\n');
    if (host !== hostname() || !/^\d{1,9}$/.test(pid!)) return false;
    return !isAlive(Number(pid));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
