/**
 * What an earlier opening of an account left in intake logs becomes files,
 * durably, before anyone sees the account. A message is there once: under a
 * UID that was expunged or moved away it does not come again, and where its
 * file is there already, that is held against what the log says.
 */
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import {
  closeLater,
  fullSync,
  listDirectory,
  makeDirectories,
  openFile,
  readSmall,
  renameFile,
  replaceFile,
  syncDirectory,
  unlinkFile,
} from '../files.ts';
import { listFolders } from '../folder-entry.ts';
import { clearTemporary } from '../folder-load.ts';
import { readMeta } from '../folder-meta.ts';
import { temporaryName } from '../incoming.ts';
import type { JournalRecord } from '../journal-records.ts';
import type { AccountReplay } from '../journal-replay.ts';
import { parseMessageName } from '../message-name.ts';
import type { Guard } from '../store.ts';
import { addRange, inRanges, rangesOf } from '../uid-set.ts';
import type { FoundMessage, IntakeReader } from './intake-reader.ts';

export interface IntakeToRecover {
  readonly reader: IntakeReader;
  /** Address. */
  readonly account: string;
  readonly maildir: string;
  readonly replay: AccountReplay;
  /** false: the journal does not say everything, so all logs are looked at. */
  readonly journalWhole: boolean;
  readonly guard: Guard;
  readonly log: Log;
}

export interface RecoveredIntake {
  /** What the journal may say now: that the logs hold nothing any more that the account needs. */
  readonly records: readonly JournalRecord[];
  /** By log, up to which record that is so. */
  readonly taken: ReadonlyMap<string, number>;
}

export async function recoverIntake(account: IntakeToRecover): Promise<RecoveredIntake> {
  const { replay, reader, log } = account;
  const logs = new Map(replay.intakes);
  if (!account.journalWhole) for (const id of await reader.logIds()) logs.set(id, logs.get(id) ?? 0);
  let places: ReadonlyMap<string, string> | undefined;
  let sound = true;
  const taken = new Map<string, number>();
  for (const [logId, fromSeq] of logs) {
    const found = await reader.messagesOf(logId, account.account);
    if (found === undefined) {
      sound = false;
      log.error(
        { event: 'intake-lost', intake: logId },
        'an intake log is missing; messages that came shortly before the end of its process may be lost',
      );
      continue;
    }
    taken.set(logId, found.lastSeq);
    if (!found.sound || found.lastSeq < fromSeq) sound = false;
    const wanted = found.messages.filter(({ seq }) => seq >= fromSeq);
    if (wanted.length === 0) continue;
    places ??= await placesOf(account);
    const byMailbox = Map.groupBy(wanted, ({ mailboxId }) => mailboxId);
    for (const [mailboxId, messages] of byMailbox) {
      account.guard.assert();
      const directory = places.get(mailboxId);
      // The folder was deleted, and its messages with it.
      if (directory !== undefined) await bringIn(account, logId, directory, mailboxId, messages);
    }
  }
  const records: JournalRecord[] = [];
  if (!sound) {
    places ??= await placesOf(account);
    for (const f of places.keys()) records.push(somethingChanged(f));
  }
  for (const i of replay.intakes.keys()) records.push({ t: 'intake-settled', i });
  return { records, taken };
}

/**
 * Changes nothing, and means that a folder was not closed in order: messages that nothing tells of any more may have
 * had UIDs and sequences, so the blocks that were reserved are skipped.
 */
function somethingChanged(f: string): JournalRecord {
  return { t: 'flags', f, u: '', how: 'add', fl: 0, m: 1 };
}

/** Directories of the account's folders, by mailbox id. */
async function placesOf({ maildir, replay }: IntakeToRecover): Promise<ReadonlyMap<string, string>> {
  const places = new Map<string, string>();
  const names = await listDirectory(maildir).catch((error: unknown): string[] => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  // An INBOX that is an mbox has no files there; its Maildir is still the place of the others.
  const { mboxes } = await listFolders(path.dirname(maildir));
  for (const name of ['', ...names.filter((entry) => entry[0] === '.')]) {
    if (mboxes.includes(name)) continue;
    const directory = path.join(maildir, name);
    const mailboxId = (await readMeta(directory))?.mailboxId ?? replay.directories.get(name)?.mailboxId;
    if (mailboxId !== undefined) places.set(mailboxId, directory);
  }
  return places;
}

async function bringIn(
  account: IntakeToRecover,
  logId: string,
  directory: string,
  mailboxId: string,
  messages: readonly FoundMessage[],
): Promise<void> {
  const cur = path.join(directory, 'cur');
  for (const part of ['cur', 'new', 'tmp']) await makeDirectories(path.join(directory, part));
  // A former owner that wakes up in the midst of making a file finds its temporary one gone.
  await clearTemporary(directory);
  const gone = goneOf(account.replay, mailboxId);
  const there = new Map<number, string>();
  for (const text of await listDirectory(cur)) {
    const name = parseMessageName(text);
    if (name) there.set(name.uid, text);
  }
  let made = 0;
  for (const message of messages) {
    const name = parseMessageName(message.name);
    if (name === undefined || inRanges(gone, name.uid)) continue;
    const body = await account.reader.bodyOf(logId, message);
    if (body === undefined) continue;
    account.guard.assert();
    const text = there.get(name.uid);
    if (text === undefined) {
      await writeMessage(directory, message.name, body);
      made++;
    } else if (parseMessageName(text)?.emailId !== name.emailId) {
      // Another message bears its UID: then it comes as one that another program brought.
      account.log.error({ event: 'intake-uid-taken', uid: name.uid, file: text }, 'a UID was given twice');
      await replaceFile(path.join(directory, 'new', temporaryName()), body);
      await syncDirectory(path.join(directory, 'new'));
    } else if (await holds(path.join(cur, text), body)) await syncFile(path.join(cur, text));
    else await writeMessage(directory, text, body);
  }
  await syncDirectory(cur);
  if (made > 0) {
    account.log.info(
      { event: 'intake-taken-in', directory, count: made },
      'messages taken from an intake log',
    );
  }
}

/** UIDs whose messages were expunged or moved away. */
function goneOf(replay: AccountReplay, mailboxId: string): (readonly [number, number])[] {
  const ranges: (readonly [number, number])[] = [];
  for (const record of replay.folders.get(mailboxId) ?? []) {
    const sets = record.t === 'gone' ? [record.u] : record.t === 'folder' ? record.x.map(([set]) => set) : [];
    for (const set of sets) for (const range of rangesOf(set)) addRange(ranges, ...range);
  }
  return ranges;
}

async function writeMessage(directory: string, name: string, body: Buffer): Promise<void> {
  const temporary = path.join(directory, 'tmp', temporaryName());
  // Durable before it is renamed: a power cut leaves the old file or this one.
  await replaceFile(temporary, body);
  try {
    await renameFile(temporary, path.join(directory, 'cur', name));
  } catch (error) {
    await unlinkFile(temporary).catch(() => {});
    throw error;
  }
}

async function holds(file: string, body: Buffer): Promise<boolean> {
  return (await readSmall(file, body.length + 1)).equals(body);
}

async function syncFile(file: string): Promise<void> {
  const fd = await openFile(file, 'r+');
  try {
    await fullSync(fd);
  } finally {
    closeLater(fd);
  }
}
