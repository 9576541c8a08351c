/**
 * A folder changes its format. The new one is made aside; then one record of
 * the journal makes it the folder, and the directories follow. A crash before
 * that record leaves debris, one after it leaves work that the next opening
 * does: never half of a folder, never two.
 */
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { writeMessage } from './bring-files.ts';
import {
  eachAtOnce,
  listDirectory,
  makeDirectories,
  removeTree,
  renameFile,
  statFile,
  syncDirectory,
} from './files.ts';
import { deletedPath, fillFolderDirectory, newFolderName, placeOf, rootOf } from './folder-entry.ts';
import { metaName } from './folder-meta.ts';
import type { JournalRecord } from './journal-records.ts';
import { cleanRecords } from './journal-snapshot.ts';
import { MboxFile } from './mbox/mbox-file.ts';
import { seenOf } from './mbox/seen-file.ts';
import { appendedMessage, prepareMessage } from './mbox/stored-message.ts';
import { type MessageName, parseMessageName } from './message-name.ts';
import type { FolderFormat } from './store.ts';
import type { StoreHost } from './store-host.ts';
import type { Brought, StoredFolder } from './stored-folder.ts';

const messagesAtOnce = 200;
const sliceBytes = 256 * 1024;

/**
 * In the lane. @param directory  As in `FolderEntry`.
 * @returns the journal records the folder is to be loaded with.
 */
export async function convertFolder(
  host: StoreHost,
  accountDirectory: string,
  directory: string,
  folder: StoredFolder,
  to: FolderFormat,
): Promise<readonly JournalRecord[]> {
  await folder.late.settled();
  await host.intake?.settle(folder.pending.unsettled());
  if (folder.late.behind) throw new Fault('busy', 'work on the folder is not done yet; try again');
  return folder.alone(() => convertNow(host, accountDirectory, directory, folder, to));
}

async function convertNow(
  host: StoreHost,
  accountDirectory: string,
  directory: string,
  folder: StoredFolder,
  to: FolderFormat,
): Promise<readonly JournalRecord[]> {
  const aside = newFolderName();
  const place = path.join(accountDirectory, aside);
  const record = { t: 'convert', d: directory, to, a: aside } as const;
  try {
    await fillFolderDirectory(place, to, folder.meta);
    if (to === 'mbox') await fillMbox(place, folder);
    else await fillMaildir(place, folder);
    await syncDirectory(accountDirectory);
    host.guard.assert();
  } catch (error) {
    await removeTree(place).catch(() => {});
    throw error;
  }
  await host.orBreak(async () => {
    await host.journal.append(record);
    host.guard.assert();
    await finishConversion(accountDirectory, record, host.log);
    await host.journal.append({ t: 'converted' }, ...cleanRecords(folder));
    host.guard.assert();
  });
  return [...folder.state.snapshot(folder.mailboxId), ...cleanRecords(folder)];
}

/** Messages in the order of their UIDs, under the names they are to have. */
function messagesOf(folder: StoredFolder): Brought[] {
  const { columns } = folder.state;
  return [...columns.uids()].map((uid, at) => {
    const name: MessageName = { ...parseMessageName(columns.nameOf(at))!, flags: columns.flags[at]! };
    return {
      name,
      async *pieces() {
        const message = await folder.open(uid, false);
        try {
          for (let from = 0; from < message.size; from += sliceBytes) {
            yield await message.read(from, from + sliceBytes);
          }
        } finally {
          await message.close();
        }
      },
    };
  });
}

async function fillMbox(place: string, folder: StoredFolder): Promise<void> {
  const file = new MboxFile(place, folder.host.guard.epoch);
  const messages = messagesOf(folder);
  await file.locked(async (fd) => {
    file.seen = await seenOf(fd);
    for (let at = 0; at < messages.length; at += messagesAtOnce) {
      folder.check();
      const some = [];
      for (const { name, pieces } of messages.slice(at, at + messagesAtOnce)) {
        some.push(appendedMessage(await prepareMessage(pieces), name));
      }
      await file.append(fd, some);
    }
  });
}

async function fillMaildir(place: string, folder: StoredFolder): Promise<void> {
  await eachAtOnce(messagesOf(folder), async (message) => {
    folder.check();
    const temporary = path.join(place, 'tmp', String(message.name.uid));
    const name = await writeMessage(temporary, message);
    await renameFile(temporary, path.join(place, 'cur', name));
  });
  await syncDirectory(path.join(place, 'cur'));
}

/** Puts the new folder where the old one was. Each step may have been done already. */
export async function finishConversion(
  accountDirectory: string,
  { d: directory, to, a }: { readonly d: string; readonly to: FolderFormat; readonly a: string },
  log: Log,
): Promise<void> {
  const aside = path.join(accountDirectory, a);
  const from = to === 'mbox' ? 'maildir' : 'mbox';
  const target = placeOf(accountDirectory, to, directory);
  await makeDirectories(rootOf(accountDirectory, to));
  if (await exists(aside)) {
    if (to === 'maildir' && directory === '') await fillInbox(aside, target);
    else await renameFile(aside, target);
    await syncDirectory(rootOf(accountDirectory, to));
    await syncDirectory(accountDirectory);
  }
  const old = placeOf(accountDirectory, from, directory);
  if (from === 'maildir' && directory === '') await emptyInbox(accountDirectory, old);
  else if (await exists(old)) await takeAway(accountDirectory, old, from, log);
  await syncDirectory(rootOf(accountDirectory, from)).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
  await removeTree(aside).catch(() => {});
}

/** The Maildir that is INBOX holds the other folders too: it gets the files of the new one. */
async function fillInbox(aside: string, target: string): Promise<void> {
  const files = await listDirectory(path.join(aside, 'cur'));
  await eachAtOnce(files, (name) =>
    renameFile(path.join(aside, 'cur', name), path.join(target, 'cur', name)),
  );
  await syncDirectory(path.join(target, 'cur'));
  // Last: until it has gone, there is something to do.
  if (await exists(path.join(aside, metaName))) {
    await renameFile(path.join(aside, metaName), path.join(target, metaName));
    await syncDirectory(target);
  }
}

/** What a Maildir that was INBOX held goes; what other programs put into `new/` stays until it is INBOX again. */
async function emptyInbox(accountDirectory: string, maildir: string): Promise<void> {
  const away = deletedPath(accountDirectory);
  await makeDirectories(away);
  for (const name of ['cur', metaName]) {
    if (await exists(path.join(maildir, name))) {
      await renameFile(path.join(maildir, name), path.join(away, name));
    }
  }
  await makeDirectories(path.join(maildir, 'cur'));
  await removeTree(away);
}

/** Removes the old folder, unless another program put something there since it was read. */
async function takeAway(accountDirectory: string, old: string, from: FolderFormat, log: Log): Promise<void> {
  if (from === 'maildir' && (await listDirectory(path.join(old, 'new')).catch(() => [])).length > 0) {
    const kept = path.join(accountDirectory, `left-of-conversion-${path.basename(old)}-${Date.now()}`);
    log.error(
      { event: 'conversion-left', directory: kept },
      'mail came while a folder was converted; it is kept',
    );
    await renameFile(old, kept);
    return;
  }
  const away = deletedPath(accountDirectory);
  await renameFile(old, away);
  await removeTree(away);
}

async function exists(name: string): Promise<boolean> {
  try {
    await statFile(name);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
