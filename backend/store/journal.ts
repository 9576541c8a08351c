/**
 * The journal of one account at one epoch: `journal.<epoch>`, appended to by
 * this process alone. A new owner writes a new file under its own epoch and
 * removes the older ones, so that what a paused former owner still appends
 * goes to a file that nobody reads (DESIGN section 2, invariant 4).
 *
 * Waiting records share one synchronous write: a flush starts when the flush
 * before it has ended, which groups by itself. The file ends in zeros that are
 * written over: then a record changes no size and no block map, and the write
 * is on the disk without a transaction of the file system.
 */
import fs from 'node:fs';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import {
  closeLater,
  openFile,
  renameFile,
  storageFault,
  syncDirectory,
  truncateFile,
  unlinkFile,
  writeAt,
} from './files.ts';
import { formatRecord, type JournalRecord } from './journal-records.ts';

/** Journals that keep their descriptor between flushes, in this process. */
const openDescriptorsMax = 1000;
/** Journals with an open descriptor, least lately used first. */
const withDescriptor = new Set<Journal>();

/** A journal is compacted when it has grown past this and past four times what it was after the last time. */
const compactBytes = 512 * 1024;

/** Notes are kept until a record is written anyway, there are so many, or so much time has passed. */
const notesMax = 64;
const notesMs = 20_000;

/** Zeros at the end that only records which make room may use: on a full disk messages can still be removed. */
const reserveBytes = 4096;
const blockBytes = 4096;
/** A growing journal is lengthened by what it holds, up to this. */
const growBytesMax = 256 * 1024;

/** Records that make room, or say that it was made. */
const freeing: ReadonlySet<JournalRecord['t']> = new Set([
  'gone',
  'purged',
  'forget',
  'copied',
  'copy-undone',
  'clean',
  'intake-settled',
]);

