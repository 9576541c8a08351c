/**
 * Opens the store of one account: fence first, then the journal, then what a
 * crash left unfinished, then the folders whose counts are not known.
 */
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { AccountStore } from './account-store.ts';
import { incarnation, takeFenceBeforeJournal } from './fence.ts';
import {
  linkFile,
  listDirectory,
  makeDirectories,
  renameFile,
  storageFault,
  syncDirectory,
} from './files.ts';
import { finishConversion } from './folder-conversion.ts';
import { rootOf } from './folder-entry.ts';
import { readMeta } from './folder-meta.ts';
import { isHandedBack } from './handed-back.ts';
import type { Intake } from './intake/intake.ts';
import { noteTaken } from './intake/intake-janitor.ts';
import type { IntakeReader } from './intake/intake-reader.ts';
import { recoverIntake } from './intake/intake-recovery.ts';
import type { Journal } from './journal.ts';
import { type AccountReplay, sortRecords } from './journal-replay.ts';
import { formatMessageName, parseMessageName } from './message-name.ts';
import { openJournal } from './open-journal.ts';
import type { FolderFormat, Guard, Store, StoreLimits } from './store.ts';
import { addRange, inRanges, rangesOf } from './uid-set.ts';

export interface StoreOptions {
  /** The account's directory: holds `owner`, `journal.<epoch>` and `Maildir/`. */
  readonly directory: string;
  readonly guard: Guard;
  readonly limits: StoreLimits;
  readonly log: Log;
  /** fsync directories after renames; false only where a rename is known to be carried by the file's fsync. */
  readonly dirsync: boolean;
  /** Of folders that are created; those that are there keep theirs. */
  readonly format?: FolderFormat;
  /** Where small messages go first, and where earlier owners may have left some. */
  readonly intake?: {
    readonly reader: IntakeReader;
    /** Absent: every message goes to its file at once. */
    readonly live?: Intake | undefined;
    /** The account's address. */
    readonly account: string;
  };
  /** An index for searches of text, of so many bytes at most. Without it searches look at every message. */
  readonly search?: { readonly indexBytesMax: number };
  /** Told once when the storage failed or the lease was lost under a change: close this store and open it again. */
  readonly onBroken?: (fault: Fault) => void;
}

/** @throws {Fault} `not-owner`, `lease-lost`, `storage-failed`, `no-space`, `unavailable`: released to another server */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { directory, guard, log } = options;
  if (await isHandedBack(directory).catch((error) => Promise.reject(storageFault(error, 'store-open')))) {
    throw new Fault('unavailable', 'another server has this account now');
  }
  const held = await takeFenceBeforeJournal(directory, guard, log);
  const { journal, read, lost } = await openJournal(directory, guard, incarnation, held, log);
  if (lost)
    log.error({ event: 'journal-lost', directory }, 'the journal is missing; file names are all there is');
  const maildir = path.join(directory, 'Maildir');
  try {
    const replay = sortRecords(read.records, Math.floor(Date.now() / 1000));
    if (replay.rename || replay.copies.length > 0) await makeDirectories(maildir);
    // Said to be done, or the next opening would do it once more, to folders that only have the names in common.
    if (replay.rename) {
      await finishRename(maildir, replay.rename.from, replay.rename.to, log);
      await finishRename(rootOf(directory, 'mbox'), replay.rename.from, replay.rename.to, log);
      await journal.append({ t: 'renamed' });
    }
    // Before the intake: what it has of a folder that is an mbox by now is in the mbox.
    if (replay.convert) {
      await finishConversion(directory, replay.convert, log);
      await journal.append({ t: 'converted' });
    }
    await takeFromIntake(options, replay, !lost && read.damagedLines === 0, journal);
    if (replay.copies.length > 0) {
      await finishCopies(maildir, replay);
      await journal.append(...replay.copies.map(({ id }) => ({ t: 'copied', id }) as const));
    }
    const store = new AccountStore(options, journal, replay, !lost && read.damagedLines === 0);
    await store.load();
    guard.assert();
    return store;
  } catch (error) {
    await journal.close();
    throw storageFault(error, 'store-open');
  }
}

