/**
 * The embedded registry's data: keys with one global revision, leases, and a
 * bounded history for watches, in one `node:sqlite` file. It lives in the
 * supervisor, which carries no mail, so SQLite's synchronous calls stall
 * nothing but the registry itself; every change is on stable storage
 * (`synchronous=FULL`) before it is answered.
 *
 * Leases run by this process's monotonic clock. Their ids and keys are
 * persistent, their remaining time is not: after a restart each gets its full
 * time again, as in etcd after a change of leader. That is later than the
 * holder believes, never earlier.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Change, Condition, RegistryEntry, WatchEvent } from '../registry.ts';

export const registryLimits = {
  keyBytesMax: 512,
  valueCharsMax: 512 * 1024,
  conditionsMax: 1024,
  changesMax: 1024,
  keysPerLeaseMax: 256,
  leasesMax: 10_000,
  leaseMinMs: 100,
  leaseMaxMs: 3_600_000,
  historyEventsMax: 10_000,
  historyCharsMax: 16 * 1024 * 1024,
} as const;

interface Lease {
  readonly ttlMs: number;
  deadlineMs: number;
}

/** All changes of one revision. */
export interface Batch {
  readonly revision: number;
  readonly events: readonly WatchEvent[];
}

type EntryRow = { key: string; value: string; revision: number; lease: string | null };