interface Waiting {
  readonly data: Buffer;
  /** May use the reserve. */
  readonly freeing: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Journal {
  readonly #file: string;
  readonly #log: Log;
  #fd: number | undefined;
  /** End of the records. */
  #size: number;
  /** Length of the file: zeros from `#size` on. */
  #allocated: number;
  /** Bytes after the last compaction; 0 while there was none. */
  #compactedSize = 0;
  #queue: Waiting[] = [];
  #notes: string[] = [];
  #notesTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #broken: Fault | undefined;
  /** Told once, when nothing more can be written here. */
  onBroken: ((fault: Fault) => void) | undefined;

  constructor(file: string, size: number, allocated: number, log: Log) {
    this.#file = file;
    this.#size = size;
    this.#allocated = allocated;
    this.#log = log;
  }

  /** Settles when the records are on stable storage, in one piece and in order. */
  append(...records: readonly JournalRecord[]): Promise<void> {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((resolve, reject) => {
      this.#queueNotes();
      this.#queue.push({
        data: Buffer.from(records.map(formatRecord).join('')),
        freeing: records.every((record) => freeing.has(record.t)),
        resolve,
        reject,
      });
      this.#flushing ??= this.#flush();
    });
  }

  /**
   * Keeps a record nobody waits for, to be written with the next one that somebody does: each by itself would cost
   * half of a delivery. Losing it in a crash costs work, not truth.
   */
  note(record: JournalRecord): void {
    if (this.#broken) return;
    this.#notes.push(formatRecord(record));
    if (this.#notes.length >= notesMax) this.#writeNotes();
    else this.#notesTimer ??= setTimeout(() => this.#writeNotes(), notesMs).unref();
  }

  #writeNotes(): void {
    this.#queueNotes();
    if (this.#queue.length > 0) this.#flushing ??= this.#flush();
  }

  #queueNotes(): void {
    if (this.#notes.length === 0) return;
    clearTimeout(this.#notesTimer);
    this.#notesTimer = undefined;
    const data = Buffer.from(this.#notes.join(''));
    this.#notes = [];
    const reject = (error: unknown): void => {
      this.#log.warn({ event: 'journal-note-lost', file: this.#file, err: error }, 'journal notes were lost');
    };
    this.#queue.push({ data, freeing: false, resolve: () => {}, reject });
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
    if (this.#broken) clearTimeout(this.#notesTimer);
    else this.#writeNotes();
    while (this.#flushing) await this.#flushing.catch(() => {});
    const healthy = this.#broken === undefined;
    this.#broken ??= new Fault('gone', 'the account was closed');
    const kept = roundUp(this.#size + reserveBytes);
    // Room for more records is given back, but for the reserve.
    if (healthy && this.#fd !== undefined && this.#allocated > kept) {
      await truncateFile(this.#fd, kept).catch(() => {});
    }
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
      let batch = this.#queue;
      this.#queue = [];
      try {
        batch = await this.#withRoom(batch);
        if (batch.length === 0) continue;
        await this.#write(batch.length === 1 ? batch[0]!.data : Buffer.concat(batch.map((one) => one.data)));
        for (const one of batch) one.resolve();
      } catch (error) {
        const fault = storageFault(error, 'journal-append');
        if (fault.code !== 'no-space') this.#breakOff(fault);
        for (const one of batch) one.reject(fault);
      }
    }
    this.#flushing = undefined;
  }

  async #write(data: Buffer): Promise<void> {
    const fd = await this.#descriptor();
    try {
      // After a failed synchronous write nobody knows what is on the disk: never tried again (CASES 91).
      await writeAt(fd, data, this.#size);
      this.#size += data.length;
      if (this.#size > this.#allocated) this.#allocated = this.#size;
    } catch (error) {
      if (!isFull(error)) throw error;
      // A file system that needs room for writing over, too: what was written is cut off again.
      await truncateFile(fd, this.#size);
      this.#allocated = this.#size;
      throw error;
    }
  }

  /** Lengthens the file for a batch. On a full disk those that have no place are turned away. */
  async #withRoom(batch: Waiting[]): Promise<Waiting[]> {
    if (this.#broken) throw this.#broken;
    let bytes = 0;
    for (const one of batch) bytes += one.data.length;
    const needed = this.#size + bytes + reserveBytes;
    if (needed <= this.#allocated) return batch;
    const fd = await this.#descriptor();
    const allocated = roundUp(needed + Math.min(growBytesMax, this.#size));
    try {
      await writeAt(fd, Buffer.alloc(allocated - this.#allocated), this.#allocated);
      this.#allocated = allocated;
      return batch;
    } catch (error) {
      if (!isFull(error)) throw error;
      await truncateFile(fd, this.#allocated);
      const fault = storageFault(error, 'journal-append');
      let end = this.#size;
      return batch.filter((one) => {
        const fits = end + one.data.length <= this.#allocated - (one.freeing ? 0 : reserveBytes);
        if (fits) end += one.data.length;
        else one.reject(fault);
        return fits;
      });
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
    this.#fd = await openFile(this.#file, fs.constants.O_WRONLY | fs.constants.O_DSYNC);
    return this.#fd;
  }

  async #replace(records: Iterable<JournalRecord>): Promise<void> {
    const temporary = `${this.#file}.tmp`;
    try {
      const { O_WRONLY, O_CREAT, O_TRUNC, O_DSYNC } = fs.constants;
      const fd = await openFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_DSYNC);
      let size = 0;
      let written = 0;
      try {
        let text = '';
        const put = async (zeros = 0): Promise<void> => {
          const data = Buffer.from(text);
          text = '';
          await writeAt(fd, zeros > 0 ? Buffer.concat([data, Buffer.alloc(zeros)]) : data, size);
          size += data.length;
          written = size + zeros;
        };
        for (const record of records) {
          text += formatRecord(record);
          if (text.length > 1 << 20) await put();
        }
        const length = size + Buffer.byteLength(text);
        await put(roundUp(length + reserveBytes) - length);
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
      this.#allocated = written;
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

const roundUp = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes;

function isFull(error: unknown): boolean {
  return errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT';
}
