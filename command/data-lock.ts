/**
 * One supervisor per data directory, where no embedded registry is there to say
 * so: the kernel's lock on a file, gone with the process however it ends.
 */
import { DatabaseSync } from 'node:sqlite';
import { Fault } from '../base/fault.ts';

export class DataLock {
  readonly #database: DatabaseSync;

  /** @throws {Fault} `already-running`: another process holds it. `cannot-write` */
  constructor(file: string) {
    try {
      this.#database = new DatabaseSync(file, { timeout: 0 });
      this.#database.exec(`
        PRAGMA locking_mode = EXCLUSIVE;
        CREATE TABLE IF NOT EXISTS held (by INTEGER);
        BEGIN EXCLUSIVE;
      `);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (/locked|busy/i.test(message))
        throw new Fault('already-running', `${file}: Postern runs here already; stop it first`, {
          cause: error,
        });
      throw new Fault(
        'cannot-write',
        `${file}: cannot be opened (${message}); mend its owner and permissions`,
        {
          cause: error,
        },
      );
    }
  }

  release(): void {
    this.#database.close();
  }
}
