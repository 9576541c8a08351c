/**
 * Finds the journal to go on from and begins this epoch's own with what it says
 * (DESIGN section 2, invariant 4).
 */
import path from 'node:path';
import type { Log } from '../../base/log.ts';
import {
  journalEpoch,
  journalName,
  journalsToRemove,
  journalToReplay,
  mustListAgain,
} from '../../cluster-protocol/fence.ts';
import { listDirectory, readWhole, storageFault, unlinkFile } from './files.ts';
import { Journal } from './journal.ts';
import { type JournalRecord, type ReadJournal, readRecords } from './journal-records.ts';
import type { Guard } from './store.ts';

export interface OpenedJournal {
  readonly journal: Journal;
  readonly read: ReadJournal;
  /** There should have been one and there was none. */
  readonly lost: boolean;
}

/**
 * Opens the account's journal at an epoch; the fence must have been taken.
 *
 * @param held  What `takeFence` found.
 * @throws {Fault} `not-owner`, `lease-lost`, `storage-failed`, `no-space`
 */
export async function openJournal(
  directory: string,
  guard: Guard,
  who: string,
  held: 'held' | 'taken' | 'first',
  log: Log,
): Promise<OpenedJournal> {
  const { epoch } = guard;
  const file = path.join(directory, journalName(epoch));
  const header: JournalRecord = { t: 'journal', v: 1, epoch, who };
  try {
    if (held === 'held') {
      const data = await readWhole(file);
      if (data !== undefined) {
        const read = readRecords(data);
        const journal = new Journal(file, read.usedBytes, data.length, log);
        if (read.torn || read.damagedLines > 0) {
          reportDamage(log, file, read);
          await journal.rewrite([header, ...read.records]);
        }
        return { journal, read, lost: isEmpty(read) };
      }
    }
    const { older, newest, data } =
      held === 'first'
        ? { older: [], newest: undefined, data: undefined }
        : await newestJournal(directory, epoch);
    const read = readRecords(data ?? Buffer.alloc(0));
    if (read.torn || read.damagedLines > 0) reportDamage(log, journalName(newest!), read);
    const journal = new Journal(file, 0, 0, log);
    guard.assert();
    await journal.rewrite([header, ...read.records.filter((record) => record.t !== 'journal')]);
    // One that stood still and lost the account meanwhile removes nothing under its next owner.
    guard.assert();
    for (const one of journalsToRemove(older, epoch))
      await unlinkFile(path.join(directory, journalName(one))).catch(() => {});
    return { journal, read, lost: held !== 'first' && isEmpty(read) };
  } catch (error) {
    throw storageFault(error, 'journal-open');
  }
}

/** Every journal begins with a record: one without any was emptied. */
function isEmpty(read: ReadJournal): boolean {
  return read.records.length === 0;
}

function reportDamage(log: Log, file: string, read: ReadJournal): void {
  const facts = { event: 'journal-damaged', file, damagedLines: read.damagedLines, torn: read.torn };
  // A torn end is what a crash leaves; damage in the middle is the storage's doing.
  if (read.damagedLines > 0) log.error(facts, 'journal has damaged lines; the good ones are kept');
  else log.warn(facts, 'journal ends in a torn line, which is cut off');
}

/** The journal to go on from, and all there are. */
async function newestJournal(
  directory: string,
  epoch: number,
): Promise<{ older: number[]; newest: number | undefined; data: Buffer | undefined }> {
  for (let listings = 1; ; listings++) {
    // After the owner file was replaced in this directory: that is what makes NFS give up a listing it has cached.
    const older = await journalsIn(directory);
    const newest = journalToReplay(older, epoch);
    const data =
      newest === undefined ? undefined : await readWhole(path.join(directory, journalName(newest)));
    if (!mustListAgain(newest, data !== undefined, listings)) return { older, newest, data };
  }
}

async function journalsIn(directory: string): Promise<number[]> {
  const names = await listDirectory(directory);
  return names.map(journalEpoch).filter((epoch) => epoch !== undefined);
}