/** Messages that only an intake log has: before the account's changes that need their files are finished. */
async function takeFromIntake(
  { directory, guard, log, intake }: StoreOptions,
  replay: AccountReplay,
  journalWhole: boolean,
  journal: Journal,
): Promise<void> {
  if (!intake) {
    if (replay.intakes.size > 0)
      throw new Fault('bug', 'messages may be in an intake log, and none is known');
    return;
  }
  const { reader, live, account } = intake;
  if (replay.intakes.size === 0 && journalWhole) return;
  const settle = await live?.takeBack(account);
  const maildir = path.join(directory, 'Maildir');
  const { records, taken } = await recoverIntake({
    reader,
    account,
    maildir,
    replay,
    journalWhole,
    guard,
    log,
  });
  guard.assert();
  if (records.length > 0) await journal.append(...records);
  guard.assert();
  // Only so that the logs can go some day.
  for (const [id, upTo] of taken) await noteTaken(reader.root, id, account, upTo).catch(() => {});
  for (const record of records) {
    if (record.t === 'flags') replay.folders.set(record.f, [...(replay.folders.get(record.f) ?? []), record]);
  }
  settle?.();
  live?.unmarked(account);
}

/** Directories of `from` and below it that still have their old names. */
async function finishRename(maildir: string, from: string, to: string, log: Log): Promise<void> {
  const names = await listDirectory(maildir).catch((error: unknown): string[] => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  if (names.length === 0) return;
  for (const name of names) {
    if (name !== from && !name.startsWith(`${from}.`)) continue;
    const target = to + name.slice(from.length);
    try {
      await renameFile(path.join(maildir, name), path.join(maildir, target));
    } catch (error) {
      if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
      // Another program made a folder of that name: both stay.
      log.error(
        { event: 'rename-unfinished', from: name, to: target },
        'a folder was in the way of a rename',
      );
    }
  }
  await syncDirectory(maildir);
}

/** Links that a crash kept from being made. The journal had promised them, so all of them come. */
async function finishCopies(maildir: string, replay: AccountReplay): Promise<void> {
  const places = new Map<string, string>();
  for (const name of ['', ...(await listDirectory(maildir)).filter((entry) => entry[0] === '.')]) {
    const directory = path.join(maildir, name);
    const meta = await readMeta(directory);
    if (meta) places.set(meta.mailboxId, path.join(directory, 'cur'));
  }
  for (const copy of replay.copies) {
    const source = places.get(copy.f);
    const target = places.get(copy.g);
    if (source === undefined || target === undefined) continue;
    const files = await filesByUid(source);
    const there = await filesByUid(target);
    const gone = goneOf(replay, copy.g);
    let newUid = copy.n;
    let modseq = copy.m;
    for (const [first, last] of rangesOf(copy.u)) {
      for (let uid = first; uid <= last; uid++, newUid++, modseq++) {
        const text = files.get(uid);
        if (text === undefined || there.has(newUid) || inRanges(gone, newUid)) continue;
        const name = parseMessageName(text)!;
        // The source's name may not show its flags yet: the record knows them.
        const flags = copy.fl[newUid - copy.n] ?? name.flags;
        const savedSeconds = copy.d;
        const to = formatMessageName({
          ...name,
          uid: newUid,
          modseq,
          flags,
          savedSeconds,
          deliveryKey: undefined,
        });
        await linkFile(path.join(source, text), path.join(target, to)).catch((error: unknown) => {
          if (errnoOf(error) !== 'EEXIST') throw error;
        });
      }
    }
    await syncDirectory(target);
  }
}

/** What was expunged from a folder: copies that had come and gone do not come again. */
function goneOf(replay: AccountReplay, mailboxId: string): (readonly [number, number])[] {
  const ranges: (readonly [number, number])[] = [];
  for (const record of replay.folders.get(mailboxId) ?? []) {
    if (record.t === 'gone') for (const range of rangesOf(record.u)) addRange(ranges, ...range);
  }
  return ranges;
}

async function filesByUid(directory: string): Promise<Map<number, string>> {
  const files = new Map<number, string>();
  for (const text of await listDirectory(directory)) {
    const name = parseMessageName(text);
    if (name) files.set(name.uid, text);
  }
  return files;
}
