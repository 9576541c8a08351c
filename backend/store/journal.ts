/**
 * The journal of one account at one epoch: `journal.<epoch>`, appended to by
 * this process alone. A new owner writes a new file under its own epoch and
 * removes the older ones, so that what a paused former owner still appends
 * goes to a file that nobody reads (DESIGN section 2, invariant 4).
 *
 * Waiting records share one write and one fdatasync: a flush starts when the
 * flush before it has ended, which groups by itself.
 */
import fs from 'node:fs';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import {
  closeLater,
  dataSync,
  listDirectory,
  openFile,
  readWhole,
  renameFile,
  storageFault,
  syncDirectory,
  truncateFile,
  unlinkFile,
  writeAt,
} from './files.ts';
import { formatRecord, type JournalRecord, type ReadJournal, readRecords } from './journal-records.ts';

/** Journals that keep their descriptor between flushes, in this process. */
const openDescriptorsMax = 1000;
/** Journals with an open descriptor, least lately used first. */
const withDescriptor = new Set<Journal>();

/** A journal is compacted when it has grown past this and past four times what it was after the last time. */
const compactBytes = 64 * 1024;

interface Waiting {
  readonly text: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

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
 * @throws {Fault} `storage-failed`, `no-space`
 */
export async function openJournal(
  directory: string,
  epoch: number,
  who: string,
  held: 'held' | 'taken' | 'first',
  log: Log,
): Promise<OpenedJournal> {
  const file = path.join(directory, `journal.${epoch}`);
  const header: JournalRecord = { t: 'journal', v: 1, epoch, who };
  try {
    if (held === 'held') {
      const data = await readWhole(file);
      if (data !== undefined) {
        const read = readRecords(data);
        const journal = new Journal(file, data.length, log);
        if (read.torn || read.damagedLines > 0) {
          reportDamage(log, file, read);
          await journal.rewrite([header, ...read.records]);
        }
        return { journal, read, lost: false };
      }
    }
    const older = held === 'first' ? [] : await journalsIn(directory);
    const newest = older.findLast((entry) => entry.epoch <= epoch);
    const data = newest && (await readWhole(path.join(directory, newest.name)));
    const read = readRecords(data ?? Buffer.alloc(0));
    if (read.torn || read.damagedLines > 0) reportDamage(log, newest!.name, read);
    const journal = new Journal(file, 0, log);
    await journal.rewrite([header, ...read.records.filter((record) => record.t !== 'journal')]);
    for (const entry of older) {
      if (entry.epoch < epoch) await unlinkFile(path.join(directory, entry.name)).catch(() => {});
    }
    return { journal, read, lost: held !== 'first' && newest === undefined };
  } catch (error) {
    throw storageFault(error, 'journal-open');
  }
}

function reportDamage(log: Log, file: string, read: ReadJournal): void {
  const facts = { event: 'journal-damaged', file, damagedLines: read.damagedLines, torn: read.torn };
  // A torn end is what a crash leaves; damage in the middle is the storage's doing.
  if (read.damagedLines > 0) log.error(facts, 'journal has damaged lines; the good ones are kept');
  else log.warn(facts, 'journal ends in a torn line, which is cut off');
}

async function journalsIn(directory: string): Promise<{ name: string; epoch: number }[]> {
  const names = await listDirectory(directory);
  return names
    .map((name) => ({ name, epoch: Number(/^journal\.(\d{1,15})$/.exec(name)?.[1] ?? Number.NaN) }))
    .filter((entry) => !Number.isNaN(entry.epoch))
    .sort((a, b) => a.epoch - b.epoch);
}

export class Journal {
  readonly #file: string;
  readonly #log: Log;
  #fd: number | undefined;
  #size: number;
  /** Bytes after the last compaction; 0 while there was none. */
  #compactedSize = 0;
  #queue: Waiting[] = [];
  #flushing: Promise<void> | undefined;
  #broken: Fault | undefined;
  /** Told once, when nothing more can be written here. */
  onBroken: ((fault: Fault) => void) | undefined;

  constructor(file: string, size: number, log: Log) {
    this.#file = file;
    this.#size = size;
    this.#log = log;
  }

