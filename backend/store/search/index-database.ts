/**
 * One account's index: an SQLite file with the trigrams of all texts. A cache:
 * nothing in it is worth a wait for the disk. So that a torn or altered file
 * never answers, it is trusted only with the checksum that a proper close
 * leaves beside it; anything else is thrown away and built anew.
 *
 * Everything here is synchronous: it runs in the thread of index-worker.ts.
 */
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { indexSpelling } from './needle.ts';

/** Changes when the tables or what is put into them change. */
const format = 'postern-search-2';
const uidSpan = 2 ** 32;
const sliceBytes = 1024 * 1024;

export class IndexDatabase {
  readonly begun: 'new' | 'damaged' | undefined;
  readonly #directory: string;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #summed: boolean;

  /** @throws {Error} when the file system or SQLite refuses. */
  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const state = trusted(directory);
    this.begun = state === 'good' ? undefined : state;
    this.#summed = state === 'good';
    if (state !== 'good') {
      rmSync(sumFile(directory), { force: true });
      rmSync(databaseFile(directory), { force: true });
    }
    // The account has one owner: locks would only add what network file systems are bad at.
    const url = pathToFileURL(databaseFile(directory));
    url.searchParams.set('nolock', '1');
    this.#db = new DatabaseSync(url);
    this.#db.exec(
      'PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8000',
    );
    if (state === 'good') return;
    this.#db.exec(`
      CREATE TABLE folder (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, through INTEGER NOT NULL);
      CREATE TABLE unindexed (message INTEGER PRIMARY KEY);
      CREATE VIRTUAL TABLE text USING fts5(t, content='', contentless_delete=1, detail=none,
        tokenize='trigram case_sensitive 1');
    `);
  }

  /** Bytes of the file. */
  get bytes(): number {
    const pages = this.#row('PRAGMA page_count') as [number];
    const size = this.#row('PRAGMA page_size') as [number];
    return pages[0] * size[0];
  }

  through(folder: string): number {
    return this.#folder(folder)?.through ?? 0;
  }

  find(folder: string, query: string): Uint32Array<ArrayBuffer> {
    const found = this.#folder(folder);
    if (found === undefined) return new Uint32Array(0);
    const from = found.number * uidSpan;
    const range = [from, from + uidSpan - 1] as const;
    const texts = this.#all(
      'SELECT rowid FROM text WHERE text MATCH ? AND rowid BETWEEN ? AND ?',
      query,
      ...range,
    );
    const others = this.#all('SELECT message FROM unindexed WHERE message BETWEEN ? AND ?', ...range);
    return Uint32Array.from([...texts, ...others], ([message]) => message! - from).sort();
  }

  /** @param texts  Without a text: a message that is looked at in every search. */
  add(
    folder: string,
    texts: readonly (readonly [uid: number, text: string | undefined])[],
    through: number,
  ): void {
    this.#change(() => {
      this.#run('INSERT OR IGNORE INTO folder (name, through) VALUES (?, 0)', folder);
      const { number } = this.#folder(folder)!;
      for (const [uid, text] of texts) {
        const message = number * uidSpan + uid;
        if (text === undefined) this.#run('INSERT OR REPLACE INTO unindexed VALUES (?)', message);
        else this.#run('INSERT OR REPLACE INTO text (rowid, t) VALUES (?, ?)', message, indexSpelling(text));
      }
      this.#run('UPDATE folder SET through = ? WHERE number = ?', through, number);
    });
  }

  drop(folder: string, uids: Iterable<number>): void {
    const found = this.#folder(folder);
    if (found === undefined) return;
    this.#change(() => {
      for (const uid of uids) {
        this.#run('DELETE FROM text WHERE rowid = ?', found.number * uidSpan + uid);
        this.#run('DELETE FROM unindexed WHERE message = ?', found.number * uidSpan + uid);
      }
    });
  }

  /** Drops what is not among `uids`; with none of them the folder itself. */
  keep(folder: string, uids: Uint32Array): void {
    const found = this.#folder(folder);
    if (found === undefined) return;
    const from = found.number * uidSpan;
    const there = new Set(uids);
    const range = [from, from + uidSpan - 1] as const;
    const known = [
      ...this.#all('SELECT id FROM text_docsize WHERE id BETWEEN ? AND ?', ...range),
      ...this.#all('SELECT message FROM unindexed WHERE message BETWEEN ? AND ?', ...range),
    ].map(([message]) => message! - from);
    const gone = known.filter((uid) => !there.has(uid));
    if (gone.length > 0) this.drop(folder, gone);
    if (uids.length === 0) this.#change(() => this.#run('DELETE FROM folder WHERE number = ?', found.number));
  }

  /** @param whole  false: an error came before; what is there is not to be trusted. */
  close(whole: boolean): void {
    this.#statements.clear();
    this.#db.close();
    if (!whole || this.#summed) return;
    writeFileSync(sumFile(this.#directory), `${checksum(databaseFile(this.#directory))}\n`);
  }

  #change(work: () => void): void {
    if (this.#summed) {
      rmSync(sumFile(this.#directory), { force: true });
      this.#summed = false;
    }
    this.#db.exec('BEGIN');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #folder(name: string): { number: number; through: number } | undefined {
    const row = this.#row('SELECT number, through FROM folder WHERE name = ?', name);
    return row === undefined ? undefined : { number: row[0]!, through: row[1]! };
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      statement.setReturnArrays(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, ...values: (number | string)[]): void {
    this.#statement(sql).run(...values);
  }

  #row(sql: string, ...values: (number | string)[]): number[] | undefined {
    return this.#statement(sql).get(...values) as unknown as number[] | undefined;
  }

  #all(sql: string, ...values: (number | string)[]): number[][] {
    return this.#statement(sql).all(...values) as unknown as number[][];
  }
}

export function databaseFile(directory: string): string {
  return path.join(directory, 'index.db');
}

export function sumFile(directory: string): string {
  return path.join(directory, 'index.sum');
}

/** `new`: there is no index. `damaged`: not the one that was closed. */
function trusted(directory: string): 'good' | 'new' | 'damaged' {
  const found = checksum(databaseFile(directory));
  if (found === undefined) return 'new';
  try {
    return readFileSync(sumFile(directory), 'utf8') === `${found}\n` ? 'good' : 'damaged';
  } catch {
    return 'damaged';
  }
}

function checksum(file: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch {
    return undefined;
  }
  try {
    const hash = createHash('sha256').update(format);
    const slice = Buffer.allocUnsafe(sliceBytes);
    for (let read = readSync(fd, slice); read > 0; read = readSync(fd, slice))
      hash.update(slice.subarray(0, read));
    return hash.digest('hex');
  } finally {
    closeSync(fd);
  }
}
