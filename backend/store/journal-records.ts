/**
 * What a journal line says. One JSON text per line behind its CRC-32, so that
 * a torn or flipped line is known for what it is and the lines after it are
 * still found. Keys are short: they are written with every flag change.
 */
import { crc32 } from 'node:zlib';
import type { OperationRow, OperationStamp } from './operations.ts';

/** `f` is always a mailbox id, `u` a UID set, `m` a modification sequence. */
export type JournalRecord =
  /** First line of a journal. */
  | { readonly t: 'journal'; readonly v: 1; readonly epoch: number; readonly who: string }
  /** Where a mailbox is and its UIDVALIDITY: restores a lost `postern-folder.json`. */
  | { readonly t: 'dir'; readonly f: string; readonly d: string; readonly uv: number }
  | {
      readonly t: 'flags';
      readonly f: string;
      readonly u: string;
      readonly how: 'set' | 'add' | 'remove';
      readonly fl: number;
      readonly kw?: readonly string[];
      readonly m: number;
      /** The command that did it, see `operations.ts`. */
      readonly o?: OperationStamp;
    }
  /** Expunged; the files go after this is durable. `k`: delivery keys not settled yet. */
  | {
      readonly t: 'gone';
      readonly f: string;
      readonly u: string;
      readonly m: number;
      readonly k?: readonly KeptKey[];
      readonly o?: OperationStamp;
    }
  /** The files of every `gone` of this folder up to `m` are away. */
  | { readonly t: 'purged'; readonly f: string; readonly m: number }
  /** Deliveries whose senders saw the 250; `n`: next UID of the folder. */
  | { readonly t: 'settled'; readonly f: string; readonly u: string; readonly n: number }
  | { readonly t: 'forget'; readonly k: string }
  /**
   * Messages `u` of `f`, in order, are `n`, `n`+1 … of `g`; `m` and up are their sequences there, `fl` their
   * flags. `mv`: they left `f`.
   */
  | {
      readonly t: 'copy';
      readonly id: string;
      readonly f: string;
      readonly u: string;
      readonly g: string;
      readonly n: number;
      readonly m: number;
      readonly fl: readonly number[];
      /** Seconds since 1970 when they came. */
      readonly d?: number;
      readonly mv?: number;
      readonly k?: readonly KeptKey[];
      readonly o?: OperationStamp;
      /** They are there already, all of them. */
      readonly w?: true;
    }
  | { readonly t: 'copied' | 'copy-undone'; readonly id: string }
  /**
   * Messages `n` and up, `c` of them, are being brought into `g` from a folder of another format. Unless a `copy` with
   * `w` follows, they are gone again.
   */
  | {
      readonly t: 'copying';
      readonly id: string;
      readonly g: string;
      readonly n: number;
      readonly c: number;
      readonly m: number;
    }
  /**
   * mbox folders: from byte `at` on, messages are being appended, `n` the UID of the first, `c` the CRC-32 of each as
   * stored. `at` −1: none are, and the bytes may have moved.
   */
  | {
      readonly t: 'coming';
      readonly f: string;
      readonly at: number;
      readonly n: number;
      readonly c: readonly number[];
    }
  /** mbox folders: names of messages whose `From ` line does not say them, by digest. */
  | {
      readonly t: 'taken';
      readonly f: string;
      readonly k: readonly (readonly [digest: string, name: string])[];
    }
  /** A folder's directory changes its format; done when `converted` follows. `a`: where the new one was made. */
  | { readonly t: 'convert'; readonly d: string; readonly to: 'maildir' | 'mbox'; readonly a: string }
  | { readonly t: 'converted' }
  /** Folder directories are being renamed; done when `renamed` follows. */
  | { readonly t: 'rename'; readonly from: string; readonly to: string; readonly o?: OperationStamp }
  | { readonly t: 'renamed' }
  /** A command is about to make or remove this mailbox: it was done if the mailbox is there, or is not. */
  | { readonly t: 'making' | 'removing'; readonly f: string; readonly o: OperationStamp }
  /** What commands did lately, in a snapshot. */
  | { readonly t: 'ops'; readonly o: readonly OperationRow[] }
  /** Messages of this account from record `n` of the intake log `i` on may have no durable file … */
  | { readonly t: 'intake'; readonly i: string; readonly n: number }
  /** … and all have one now. */
  | { readonly t: 'intake-settled'; readonly i: string }
  /** No UIDVALIDITY up to here may be given again. */
  | { readonly t: 'uidvalidity'; readonly n: number }
  /** Snapshot of a folder: what its file names do not say. Rows follow in `rows`. */
  | {
      readonly t: 'folder';
      readonly f: string;
      readonly n: number;
      readonly m: number;
      readonly kw: readonly string[];
      readonly s: string;
      readonly x: readonly (readonly [set: string, modseq: number])[];
      /** Expunges before this modseq are not all in `x`. */
      readonly gk?: number;
    }
  | { readonly t: 'rows'; readonly f: string; readonly r: readonly SnapshotRow[] }
  | { readonly t: 'keys'; readonly k: readonly KeptKey[] }
  /** File names of the folder show all flags; bytes and messages in it. */
  | {
      readonly t: 'clean';
      readonly f: string;
      readonly n: number;
      readonly m: number;
      readonly b: number;
      readonly c: number;
    };

export type KeptKey = readonly [key: string, uid: number, seconds: number];
export type SnapshotRow = readonly [set: string, flags: number, keywords: readonly number[], modseq: number];

export function formatRecord(record: JournalRecord): string {
  const text = JSON.stringify(record);
  return `${crc32(text).toString(16).padStart(8, '0')} ${text}\n`;
}

export interface ReadJournal {
  readonly records: readonly JournalRecord[];
  /** Bytes before the zeros the file ends in. */
  readonly usedBytes: number;
  /** Bytes up to the end of the last good line. */
  readonly goodBytes: number;
  /** Lines in the middle that were not what was written. */
  readonly damagedLines: number;
  /** The end was torn off, as a crash does. */
  readonly torn: boolean;
}

/** Reads what is good of a journal. Zeros at its end are room for records to come. */
export function readRecords(file: Buffer): ReadJournal {
  let usedBytes = file.length;
  while (usedBytes > 0 && file[usedBytes - 1] === 0) usedBytes--;
  const data = file.subarray(0, usedBytes);
  const records: JournalRecord[] = [];
  let goodBytes = 0;
  let bad = 0;
  let badBeforeGood = 0;
  for (let at = 0; at < data.length; ) {
    const end = data.indexOf(10, at);
    if (end < 0) {
      bad++;
      break;
    }
    const record = readLine(data.subarray(at, end));
    at = end + 1;
    if (record === undefined) {
      bad++;
      continue;
    }
    records.push(record);
    badBeforeGood = bad;
    goodBytes = at;
  }
  return { records, usedBytes, goodBytes, damagedLines: badBeforeGood, torn: bad > badBeforeGood };
}

function readLine(line: Buffer): JournalRecord | undefined {
  if (line.length < 11 || line[8] !== 0x20) return undefined;
  const sum = Number.parseInt(line.toString('latin1', 0, 8), 16);
  const body = line.subarray(9);
  if (crc32(body) !== sum) return undefined;
  try {
    return JSON.parse(body.toString()) as JournalRecord;
  } catch {
    return undefined;
  }
}
