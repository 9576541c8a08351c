/**
 * Where repairing puts what it takes out of an account: `quarantine/<time>/`
 * in the account's directory, under the path it had. Nothing is ever deleted.
 */
import path from 'node:path';
import { copyBytes, makeDirectories, renameFile, syncDirectory } from '../files.ts';

export class Quarantine {
  readonly #account: string;
  readonly #place: string;

  /** @param account  The account's directory. */
  constructor(account: string, now: Date) {
    this.#account = account;
    this.#place = path.join('quarantine', now.toISOString().replace(/[:.]/g, '-'));
  }

  /** Moves a file or directory out of the account, durably. @returns where it is, relative to the account. */
  async take(file: string): Promise<string> {
    const [relative, target] = await this.#target(file);
    await renameFile(path.join(this.#account, file), target);
    await syncDirectory(path.dirname(target));
    await syncDirectory(path.dirname(path.join(this.#account, file)));
    return relative;
  }

  /** Copies a file that is about to be written anew. */
  async copy(file: string): Promise<string> {
    const [relative, target] = await this.#target(file);
    await copyBytes(path.join(this.#account, file), target);
    await syncDirectory(path.dirname(target));
    return relative;
  }

  async #target(file: string): Promise<[string, string]> {
    const relative = path.join(this.#place, file);
    const target = path.join(this.#account, relative);
    await makeDirectories(path.dirname(target));
    return [relative, target];
  }
}