  /** Settles when the records are on stable storage, in one piece and in order. */
  append(...records: readonly JournalRecord[]): Promise<void> {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((resolve, reject) => {
      this.#queue.push({ text: records.map(formatRecord).join(''), resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  /** Writes records nobody waits for: losing them in a crash costs work, not truth. */
  note(...records: readonly JournalRecord[]): void {
    this.append(...records).catch((error: unknown) => {
      this.#log.warn({ event: 'journal-note-lost', file: this.#file, err: error }, 'journal note was lost');
    });
  }

  get wantsCompaction(): boolean {
    return this.#size > compactBytes && this.#size > 4 * this.#compactedSize;
  }

  /** Replaces the journal by a snapshot that says the same in less. */
  async compact(records: Iterable<JournalRecord>): Promise<void> {
    await this.rewrite(records);
    this.#compactedSize = this.#size;
  }

  /** Replaces the journal by what `records` say. Nothing may be appended meanwhile but notes. */
  async rewrite(records: Iterable<JournalRecord>): Promise<void> {
    await this.#flushing;
    if (this.#broken) throw this.#broken;
    this.#flushing = this.#replace(records);
    try {
      await this.#flushing;
    } finally {
      this.#flushing = undefined;
      if (this.#queue.length > 0) this.#flushing = this.#flush();
    }
  }

  /** Flushes and closes. */
  async close(): Promise<void> {
    while (this.#flushing) await this.#flushing.catch(() => {});
    this.#broken ??= new Fault('gone', 'the account was closed');
    this.closeDescriptor();
  }

  get idle(): boolean {
    return this.#flushing === undefined;
  }

  closeDescriptor(): void {
    if (this.#fd !== undefined) closeLater(this.#fd);
    this.#fd = undefined;
    withDescriptor.delete(this);
  }

  async #flush(): Promise<void> {
    // Everything asked for in this turn of the event loop goes along.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        await this.#write(batch.length === 1 ? batch[0]!.text : batch.map((one) => one.text).join(''));
        for (const one of batch) one.resolve();
      } catch (error) {
        const fault = storageFault(error, 'journal-append');
        for (const one of batch) one.reject(fault);
      }
    }
    this.#flushing = undefined;
  }

  async #write(text: string): Promise<void> {
    if (this.#broken) throw this.#broken;
    const data = Buffer.from(text);
    try {
      const fd = await this.#descriptor();
      try {
        await writeAt(fd, data, this.#size);
      } catch (error) {
        // A full disk: what was written is cut off again, and the next record may fit.
        if (errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT') {
          await truncateFile(fd, this.#size);
          throw storageFault(error, 'journal-append');
        }
        throw error;
      }
      // After a failed sync nobody knows what is on the disk: never tried again (CASES 91).
      await dataSync(fd);
      this.#size += data.length;
    } catch (error) {
      const fault = storageFault(error, 'journal-append');
      if (fault.code !== 'no-space') this.#breakOff(fault);
      throw fault;
    }
  }

  /** Opened without O_CREAT: when a newer owner has removed the file, nothing may be written. */
  async #descriptor(): Promise<number> {
    withDescriptor.delete(this);
    withDescriptor.add(this);
    if (this.#fd !== undefined) return this.#fd;
    if (withDescriptor.size > openDescriptorsMax) {
      for (const journal of withDescriptor) {
        if (journal !== this && journal.idle) {
          journal.closeDescriptor();
          break;
        }
      }
    }
    this.#fd = await openFile(this.#file, fs.constants.O_WRONLY);
    return this.#fd;
  }

  async #replace(records: Iterable<JournalRecord>): Promise<void> {
    const temporary = `${this.#file}.tmp`;
    try {
      const fd = await openFile(temporary, 'w');
      let size = 0;
      try {
        let text = '';
        const put = async (): Promise<void> => {
          const data = Buffer.from(text);
          text = '';
          await writeAt(fd, data, size);
          size += data.length;
        };
        for (const record of records) {
          text += formatRecord(record);
          if (text.length > 1 << 20) await put();
        }
        await put();
        await dataSync(fd);
        await renameFile(temporary, this.#file);
        await syncDirectory(path.dirname(this.#file));
      } catch (error) {
        closeLater(fd);
        await unlinkFile(temporary).catch(() => {});
        throw error;
      }
      this.closeDescriptor();
      this.#fd = fd;
      withDescriptor.add(this);
      this.#size = size;
    } catch (error) {
      const fault = storageFault(error, 'journal-rewrite');
      if (fault.code !== 'no-space') this.#breakOff(fault);
      throw fault;
    }
  }

  #breakOff(fault: Fault): void {
    if (this.#broken) return;
    this.#broken = fault;
    this.onBroken?.(fault);
  }
}
