/**
 * Reads intake logs that other processes left, or are still writing for other
 * accounts: which messages of an account they hold that were not settled. An
 * account may be looked for only once it is owned here: what was acknowledged
 * for it was durable before that (DESIGN section 2, invariants 2 and 3).
 */
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import { closeLater, listDirectory, openFile, readAt, readWhole, statFile, storageFault } from '../files.ts';
import {
  alignBytes,
  headerBytes,
  type IntakeRecord,
  peekSeq,
  readHeader,
  readRecord,
} from './intake-record.ts';

export type MessageRecord = Extract<IntakeRecord, { kind: 'message' }>;
/** Where a message stands, without its bytes. */
export type FoundMessage = Omit<MessageRecord, 'body' | 'kind'> & {
  readonly segment: string;
  readonly at: number;
  readonly bytes: number;
};

interface ReadSegment {
  readonly generation: number;
  /** End of the last good record. */
  readonly end: number;
  readonly lastSeq: number;
  readonly messages: readonly FoundMessage[];
  readonly settledUpTo: number;
  /** Bytes between good records that are not what was written. */
  readonly damagedBytes: number;
}

/** Left where a log was removed that nothing needed. */
export const tombstoneOf = (root: string, logId: string): string => path.join(root, `${logId}.done`);

/** What is known of one log. */
class ReadLog {
  readonly directory: string;
  readonly segments = new Map<string, ReadSegment>();
  /** Segments whose damage was told. */
  readonly told = new Set<string>();
  /** By account. */
  byAccount = new Map<string, FoundMessage[]>();
  /** Sequence of the last record. */
  lastSeq = 0;
  /** Nothing is missing in it, as far as can be told. */
  sound = true;
  looking: Promise<boolean> | undefined;
  next: Promise<boolean> | undefined;

  constructor(directory: string) {
    this.directory = directory;
  }
}

/** What one log has of one account. */
export interface LogOfAccount {
  /** Not known to be settled, by sequence. */
  readonly messages: readonly FoundMessage[];
  /** Of the log: the last record of whatever account. */
  readonly lastSeq: number;
  /** false: records of the log may be missing. */
  readonly sound: boolean;
}

const logsMax = 64;

export class IntakeReader {
  /** `<storage root>/intake` */
  readonly root: string;
  readonly #log: Log;
  readonly #logs = new Map<string, ReadLog>();

  constructor(root: string, log: Log) {
    this.root = root;
    this.#log = log;
  }

  /** Ids of all logs there are. */
  async logIds(): Promise<string[]> {
    const names = await listDirectory(this.root).catch((error: unknown): string[] => {
      if (errnoOf(error) === 'ENOENT') return [];
      throw storageFault(error, 'intake-list');
    });
    return names.filter((name) => /^[0-9a-f]{16}$/.test(name));
  }

