/**
 * Account files read lately, and names that turned out to be no account: RCPT
 * and login ask for the same few again and again. True only while this backend
 * owns the account at the epoch it was read at, since only the owner writes.
 */
import type { Address, Epoch } from '../../cluster-protocol/ids.ts';
import { type AccountFile, accountDirectory, readAccountFile } from './account-files.ts';

const knownMax = 50_000;

interface Known {
  readonly epoch: Epoch;
  readonly file: Promise<AccountFile | undefined>;
}

export class KnownAccounts {
  readonly #root: string;
  readonly #known = new Map<Address, Known>();
  readonly #confirmAbsent: () => Promise<void>;

  /** @param confirmAbsent  Rejects when the storage is not there at all: then nobody is told "no such account". */
  constructor(root: string, confirmAbsent: () => Promise<void>) {
    this.#root = root;
    this.#confirmAbsent = confirmAbsent;
  }

  /** @throws {Fault} `storage-failed`, `storage-damaged` */
  read(address: Address, epoch: Epoch): Promise<AccountFile | undefined> {
    const known = this.#known.get(address);
    if (known?.epoch === epoch) return known.file;
    const file = this.#load(address);
    const entry = { epoch, file };
    this.#known.delete(address);
    this.#known.set(address, entry);
    if (this.#known.size > knownMax) this.#known.delete(this.#known.keys().next().value!);
    file.catch(() => {
      if (this.#known.get(address) === entry) this.#known.delete(address);
    });
    return file;
  }

  forget(address: Address): void {
    this.#known.delete(address);
  }

  forgetAll(leaving: (address: Address) => boolean): void {
    for (const address of this.#known.keys()) if (leaving(address)) this.#known.delete(address);
  }

  async #load(address: Address): Promise<AccountFile | undefined> {
    let directory: string;
    try {
      directory = accountDirectory(this.#root, address);
    } catch {
      return undefined;
    }
    const file = await readAccountFile(directory);
    if (file === undefined) await this.#confirmAbsent();
    return file;
  }
}
