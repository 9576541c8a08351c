/**
 * The lock every mbox program knows: a file `<mbox>.lock` that only one can
 * create. Whoever uses the kernel's lock alone is held off by that
 * (`kernel-lock.ts`); both are taken, in this order, as other programs do.
 */
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, Fault } from '../../../base/fault.ts';
import { incarnation } from '../fence.ts';
import { closeFile, linkFile, openFile, readWhole, statFile, unlinkFile, writeAt } from '../files.ts';
import { temporaryName } from '../incoming.ts';

/** A lock nobody has touched for so long was left by a program that died (as procmail and Dovecot have it). */
const staleMs = 120_000;
const retryMs = 25;
let locksTaken = 0;
/** Locks this process holds now. */
const held = new Set<string>();

/**
 * Takes the lock of an mbox. It is not touched again: work under it must end well before it is stale.
 *
 * @param epoch  A lock that Postern took at an earlier one is nobody's: the fence keeps that owner away.
 * @returns what gives it back.
 * @throws {Fault} `busy` when another program holds it until `giveUpMs`.
 */
export async function takeDotlock(
  mbox: string,
  epoch: number,
  giveUpMs: number,
): Promise<() => Promise<void>> {
  const lock = `${mbox}.lock`;
  const mine = `${process.pid}\n${hostname()}\npostern ${incarnation} ${++locksTaken} ${epoch}\n`;
  held.add(mine);
  try {
    while (!(await tryLock(lock, mine))) {
      if (await isLeft(lock, epoch)) {
        await unlinkFile(lock).catch(() => {});
        continue;
      }
      if (performance.now() > giveUpMs) throw new Fault('busy', 'another program has locked the mailbox');
      await sleep(retryMs);
    }
  } catch (error) {
    held.delete(mine);
    throw error;
  }
  return async () => {
    held.delete(mine);
    // Not if it was taken for stale and given to another.
    const text = await readWhole(lock).catch(() => undefined);
    if (text?.toString() === mine) await unlinkFile(lock).catch(() => {});
  };
}

/** The lock appears with what it says in it: an empty one that a crash left could be anybody's. */
async function tryLock(lock: string, mine: string): Promise<boolean> {
  const temporary = path.join(path.dirname(lock), 'tmp', temporaryName());
  const fd = await openFile(temporary, 'wx', 0o644);
  try {
    await writeAt(fd, Buffer.from(mine), 0);
  } finally {
    await closeFile(fd);
  }
  try {
    await linkFile(temporary, lock);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST') return false;
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(errno)) throw error;
    return await makeLock(lock, mine);
  } finally {
    await unlinkFile(temporary).catch(() => {});
  }
}

/** Where files cannot be linked. */
async function makeLock(lock: string, mine: string): Promise<boolean> {
  try {
    const fd = await openFile(lock, 'wx', 0o644);
    await writeAt(fd, Buffer.from(mine), 0).finally(() => closeFile(fd));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function isLeft(lock: string, epoch: number): Promise<boolean> {
  try {
    const stats = await statFile(lock);
    if (Date.now() - stats.mtimeMs > staleMs) return true;
    const text = (await readWhole(lock))?.toString() ?? '';
    const ours = /\npostern ([0-9a-f]{16}) \d{1,15} (\d{1,15})\n$/.exec(text);
    if (ours) return Number(ours[2]) < epoch || (ours[1] === incarnation && !held.has(text));
    const [pid, host] = text.split('\n');
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
