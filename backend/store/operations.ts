/**
 * What sessions have done to the account lately, by the name of the command: a
 * session that goes on at another owner may send a command again that was done
 * already. Its name stands in the very record that made the change durable, so
 * either both are there or neither; its result is read from that record.
 *
 * Kept for as long as a gateway may come back with the command, no longer.
 */
import type { JournalRecord } from './journal-records.ts';

/**
 * Names a command: 16 hex digits of the session, 12 of the command's place in what its client sent.
 * A message of APPEND has its number behind it, four more: a delivery key.
 */
export type OperationId = string;

export interface OperationResult {
  /** Messages it changed, removed or copied; a set as IMAP writes it. */
  readonly uids: string;
  /** COPY, MOVE: the first one's UID in the target; the others follow. */
  readonly firstUid: number;
}

/** In a journal record: who did it, and when (seconds since 1970). */
export type OperationStamp = readonly [id: OperationId, seconds: number];
/** In a snapshot of the journal. */
export type OperationRow = readonly [id: OperationId, seconds: number, uids: string, firstUid: number];

/** Gateways look for a new owner for half a minute by default; clocks of members may be apart. */
const keptSeconds = 600;
const keptMax = 10_000;

export class Operations {
  #rows: Map<OperationId, OperationRow> | undefined;

  of(id: OperationId): OperationResult | undefined {
    const row = this.#rows?.get(id);
    return row && { uids: row[2], firstUid: row[3] };
  }

  add(row: OperationRow): void {
    this.#rows ??= new Map();
    this.#rows.set(row[0], row);
    this.#prune(row[1]);
  }

  /** The change of `record` has become durable. */
  done(record: JournalRecord): void {
    const row = rowOf(record);
    if (row !== undefined) this.add(row);
  }

  /** A mailbox that was about to be made was made if it is there, and one about to be removed if it is not. */
  addMeant(
    intents: readonly FolderIntent[],
    folders: readonly { readonly meta: { readonly mailboxId: string } }[],
  ): void {
    for (const { mailboxId, made, row } of intents)
      if (folders.some(({ meta }) => meta.mailboxId === mailboxId) === made) this.add(row);
  }

  /** It was undone. */
  forget(id: OperationId): void {
    this.#rows?.delete(id);
  }

  rows(): readonly OperationRow[] {
    this.#prune(Math.floor(Date.now() / 1000));
    return [...(this.#rows?.values() ?? [])];
  }

  #prune(nowSeconds: number): void {
    const rows = this.#rows;
    if (rows === undefined) return;
    for (const [id, row] of rows) {
      if (row[1] > nowSeconds - keptSeconds && rows.size <= keptMax) return;
      rows.delete(id);
    }
  }
}

/** Put into a record with `...stamp(id)`. */
export function stamp(id: OperationId | undefined): { readonly o?: OperationStamp } {
  return id === undefined ? {} : { o: [id, Math.floor(Date.now() / 1000)] };
}

/** What a record says of the command that made it. */
function rowOf(record: JournalRecord): OperationRow | undefined {
  if (!('o' in record) || record.o === undefined || record.t === 'ops') return undefined;
  const [id, seconds] = record.o;
  if (record.t === 'copy') return [id, seconds, record.u, record.n];
  return [id, seconds, record.t === 'flags' || record.t === 'gone' ? record.u : '', 0];
}

/** What the records of a journal say, those of the last minutes. Making and removing folders is only meant there. */
export function operationsIn(records: readonly JournalRecord[], nowSeconds: number): readonly OperationRow[] {
  const rows: OperationRow[] = [];
  const undone = new Set<string>();
  for (const record of records) if (record.t === 'copy-undone') undone.add(record.id);
  for (const record of records) {
    if (record.t === 'ops') rows.push(...record.o);
    else if (record.t === 'copy' && undone.has(record.id)) continue;
    else if (record.t !== 'making' && record.t !== 'removing') {
      const row = rowOf(record);
      if (row !== undefined) rows.push(row);
    }
  }
  return rows.filter(([, seconds]) => seconds > nowSeconds - keptSeconds);
}

/** What a command was about to do with a mailbox. */
export interface FolderIntent {
  readonly mailboxId: string;
  /** Made; else removed. */
  readonly made: boolean;
  readonly row: OperationRow;
}

/** What goes into the journal before directories are renamed: whoever opens the account next goes on with it. */
export function renaming(from: string, to: string, id: OperationId | undefined): JournalRecord {
  return { t: 'rename', from, to, ...stamp(id) };
}

/** What goes into the journal before a mailbox is made or removed. */
export function intent(
  t: 'making' | 'removing',
  mailboxId: string,
  id: OperationId | undefined,
): readonly JournalRecord[] {
  return id === undefined ? [] : [{ t, f: mailboxId, o: [id, Math.floor(Date.now() / 1000)] }];
}

/** Folders that were about to be made or removed: whether they were, their directories say. */
export function intentsIn(records: readonly JournalRecord[], nowSeconds: number): readonly FolderIntent[] {
  return records.flatMap((record) => {
    if (record.t !== 'making' && record.t !== 'removing') return [];
    const [id, seconds] = record.o;
    if (seconds <= nowSeconds - keptSeconds) return [];
    return [{ mailboxId: record.f, made: record.t === 'making', row: [id, seconds, '', 0] as const }];
  });
}
