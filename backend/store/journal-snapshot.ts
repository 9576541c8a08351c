/** What an account's journal has to say after a compaction, and when a folder is closed with nothing pending. */
import type { FolderEntry } from './folder-entry.ts';
import { directoryOf } from './folder-name.ts';
import type { JournalRecord, KeptKey } from './journal-records.ts';
import type { OperationRow } from './operations.ts';
import type { StoredFolder } from './stored-folder.ts';

/** Vouches for a folder: its names show every flag, and this is what is in it. */
export function cleanRecords(folder: StoredFolder): JournalRecord[] {
  return [
    {
      t: 'dir',
      f: folder.mailboxId,
      d: directoryOf(folder.name),
      uv: folder.uidValidity,
    },
    {
      t: 'clean',
      f: folder.mailboxId,
      n: folder.uidNext,
      m: folder.highestModseq,
      b: folder.sizeBytes,
      c: folder.count,
    },
  ];
}

/** The loaded folders' names must show all flags, durably. Folders not loaded keep the records they have. */
export function* snapshotOf(account: {
  readonly epoch: number;
  readonly uidValidityLast: number;
  readonly orphans: readonly KeptKey[];
  readonly operations: readonly OperationRow[];
  readonly intakes: Iterable<JournalRecord>;
  readonly entries: Iterable<FolderEntry>;
}): Generator<JournalRecord> {
  yield { t: 'journal', v: 1, epoch: account.epoch, who: 'compaction' };
  yield { t: 'uidvalidity', n: account.uidValidityLast };
  yield* account.intakes;
  if (account.orphans.length > 0) yield { t: 'keys', k: account.orphans };
  if (account.operations.length > 0) yield { t: 'ops', o: account.operations };
  for (const { folder, meta, directory, records } of account.entries) {
    if (folder) {
      yield* folder.state.snapshot(folder.mailboxId);
      yield* folder.moreRecords();
      yield* cleanRecords(folder);
    } else {
      yield { t: 'dir', f: meta.mailboxId, d: directory, uv: meta.uidValidity };
      yield* records;
    }
  }
}