export class EmbeddedStore {
  readonly #database: DatabaseSync;
  readonly #clock: () => number;
  readonly #historyEventsMax: number;
  readonly #leases = new Map<string, Lease>();
  readonly #listeners = new Set<(batch: Batch) => void>();
  readonly #statements: ReturnType<typeof prepare>;
  #history: Batch[] = [];
  #historyEvents = 0;
  #historyChars = 0;
  #revision: number;
  /** Watches can start after this revision or any later one. */
  #historyFrom: number;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * @param file   Created with mode 0600 when it is not there.
   * @param clock  Monotonic milliseconds.
   * @throws {Fault} `already-running`: another process has the file open. `cannot-write`: it cannot be opened.
   */
  constructor(file: string, clock: () => number, options: { historyEventsMax?: number } = {}) {
    this.#clock = clock;
    this.#historyEventsMax = options.historyEventsMax ?? registryLimits.historyEventsMax;
    this.#database = openDatabase(file);
    this.#statements = prepare(this.#database);
    this.#revision = Number(this.#statements.readRevision.get()?.value ?? 0);
    this.#historyFrom = this.#revision;
    const now = clock();
    for (const row of this.#statements.allLeases.all() as { id: string; ttl_ms: number }[])
      this.#leases.set(row.id, { ttlMs: row.ttl_ms, deadlineMs: now + row.ttl_ms });
    this.#schedule();
  }

  get revision(): number {
    return this.#revision;
  }

  get(key: string): RegistryEntry | undefined {
    this.expire();
    const row = this.#statements.get.get(key) as EntryRow | undefined;
    return row && entryOf(row);
  }

  /** Entries under `prefix` with a key greater than `after`, until `charsMax` is passed; `more` when some are left. */
  list(
    prefix: string,
    after: string,
    charsMax: number,
  ): { entries: RegistryEntry[]; revision: number; more: boolean } {
    this.expire();
    const entries: RegistryEntry[] = [];
    let chars = 0;
    const from = after < prefix ? prefix : after;
    for (const raw of this.#statements.list.iterate(from, `${prefix}\x7f`)) {
      const row = raw as EntryRow;
      if (row.key === after && after !== '') continue;
      if (chars >= charsMax) return { entries, revision: this.#revision, more: true };
      entries.push(entryOf(row));
      chars += row.key.length + row.value.length + 100;
    }
    return { entries, revision: this.#revision, more: false };
  }

  /** @throws {Fault} `bad-argument`, `lease-lost` (a put under a lease that is gone), `registry-failed` */
  transact(
    conditions: readonly Condition[],
    changes: readonly Change[],
  ): { done: boolean; revision: number } {
    checkTransaction(conditions, changes);
    this.expire();
    for (const condition of conditions) {
      const row = this.#statements.get.get(condition.key) as EntryRow | undefined;
      const holds = condition.is === 'absent' ? row === undefined : row?.revision === condition.revision;
      if (!holds) return { done: false, revision: this.#revision };
    }
    const perLease = new Map<string, number>();
    for (const change of changes) {
      if (!('put' in change) || change.lease === undefined) continue;
      if (!this.#leases.has(change.lease)) throw new Fault('lease-lost', 'the lease is gone');
      const before =
        perLease.get(change.lease) ?? Number(this.#statements.countOfLease.get(change.lease)?.count ?? 0);
      if (before >= registryLimits.keysPerLeaseMax)
        throw new Fault('limit-reached', `a lease holds at most ${registryLimits.keysPerLeaseMax} keys`);
      perLease.set(change.lease, before + 1);
    }
    this.#apply(changes);
    return { done: true, revision: this.#revision };
  }

  /** @throws {Fault} `bad-argument`, `limit-reached`, `registry-failed` */
  grantLease(ttlMs: number): string {
    const { leaseMinMs, leaseMaxMs, leasesMax } = registryLimits;
    if (!Number.isSafeInteger(ttlMs) || ttlMs < leaseMinMs || ttlMs > leaseMaxMs)
      throw new Fault('bad-argument', `a lease lasts ${leaseMinMs} to ${leaseMaxMs} ms`);
    this.expire();
    if (this.#leases.size >= leasesMax) throw new Fault('limit-reached', 'there are too many leases');
    const id = randomBytes(8).toString('hex');
    guarded(() => this.#statements.addLease.run(id, ttlMs));
    this.#leases.set(id, { ttlMs, deadlineMs: this.#clock() + ttlMs });
    this.#schedule();
    return id;
  }

  /** @throws {Fault} `lease-lost` */
  renewLease(id: string): void {
    this.expire();
    const lease = this.#leases.get(id);
    if (lease === undefined) throw new Fault('lease-lost', 'the lease is gone');
    lease.deadlineMs = this.#clock() + lease.ttlMs;
  }

  /** Removes the lease and its keys now; nothing happens when it is already gone. */
  revokeLease(id: string): void {
    if (this.#leases.has(id)) this.#removeLeases([id]);
  }

  /** Removes leases whose time has run out, with their keys. Every other call does this first. */
  expire(): void {
    if (this.#closed) throw new Fault('registry-failed', 'the registry is closed');
    const now = this.#clock();
    let due: string[] | undefined;
    for (const [id, lease] of this.#leases) {
      if (lease.deadlineMs > now) continue;
      due ??= [];
      due.push(id);
    }
    if (due !== undefined) this.#removeLeases(due);
  }

  /** Changes after `revision`, oldest first; `undefined` when the history does not go back that far (or never went there). */
  since(revision: number): readonly Batch[] | undefined {
    if (revision < this.#historyFrom || revision > this.#revision) return undefined;
    return this.#history.filter((batch) => batch.revision > revision);
  }

  /** Told of every batch after it is on stable storage; ends with the returned function. */
  listen(listener: (batch: Batch) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#listeners.clear();
    this.#database.close();
  }

  #removeLeases(ids: readonly string[]): void {
    const changes: Change[] = ids.flatMap((id) =>
      (this.#statements.keysOfLease.all(id) as { key: string }[]).map((row) => ({ remove: row.key })),
    );
    this.#apply(changes, ids);
    for (const id of ids) this.#leases.delete(id);
    this.#schedule();
  }

  /** Writes the changes as one revision, durably, then tells the listeners. */
  #apply(changes: readonly Change[], leasesGone: readonly string[] = []): void {
    if (changes.length === 0 && leasesGone.length === 0) return;
    const revision = this.#revision + 1;
    const events: WatchEvent[] = [];
    guarded(() => {
      this.#database.exec('BEGIN IMMEDIATE');
      try {
        for (const change of changes) {
          if ('put' in change) {
            this.#statements.put.run(change.put, change.value, revision, change.lease ?? null);
            events.push({ kind: 'put', key: change.put, value: change.value, revision });
          } else if (Number(this.#statements.remove.run(change.remove).changes) > 0) {
            events.push({ kind: 'remove', key: change.remove, value: '', revision });
          }
        }
        for (const id of leasesGone) this.#statements.removeLease.run(id);
        if (events.length > 0) this.#statements.writeRevision.run(revision);
        this.#database.exec('COMMIT');
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    });
    if (events.length === 0) return;
    this.#revision = revision;
    const batch: Batch = { revision, events };
    this.#remember(batch);
    for (const listener of [...this.#listeners]) listener(batch);
  }

  #remember(batch: Batch): void {
    this.#history.push(batch);
    this.#historyEvents += batch.events.length;
    this.#historyChars += charsOf(batch);
    let dropped = 0;
    while (
      dropped < this.#history.length - 1 &&
      (this.#historyEvents > this.#historyEventsMax || this.#historyChars > registryLimits.historyCharsMax)
    ) {
      const oldest = this.#history[dropped++]!;
      this.#historyEvents -= oldest.events.length;
      this.#historyChars -= charsOf(oldest);
      this.#historyFrom = oldest.revision;
    }
    if (dropped > 0) this.#history = this.#history.slice(dropped);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#leases.size === 0) return;
    let next = Number.POSITIVE_INFINITY;
    for (const lease of this.#leases.values()) next = Math.min(next, lease.deadlineMs);
    // Renewals move deadlines without a new timer: an early look costs less than a timer per renewal.
    this.#timer = setTimeout(() => this.#tick(), Math.max(5, next - this.#clock()));
    this.#timer.unref();
  }

  #tick(): void {
    if (this.#closed) return;
    try {
      this.expire();
    } catch {
      // The disk refused: the keys stay, nobody is granted anything, and the next call or tick tries again.
    }
    this.#schedule();
  }
}

function openDatabase(file: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    closeSync(openSync(file, 'a', 0o600));
    database = new DatabaseSync(file);
    // EXCLUSIVE: two supervisors on one data directory would each count leases by themselves.
    database.exec(`
      PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      CREATE TABLE IF NOT EXISTS entries (
        key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, lease TEXT
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS entries_lease ON entries (lease) WHERE lease IS NOT NULL;
      CREATE TABLE IF NOT EXISTS leases (id TEXT PRIMARY KEY, ttl_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
    `);
    return database;
  } catch (error) {
    database?.close();
    const message = error instanceof Error ? error.message : String(error);
    if (/locked|busy/i.test(message))
      throw new Fault('already-running', `${file} is in use: another postern runs here; stop it first`, {
        cause: error,
      });
    if (errnoOf(error) === 'ERR_SQLITE_ERROR' && /not a database|malformed/i.test(message))
      throw new Fault('storage-damaged', `${file} is damaged (${message}); move it aside`, { cause: error });
    throw new Fault('cannot-write', `${file} cannot be opened: ${message}`, { cause: error });
  }
}

function prepare(database: DatabaseSync) {
  const statement = (sql: string): StatementSync => database.prepare(sql);
  return {
    get: statement('SELECT key, value, revision, lease FROM entries WHERE key = ?'),
    list: statement(
      'SELECT key, value, revision, lease FROM entries WHERE key >= ? AND key < ? ORDER BY key',
    ),
    put: statement(
      'INSERT INTO entries (key, value, revision, lease) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease',
    ),
    remove: statement('DELETE FROM entries WHERE key = ?'),
    keysOfLease: statement('SELECT key FROM entries WHERE lease = ? ORDER BY key'),
    countOfLease: statement('SELECT count(*) AS count FROM entries WHERE lease = ?'),
    addLease: statement('INSERT INTO leases (id, ttl_ms) VALUES (?, ?)'),
    removeLease: statement('DELETE FROM leases WHERE id = ?'),
    allLeases: statement('SELECT id, ttl_ms FROM leases'),
    readRevision: statement('SELECT value FROM revision WHERE one = 1'),
    writeRevision: statement(
      'INSERT INTO revision (one, value) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET value = excluded.value',
    ),
  };
}

/** Key ranges are taken with `prefix + DEL`, so keys are printable ASCII. */
function checkKey(key: string): void {
  if (
    typeof key !== 'string' ||
    key === '' ||
    key.length > registryLimits.keyBytesMax ||
    !/^[!-~]+$/.test(key)
  )
    throw new Fault('bad-argument', 'a registry key is 1 to 512 printable ASCII characters');
}

function checkTransaction(conditions: readonly Condition[], changes: readonly Change[]): void {
  if (conditions.length > registryLimits.conditionsMax || changes.length > registryLimits.changesMax)
    throw new Fault('limit-reached', 'the transaction has too many parts');
  for (const condition of conditions) {
    checkKey(condition.key);
    if (condition.is !== 'absent' && (condition.is !== 'at' || !Number.isSafeInteger(condition.revision)))
      throw new Fault('bad-argument', 'a condition is "absent" or "at" a revision');
  }
  for (const change of changes) {
    if ('remove' in change) {
      checkKey(change.remove);
      continue;
    }
    checkKey(change.put);
    if (typeof change.value !== 'string' || change.value.length > registryLimits.valueCharsMax)
      throw new Fault(
        'limit-reached',
        `a registry value has at most ${registryLimits.valueCharsMax} characters`,
      );
    if (change.lease !== undefined && typeof change.lease !== 'string')
      throw new Fault('bad-argument', 'a lease is named by its id');
  }
}

function entryOf(row: EntryRow): RegistryEntry {
  return row.lease === null
    ? { key: row.key, value: row.value, revision: row.revision }
    : { key: row.key, value: row.value, revision: row.revision, lease: row.lease };
}

function charsOf(batch: Batch): number {
  return batch.events.reduce((sum, event) => sum + event.key.length + event.value.length, 0);
}

function guarded(work: () => void): void {
  try {
    work();
  } catch (error) {
    throw Fault.from(error, 'registry-failed');
  }
}
