/**
 * The intake log of this process, as it is written: segments of fixed size,
 * filled with zeros beforehand and used again, so that a write changes no file
 * size and costs no transaction of the file system. Whatever waits shares one
 * synchronous write; the next begins when it has ended.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Fault } from '../../../base/fault.ts';
import {
  closeLater,
  makeDirectories,
  openFile,
  renameFile,
  storageFault,
  syncDirectory,
  unlinkFile,
  writeAt,
} from '../files.ts';
import {
  formatHeader,
  headerBytes,
  messageBytes,
  putMessage,
  putSettled,
  settledBytes,
} from './intake-record.ts';

export interface IntakeLogLimits {
  readonly segmentBytes: number;
  readonly segmentsMax: number;
}

const { O_WRONLY, O_CREAT, O_EXCL, O_DSYNC } = fs.constants;
/** Gathered in one write, unless one group is larger. */
const writeBytes = 1024 * 1024;
/** After a segment could not be made. */
const growPauseMs = 10_000;
const zeros = Buffer.alloc(256 * 1024);

export interface Segment {
  readonly number: number;
  readonly fd: number;
  /** Where the next record goes. */
  end: number;
  seed: number;
  /** Written at its first use in this generation. */
  header: Buffer | undefined;
  /** Messages in it that are not settled. */
  live: number;
}

export interface NewRecord {
  readonly meta: Buffer;
  readonly body: Buffer;
}

interface Group {
  readonly segment: Segment;
  readonly offset: number;
  readonly bytes: number;
  readonly firstSeq: number;
  readonly records: readonly NewRecord[];
  /** In place of records: a mark. */
  readonly upTo: number | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Messages that have their place in the log. */
export interface Appended {
  /** Of the first; the others follow one by one. */
  readonly firstSeq: number;
  readonly segment: Segment;
  /** Settles when all of them are on stable storage. */
  readonly durable: Promise<void>;
}

export class IntakeLog {
  readonly id: string;
  readonly directory: string;
  readonly #limits: IntakeLogLimits;
  readonly #segments: Segment[] = [];
  readonly #free: Segment[] = [];
  #current: Segment | undefined;
  #queue: Group[] = [];
  #flushing: Promise<void> | undefined;
  #growing: Promise<void> | undefined;
  #growAfterMs = 0;
  #seq = 0;
  #batch = 0;
  #generation = 0;
  #broken: Fault | undefined;
  readonly #gathered = Buffer.allocUnsafeSlow(writeBytes);

  /** Opens a new log. @param root  Where the logs of all processes are. @throws {Fault} `storage-failed`, `no-space` */
  static async create(root: string, limits: IntakeLogLimits): Promise<IntakeLog> {
    const id = randomBytes(8).toString('hex');
    const directory = path.join(root, id);
    try {
      await makeDirectories(directory);
      await syncDirectory(root);
      const log = new IntakeLog(id, directory, limits);
      await log.#makeSegment();
      return log;
    } catch (error) {
      throw storageFault(error, 'intake-create');
    }
  }

  private constructor(id: string, directory: string, limits: IntakeLogLimits) {
    this.id = id;
    this.directory = directory;
    this.#limits = limits;
  }

  /** Sequence the next record gets. */
  get nextSeq(): number {
    return this.#seq + 1;
  }

  get broken(): Fault | undefined {
    return this.#broken;
  }

