/**
 * The fence (DESIGN section 2, invariant 4): the `owner` file of an account
 * holds the greatest epoch anyone has acted at. A backend records its own
 * before it does anything, and keeps away when it finds a greater one.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type FenceRecord, judgeFence } from '../../cluster-protocol/fence.ts';
import { readWhole, replaceDurably, replaceFile, storageFault } from './files.ts';
import type { Guard } from './store.ts';

/** This process among all that ever held an account. */
export const incarnation = randomBytes(8).toString('hex');

/**
 * @param write  How the file is replaced.
 * @returns `held` when this process had recorded this epoch before, `taken` when it is new here,
 *   `first` when nobody had held the account.
 * @throws {Fault} `not-owner` when a greater epoch is recorded; `storage-failed`, `no-space`.
 */
export async function takeFence(
  directory: string,
  guard: Guard,
  log: Log,
  who = incarnation,
  write = replaceDurably,
): Promise<'held' | 'taken' | 'first'> {
  guard.assert();
  const file = path.join(directory, 'owner');
  try {
    const text = (await readWhole(file))?.toString();
    const found = text === undefined ? undefined : parseOwner(text);
    if (text !== undefined && found === undefined) {
      log.error({ event: 'fence-unreadable', file }, 'owner file is damaged and is written anew');
    }
    const verdict = judgeFence(found, guard.epoch, who);
    if (verdict === 'refuse') {
      throw new Fault('not-owner', 'another backend owns this account', {
        detail: { epoch: guard.epoch, recorded: found?.epoch, owner: found?.owner },
      });
    }
    if (verdict === 'held') return 'held';
    await write(file, `${JSON.stringify({ format: 1, epoch: guard.epoch, owner: who, pid: process.pid })}\n`);
    guard.assert();
    return text === undefined ? 'first' : 'taken';
  } catch (error) {
    throw storageFault(error, 'fence');
  }
}

/**
 * The same for whoever goes on to open the journal at this epoch, which syncs the directory of both. A crash in
 * between leaves a journal under the new epoch beside the old fence: a copy, from which nobody was answered yet.
 */
export function takeFenceBeforeJournal(
  directory: string,
  guard: Guard,
  log: Log,
): Promise<'held' | 'taken' | 'first'> {
  return takeFence(directory, guard, log, incarnation, replaceFile);
}

function parseOwner(text: string): FenceRecord | undefined {
  try {
    const { epoch, owner } = JSON.parse(text) as { epoch?: unknown; owner?: unknown };
    if (typeof epoch !== 'number' || !Number.isSafeInteger(epoch) || typeof owner !== 'string')
      return undefined;
    return { epoch, owner };
  } catch {
    return undefined;
  }
}
