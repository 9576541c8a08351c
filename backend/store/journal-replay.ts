/** Sorts a journal's records: what belongs to which folder, and what a crash left unfinished. Pure. */
import type { JournalRecord, KeptKey } from './journal-records.ts';
import { type FolderIntent, intentsIn, type OperationRow, operationsIn } from './operations.ts';

export type CopyRecord = Extract<JournalRecord, { t: 'copy' }>;

export interface AccountReplay {
  /** By mailbox id: records since the folder's last snapshot, in order. */
  readonly folders: Map<string, JournalRecord[]>;
  /** By directory name: where a mailbox was and its UIDVALIDITY. */
  readonly directories: Map<string, { readonly mailboxId: string; readonly uidValidity: number }>;
  /** Copies that are to be, and whose files may not all be there. */
  readonly copies: readonly CopyRecord[];
  readonly rename: { readonly from: string; readonly to: string } | undefined;
  /** A change of format under way. */
  readonly convert: Extract<JournalRecord, { t: 'convert' }> | undefined;
  /** Intake logs that may hold messages of this account, and from which record on. */
  readonly intakes: ReadonlyMap<string, number>;
  readonly orphans: readonly KeptKey[];
  readonly uidValidityLast: number;
  /** What commands did in the last minutes, and what they were about to do. */
  readonly operations: readonly OperationRow[];
  readonly intents: readonly FolderIntent[];
}

/** @param nowSeconds  Of the wall clock: what commands did long before is left out. */
export function sortRecords(records: readonly JournalRecord[], nowSeconds = 0): AccountReplay {
  const folders = new Map<string, JournalRecord[]>();
  const directories: AccountReplay['directories'] = new Map();
  const undone = new Set<string>();
  const copies = new Map<string, CopyRecord>();
  const orphans = new Map<string, KeptKey>();
  const intakes = new Map<string, number>();
  let rename: AccountReplay['rename'];
  let convert: AccountReplay['convert'];
  let uidValidityLast = 0;
  const brought = new Set<string>();
  for (const record of records) {
    if (record.t === 'copy-undone') undone.add(record.id);
    if (record.t === 'copy' && record.w) brought.add(record.id);
  }
  const put = (mailboxId: string, record: JournalRecord): void => {
    const list = folders.get(mailboxId);
    if (list) list.push(record);
    else folders.set(mailboxId, [record]);
  };
  for (const record of records) {
    switch (record.t) {
      case 'dir':
        directories.set(record.d, { mailboxId: record.f, uidValidity: record.uv });
        uidValidityLast = Math.max(uidValidityLast, record.uv);
        break;
      case 'folder':
        folders.set(record.f, [record]);
        break;
      case 'copy':
        put(record.g, record);
        if (undone.has(record.id)) break;
        if (!record.w) copies.set(record.id, record);
        if (record.mv === undefined) break;
        put(record.f, { t: 'gone', f: record.f, u: record.u, m: record.mv, k: record.k ?? [] });
        for (const key of record.k ?? []) orphans.set(key[0], key);
        break;
      case 'copied':
      case 'copy-undone':
        copies.delete(record.id);
        break;
      case 'gone':
        put(record.f, record);
        for (const key of record.k ?? []) orphans.set(key[0], key);
        break;
      case 'keys':
        for (const key of record.k) orphans.set(key[0], key);
        break;
      case 'forget':
        orphans.delete(record.k);
        break;
      case 'rename':
        rename = record;
        break;
      case 'intake':
        if (!intakes.has(record.i)) intakes.set(record.i, record.n);
        break;
      case 'intake-settled':
        intakes.delete(record.i);
        break;
      case 'renamed':
        rename = undefined;
        break;
      case 'uidvalidity':
        uidValidityLast = Math.max(uidValidityLast, record.n);
        break;
      case 'copying':
        if (brought.has(record.id) || undone.has(record.id)) break;
        put(record.g, { t: 'gone', f: record.g, u: `${record.n}:${record.n + record.c - 1}`, m: record.m });
        break;
      case 'convert':
        convert = record;
        break;
      case 'converted':
        convert = undefined;
        break;
      case 'coming':
      case 'taken':
      case 'flags':
      case 'purged':
      case 'settled':
      case 'rows':
      case 'clean':
        put(record.f, record);
        break;
      case 'journal':
      case 'making':
      case 'removing':
      case 'ops':
        break;
    }
  }
  return {
    folders,
    directories,
    copies: [...copies.values()],
    rename,
    convert,
    intakes,
    orphans: [...orphans.values()],
    uidValidityLast,
    operations: operationsIn(records, nowSeconds),
    intents: intentsIn(records, nowSeconds),
  };
}