  /** Share of the room that is in use. */
  get fullness(): number {
    const { segmentBytes, segmentsMax } = this.#limits;
    let used = 0;
    for (const segment of this.#segments) {
      if (segment === this.#current) used += segment.end;
      else if (segment.live > 0) used += segmentBytes;
    }
    return used / (segmentBytes * segmentsMax);
  }

  /** Puts messages in the log, in order and in one piece. `undefined`: there is no room now. */
  append(records: readonly NewRecord[]): Appended | undefined {
    let bytes = 0;
    for (const { meta, body } of records) bytes += messageBytes(meta.length, body.length);
    const segment = this.#place(bytes);
    if (segment === undefined) return undefined;
    segment.live += records.length;
    const firstSeq = this.#seq + 1;
    this.#seq += records.length;
    return { firstSeq, segment, durable: this.#enqueue(segment, bytes, firstSeq, records, undefined) };
  }

  /** Notes that everything up to a sequence is settled. Not done when there is no room: then it is said later. */
  async note(upTo: number): Promise<void> {
    const segment = this.#place(settledBytes);
    if (segment === undefined) return;
    // Not used again before the mark is written.
    segment.live++;
    await this.#enqueue(segment, settledBytes, ++this.#seq, [], upTo);
    this.release(segment);
  }

  /** A message of this segment is settled; with the last one its room is free again. */
  release(segment: Segment): void {
    segment.live--;
    if (segment.live === 0 && segment !== this.#current) this.#free.push(segment);
  }

  async close(): Promise<void> {
    await this.#flushing?.catch(() => {});
    await this.#growing?.catch(() => {});
    this.#broken ??= new Fault('unavailable', 'the intake log was closed');
    for (const { fd } of this.#segments.splice(0)) closeLater(fd);
  }

  /** A segment with so much room, which is taken. */
  #place(bytes: number): Segment | undefined {
    const { segmentBytes } = this.#limits;
    if (this.#broken || headerBytes + bytes > segmentBytes) return undefined;
    let segment = this.#current;
    if (segment === undefined || segment.end + bytes > segmentBytes) {
      const next = this.#free.shift();
      if (this.#free.length === 0) this.#grow();
      if (next === undefined) return undefined;
      if (segment?.live === 0) this.#free.push(segment);
      const { bytes: header, seed } = formatHeader({
        logId: this.id,
        segment: next.number,
        generation: ++this.#generation,
        bytes: segmentBytes,
      });
      Object.assign(next, { end: headerBytes, seed, header });
      segment = this.#current = next;
    }
    segment.end += bytes;
    return segment;
  }

  #enqueue(
    segment: Segment,
    bytes: number,
    firstSeq: number,
    records: readonly NewRecord[],
    upTo: number | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({
        segment,
        offset: segment.end - bytes,
        bytes,
        firstSeq,
        records,
        upTo,
        resolve,
        reject,
      });
      this.#flushing ??= this.#flush();
    });
  }

  async #flush(): Promise<void> {
    // Everything asked for in this turn of the event loop goes along.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const { segment } = this.#queue[0]!;
      let bytes = segment.header === undefined ? 0 : headerBytes;
      let count = 0;
      for (const group of this.#queue) {
        if (group.segment !== segment || (count > 0 && bytes + group.bytes > writeBytes)) break;
        bytes += group.bytes;
        count++;
      }
      const groups = this.#queue.splice(0, count);
      try {
        if (this.#broken) throw this.#broken;
        await this.#write(segment, groups, bytes);
        for (const group of groups) group.resolve();
      } catch (error) {
        // Nobody knows what of it is on the disk: nothing more is written to this log (CASES 91).
        this.#broken ??= storageFault(error, 'intake-append');
        for (const group of [...groups, ...this.#queue.splice(0)]) group.reject(this.#broken);
      }
    }
    this.#flushing = undefined;
  }

  async #write(segment: Segment, groups: readonly Group[], bytes: number): Promise<void> {
    const into = bytes <= writeBytes ? this.#gathered : Buffer.allocUnsafe(bytes);
    const batch = ++this.#batch;
    let position = groups[0]!.offset;
    let at = 0;
    if (segment.header !== undefined) {
      at = segment.header.copy(into);
      position = 0;
      segment.header = undefined;
    }
    for (const { records, firstSeq, upTo } of groups) {
      let seq = firstSeq;
      if (upTo !== undefined) at = putSettled(into, at, segment.seed, { seq, batch, upTo });
      for (const { meta, body } of records) {
        at = putMessage(into, at, segment.seed, { seq: seq++, batch, meta, body });
      }
    }
    await writeAt(segment.fd, into.subarray(0, at), position);
  }

  /** Makes another segment, if there may be more, while the others are in use. */
  #grow(): void {
    if (this.#growing || this.#broken || this.#segments.length >= this.#limits.segmentsMax) return;
    if (performance.now() < this.#growAfterMs) return;
    this.#growing = this.#makeSegment()
      // On a full disk there is less room for a while, and messages take the longer way.
      .catch(() => {
        this.#growAfterMs = performance.now() + growPauseMs;
      })
      .finally(() => {
        this.#growing = undefined;
      });
  }

  async #makeSegment(): Promise<void> {
    const number = this.#segments.length;
    const file = path.join(this.directory, String(number));
    const fd = await openFile(`${file}.new`, O_WRONLY | O_CREAT | O_EXCL | O_DSYNC);
    try {
      for (let at = 0; at < this.#limits.segmentBytes; at += zeros.length) {
        const length = Math.min(zeros.length, this.#limits.segmentBytes - at);
        await writeAt(fd, zeros.subarray(0, length), at);
      }
      await renameFile(`${file}.new`, file);
      await syncDirectory(this.directory);
    } catch (error) {
      closeLater(fd);
      await unlinkFile(`${file}.new`).catch(() => {});
      throw error;
    }
    const segment: Segment = { number, fd, end: headerBytes, seed: 0, header: undefined, live: 0 };
    this.#segments.push(segment);
    this.#free.push(segment);
  }
}
