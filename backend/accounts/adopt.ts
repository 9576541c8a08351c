/** Moves a Maildir that stands elsewhere on the storage into an account, whole and by one rename. */
import { randomBytes } from 'node:crypto';
import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import {
  listDirectory,
  removeTree,
  renameFile,
  statFile,
  storageFault,
  syncDirectory,
} from '../store/files.ts';
import { rootOf } from '../store/folder-entry.ts';
import { mboxName } from '../store/mbox/mbox-file.ts';

/**
 * @param root  The storage root.
 * @param account  The account's directory; nobody has it open.
 * @param from  Absolute path of the Maildir.
 * @throws {Fault} `bad-argument`: not a Maildir, on another file system, inside the storage root's own directories.
 *     `already-exists`: the account has mail. `storage-failed`.
 */
export async function adoptMaildir(root: string, account: string, from: string): Promise<void> {
  const source = await maildirAt(root, from);
  const target = path.join(account, 'Maildir');
  if (!(await isEmpty(target)) || (await mboxesWithMail(account))) {
    throw new Fault('already-exists', 'the account has mail already; adopt into an account without any');
  }
  const aside = path.join(account, `deleted-folder-${randomBytes(8).toString('hex')}`);
  try {
    await renameFile(target, aside).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    await removeTree(rootOf(account, 'mbox'));
    await renameFile(source, target);
    await syncDirectory(account);
    await syncDirectory(path.dirname(source));
  } catch (error) {
    // The account is opened with an empty Maildir again; the one that was to come is where it was.
    if (errnoOf(error) === 'EXDEV') {
      throw new Fault(
        'bad-argument',
        `${from} is on another file system; copy it there first ("cp -a" or "rsync -a" keep file times)`,
        { cause: error },
      );
    }
    throw storageFault(error, 'adopt');
  }
}

async function maildirAt(root: string, from: string): Promise<string> {
  let source: string;
  let names: string[];
  try {
    if (!(await lstat(from)).isDirectory()) throw new Fault('bad-argument', `${from} is not a directory`);
    source = await realpath(from);
    names = await listDirectory(source);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') {
      throw new Fault('bad-argument', `${from} cannot be read by the backend: ${code}`, { cause: error });
    }
    throw storageFault(error, 'adopt');
  }
  if (!names.includes('cur')) throw new Fault('bad-argument', `${from} is not a Maildir: it has no "cur"`);
  const inside = path.relative(await realpath(root), source);
  if (inside === '' || /^(?:domains|removed|new|intake)(?:\/|$)/.test(inside)) {
    throw new Fault('bad-argument', `${from} belongs to the storage root itself`);
  }
  return source;
}

/** An mbox folder without a message would stand in the way of the INBOX that comes; one with messages is mail. */
async function mboxesWithMail(account: string): Promise<boolean> {
  const root = rootOf(account, 'mbox');
  for (const folder of await namesIn(root)) {
    const stats = await statFile(path.join(root, folder, mboxName)).catch(() => undefined);
    if (stats && stats.size > 0) return true;
  }
  return false;
}

/** No message and no folder with one. */
async function isEmpty(maildir: string): Promise<boolean> {
  for (const folder of ['', ...(await namesIn(maildir)).filter((name) => name[0] === '.')]) {
    for (const part of ['cur', 'new']) {
      if ((await namesIn(path.join(maildir, folder, part))).length > 0) return false;
    }
  }
  return true;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await listDirectory(directory);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error))) return [];
    throw storageFault(error, 'adopt');
  }
}
