/** A folder of an account, whether its messages are indexed yet or not; and how its directory comes to be. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import {
  listDirectory,
  makeDirectories,
  makeDirectory,
  removeTree,
  renameFile,
  replaceDurably,
} from './files.ts';
import { type FolderMeta, metaName, writeMeta } from './folder-meta.ts';
import { canonicalFolderName, compareFolderNames, directoryOf, parentsOf } from './folder-name.ts';
import type { JournalRecord } from './journal-records.ts';
import { mboxName } from './mbox/mbox-file.ts';
import type { FolderFormat, FolderInfo } from './store.ts';
import type { StoreHost } from './store-host.ts';
import type { StoredFolder } from './stored-folder.ts';

export interface FolderEntry {
  name: string;
  /** Directory in `Maildir/` or `mbox/`; empty for INBOX. */
  directory: string;
  format: FolderFormat;
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
  format: FolderFormat,
  meta: FolderMeta,
  assertLease: () => void,
): Promise<void> {
  const aside = path.join(accountDirectory, newFolderName());
  try {
    await fillFolderDirectory(aside, format, meta);
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

/** Directory below `Maildir/`, whose root is INBOX, or below `mbox/`. */
export function rootOf(accountDirectory: string, format: FolderFormat): string {
  return path.join(accountDirectory, format === 'mbox' ? 'mbox' : 'Maildir');
}

/** @param directory  As in `FolderEntry`. */
export function placeOf(accountDirectory: string, format: FolderFormat, directory: string): string {
  const inbox = format === 'mbox' ? 'INBOX' : '';
  return path.join(rootOf(accountDirectory, format), directory || inbox);
}

/** Makes the directory of an empty folder. */
export async function fillFolderDirectory(
  directory: string,
  format: FolderFormat,
  meta: FolderMeta,
): Promise<void> {
  await makeDirectory(directory);
  for (const part of format === 'mbox' ? ['tmp'] : ['cur', 'new', 'tmp']) {
    await makeDirectory(path.join(directory, part));
  }
  // An mbox folder is one with an mbox; a Maildir++ folder has this mark.
  await replaceDurably(path.join(directory, format === 'mbox' ? mboxName : 'maildirfolder'), '');
  await writeMeta(directory, meta);
}

/** Where a new folder is made before it gets its place; debris after a crash, unless the journal says otherwise. */
export function newFolderName(): string {
  return `${newPrefix}${randomBytes(8).toString('hex')}`;
}

/** Does a directory look like a folder another program made? */
export async function isFolder(directory: string, format: FolderFormat): Promise<boolean> {
  const names = await listDirectory(directory).catch((): string[] => []);
  return names.includes(format === 'mbox' ? mboxName : 'cur');
}

/** What is in `Maildir/`, which is made when there is none, and which folders are in `mbox/`, as in `FolderEntry`. */
export async function listFolders(
  accountDirectory: string,
): Promise<{ names: readonly string[]; mboxes: readonly string[]; isNew(): Promise<boolean> }> {
  const [maildir, mboxes] = await Promise.all(
    (['maildir', 'mbox'] as const).map((format) =>
      listDirectory(rootOf(accountDirectory, format)).catch((error: unknown): string[] => {
        if (errnoOf(error) === 'ENOENT') return [];
        throw error;
      }),
    ),
  );
  const names = maildir!;
  for (const name of ['cur', 'new', 'tmp']) {
    if (!names.includes(name)) await makeDirectories(path.join(rootOf(accountDirectory, 'maildir'), name));
  }
  const isEmpty = async (name: string): Promise<boolean> =>
    (await listDirectory(path.join(rootOf(accountDirectory, 'maildir'), name))).length === 0;
  return {
    names,
    isNew: async () => !names.includes(metaName) && (await isEmpty('cur')) && (await isEmpty('new')),
    mboxes: mboxes!
      .filter((name) => name === 'INBOX' || name[0] === '.')
      .map((name) => (name === 'INBOX' ? '' : name)),
  };
}

/** Folders and the levels above them that hold nothing themselves, in the order of listings. */
export function listingOf(
  entries: ReadonlyMap<string, FolderEntry>,
  subscribed: ReadonlySet<string>,
): readonly FolderInfo[] {
  const all = new Map<string, FolderInfo>();
  for (const { name, meta, format } of entries.values()) {
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
      format,
      specialUse: meta.specialUse,
      subscribed: subscribed.has(name),
      selectable: true,
    });
  }
  return [...all.values()].sort((a, b) => compareFolderNames(a.name, b.name));
}

export function noSuchFolder(): Fault {
  return new Fault('no-such-folder', 'there is no such folder');
}