  /** What a log has of an account. `undefined`: there is no such log any more. */
  async messagesOf(logId: string, account: string): Promise<LogOfAccount | undefined> {
    if (!(await this.#look(logId))) return this.#fromTombstone(logId);
    const { byAccount, lastSeq, sound } = this.#logs.get(logId)!;
    return { messages: byAccount.get(account) ?? [], lastSeq, sound };
  }

  /** A log that was removed had nothing left. */
  async #fromTombstone(logId: string): Promise<LogOfAccount | undefined> {
    try {
      await statFile(tombstoneOf(this.root, logId));
      return { messages: [], lastSeq: Number.POSITIVE_INFINITY, sound: true };
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw storageFault(error, 'intake-read');
    }
  }

  /** Accounts with messages that a log does not know to be settled, and the last record of each. */
  async accountsIn(logId: string): Promise<ReadonlyMap<string, number>> {
    const last = new Map<string, number>();
    if (!(await this.#look(logId))) return last;
    for (const [account, messages] of this.#logs.get(logId)!.byAccount)
      last.set(account, messages.at(-1)!.seq);
    return last;
  }

  /** The bytes of a message. `undefined`: its room was used again, so it had been settled. */
  async bodyOf(logId: string, found: FoundMessage): Promise<Buffer | undefined> {
    const file = path.join(this.root, logId, found.segment);
    try {
      const fd = await openFile(file, 'r');
      try {
        const header = readHeader(await readAt(fd, 0, headerBytes));
        const bytes = await readAt(fd, found.at, found.bytes);
        const record = header && readRecord(bytes, 0, header.seed)?.record;
        return record?.kind === 'message' && record.seq === found.seq ? record.body : undefined;
      } finally {
        closeLater(fd);
      }
    } catch (error) {
      throw storageFault(error, 'intake-read');
    }
  }

  /** Looks at the log as it is after this call; those who ask meanwhile share the next look. */
  async #look(logId: string): Promise<boolean> {
    let log = this.#logs.get(logId);
    if (!log) {
      if (this.#logs.size >= logsMax) this.#logs.delete(this.#logs.keys().next().value!);
      log = new ReadLog(path.join(this.root, logId));
      this.#logs.set(logId, log);
    }
    const known = log;
    const start = (): Promise<boolean> => {
      known.looking = this.#read(known).finally(() => {
        known.looking = undefined;
      });
      return known.looking;
    };
    if (!log.looking) return start();
    log.next ??= log.looking.then(
      () => {
        known.next = undefined;
        return start();
      },
      () => {
        known.next = undefined;
        return start();
      },
    );
    return log.next;
  }

  async #read(log: ReadLog): Promise<boolean> {
    try {
      const names = await listDirectory(log.directory).catch((error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw error;
      });
      if (names === undefined) return false;
      let changed = false;
      for (const name of names) {
        if (/^\d{1,6}$/.test(name) && (await this.#readSegment(log, name))) changed = true;
      }
      if (changed) this.#sort(log);
      return true;
    } catch (error) {
      throw storageFault(error, 'intake-read');
    }
  }

  /** @returns whether there was something new. */
  async #readSegment(log: ReadLog, name: string): Promise<boolean> {
    const file = path.join(log.directory, name);
    const known = log.segments.get(name);
    if (known && (await isAsKnown(file, known))) return false;
    const bytes = await readWhole(file);
    const header = bytes && readHeader(bytes.subarray(0, headerBytes));
    if (!bytes || !header) {
      // Never used, or damaged: then what it held is missed where an account says so.
      const used = bytes?.subarray(0, headerBytes).some((byte) => byte !== 0);
      if (used) this.#damaged(log, name, headerBytes);
      return false;
    }
    if (header.logId !== path.basename(log.directory) || String(header.segment) !== name) {
      this.#damaged(log, name, bytes.length);
      return false;
    }
    if (bytes.length < header.bytes) this.#damaged(log, name, header.bytes - bytes.length);
    log.segments.set(name, scan(bytes, name, header.generation, header.seed));
    return true;
  }

  #sort(log: ReadLog): void {
    let settledUpTo = 0;
    for (const [name, segment] of log.segments) {
      log.lastSeq = Math.max(log.lastSeq, segment.lastSeq);
      settledUpTo = Math.max(settledUpTo, segment.settledUpTo);
      if (segment.damagedBytes > 0) this.#damaged(log, name, segment.damagedBytes);
    }
    log.byAccount = new Map();
    const messages = [...log.segments.values()].flatMap((segment) => segment.messages);
    for (const message of messages.sort((a, b) => a.seq - b.seq)) {
      if (message.seq <= settledUpTo) continue;
      const list = log.byAccount.get(message.account);
      if (list) list.push(message);
      else log.byAccount.set(message.account, [message]);
    }
  }

  #damaged(log: ReadLog, segment: string, bytes: number): void {
    log.sound = false;
    if (log.told.has(segment)) return;
    log.told.add(segment);
    this.#log.error(
      { event: 'intake-damaged', directory: log.directory, segment, bytes },
      'an intake log is damaged; messages that came shortly before the end of its process may be lost',
    );
  }
}

/** Has nothing been added, and is it still the same use of the segment? */
async function isAsKnown(file: string, known: ReadSegment): Promise<boolean> {
  const fd = await openFile(file, 'r');
  try {
    const header = readHeader(await readAt(fd, 0, headerBytes));
    if (header?.generation !== known.generation) return false;
    // What is left of an earlier use has lesser sequences.
    return peekSeq(await readAt(fd, known.end, alignBytes)) <= known.lastSeq;
  } finally {
    closeLater(fd);
  }
}

/** What a segment holds. After something that is no record, records are looked for again to its end. */
function scan(bytes: Buffer, segment: string, generation: number, seed: number): ReadSegment {
  const messages: FoundMessage[] = [];
  let settledUpTo = 0;
  let end = headerBytes;
  let lastSeq = 0;
  let batch = 0;
  let damagedBytes = 0;
  for (let at = headerBytes; at < bytes.length; ) {
    const found = readRecord(bytes, at, seed);
    if (found === undefined) {
      at += alignBytes;
      continue;
    }
    const { record, next } = found;
    const start = at;
    // The last write of a process may be on the disk in parts: nobody was answered about it.
    if (at > end && record.batch > batch) damagedBytes += at - end;
    ({ batch, seq: lastSeq } = record);
    end = next;
    at = next;
    if (record.kind === 'settled') settledUpTo = Math.max(settledUpTo, record.upTo);
    else {
      const { seq, account, mailboxId, name } = record;
      messages.push({ seq, batch, account, mailboxId, name, segment, at: start, bytes: next - start });
    }
  }
  return { generation, end, lastSeq, messages, settledUpTo, damagedBytes };
}
