/**
 * The mark in an account's directory that says that another server has its
 * Maildir now. While it is there Postern opens the account for nobody: two
 * servers that change one Maildir would give the same UID to two messages.
 */
import path from 'node:path';
import { errnoOf } from '../../base/fault.ts';
import { replaceDurably, statFile, syncDirectory, unlinkFile } from './files.ts';

const markName = 'handed-back';

export async function isHandedBack(account: string): Promise<boolean> {
  try {
    await statFile(path.join(account, markName));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

export function markHandedBack(account: string, now: Date): Promise<void> {
  return replaceDurably(path.join(account, markName), `${now.toISOString()}\n`);
}

/** @returns false when it was not marked. */
export async function unmarkHandedBack(account: string): Promise<boolean> {
  try {
    await unlinkFile(path.join(account, markName));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
  await syncDirectory(account);
  return true;
}
