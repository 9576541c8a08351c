/** A folder of an account, whether its messages are indexed yet or not; and how its directory comes to be. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Fault } from '../../base/fault.ts';
import { listDirectory, makeDirectory, removeTree, renameFile, replaceDurably } from './files.ts';
import { type FolderMeta, writeMeta } from './folder-meta.ts';
import { canonicalFolderName, compareFolderNames, directoryOf, parentsOf } from './folder-name.ts';
import type { JournalRecord } from './journal-records.ts';
import type { FolderInfo } from './store.ts';
import type { StoreHost } from './store-host.ts';
import type { StoredFolder } from './stored-folder.ts';

export interface FolderEntry {
  name: string;
  /** Directory in `Maildir/`; empty for INBOX. */
  directory: string;
  meta: FolderMeta;
  /** Journal records, until the folder is loaded. */
  records: readonly JournalRecord[];
  /** What the journal says is in it, until it is loaded. */
  known: { readonly bytes: number; readonly messages: number };
  folder: StoredFolder | undefined;
}

/** Directories beside `Maildir/` of folders that are being made or removed; debris after a crash. */
const newPrefix = 'new-folder-';
const deletedPrefix = 'deleted-folder-';

/** Removes folders that were being made or removed when a process ended, in the background. */
export async function clearFolderDebris(accountDirectory: string, host: StoreHost): Promise<void> {
  for (const name of await listDirectory(accountDirectory)) {
    if (!name.startsWith(newPrefix) && !name.startsWith(deletedPrefix)) continue;
    host.background(removeTree(path.join(accountDirectory, name)));
  }
}

export function deletedPath(accountDirectory: string): string {
  return path.join(accountDirectory, `${deletedPrefix}${randomBytes(8).toString('hex')}`);
}

/**
 * Builds a folder aside and renames it into place: there is never half of one.
 * The caller makes the rename durable.
 *
 * @param assertLease  Called right before the folder appears.
 */
export async function makeFolderDirectory(
  accountDirectory: string,
  target: string,
  meta: FolderMeta,
  assertLease: () => void,
): Promise<void> {
  const aside = path.join(accountDirectory, `${newPrefix}${randomBytes(8).toString('hex')}`);
  try {
    await makeDirectory(aside);
    for (const part of ['cur', 'new', 'tmp']) await makeDirectory(path.join(aside, part));
    await replaceDurably(path.join(aside, 'maildirfolder'), '');
    await writeMeta(aside, meta);
    assertLease();
    await renameFile(aside, target);
  } catch (error) {
    await removeTree(aside).catch(() => {});
    throw error;
  }
}

/**
 * The folders a rename moves, with their new names and directories.
 * @throws {Fault} `no-such-folder`, `not-allowed`, `already-exists`
 */
export function renamedEntries(
  entries: ReadonlyMap<string, FolderEntry>,
  source: string,
  target: string,
  nameBytesMax: number,
): { readonly entry: FolderEntry; readonly name: string; readonly directory: string }[] {
  const moving = [...entries.values()].filter(
    (entry) => entry.name === source || entry.name.startsWith(`${source}/`),
  );
  if (moving.length === 0) throw new Fault('no-such-folder', 'there is no such folder');
  if (target.startsWith(`${source}/`)) {
    throw new Fault('not-allowed', 'a folder cannot be moved into itself');
  }
  return moving.map((entry) => {
    const name = canonicalFolderName(target + entry.name.slice(source.length), nameBytesMax);
    if (entries.has(name)) throw new Fault('already-exists', 'there is such a folder already');
    return { entry, name, directory: directoryOf(name) };
  });
}

/** Does a directory look like a Maildir folder another program made? */
export async function isMaildir(directory: string): Promise<boolean> {
  const names = await listDirectory(directory).catch((): string[] => []);
  return names.includes('cur');
}

/** Folders and the levels above them that hold nothing themselves, in the order of listings. */
export function listingOf(
  entries: ReadonlyMap<string, FolderEntry>,
  subscribed: ReadonlySet<string>,
): readonly FolderInfo[] {
  const all = new Map<string, FolderInfo>();
  for (const { name, meta } of entries.values()) {
    for (const parent of parentsOf(name)) {
      if (all.has(parent) || entries.has(parent)) continue;
      all.set(parent, {
        name: parent,
        specialUse: undefined,
        subscribed: subscribed.has(parent),
        selectable: false,
      });
    }
    all.set(name, {
      name,
      specialUse: meta.specialUse,
      subscribed: subscribed.has(name),
      selectable: true,
    });
  }
  return [...all.values()].sort((a, b) => compareFolderNames(a.name, b.name));
}
