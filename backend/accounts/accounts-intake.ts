/** The intake of this backend's accounts: its own log, those of other processes, and who clears up behind them. */
import path from 'node:path';
import type { Log } from '../../base/log.ts';
import type { Address } from '../../cluster-protocol/ids.ts';
import { Intake } from '../store/intake/intake.ts';
import { Janitor } from '../store/intake/intake-janitor.ts';
import { IntakeReader } from '../store/intake/intake-reader.ts';
import type { StoreOptions } from '../store/open-store.ts';

export class AccountsIntake {
  readonly #root: string;
  readonly #log: Log;
  readonly #reader: IntakeReader;
  readonly #live: Intake | undefined;
  #janitor: Janitor | undefined;

  /** @param root  The storage root. @param wanted  Is there to be a log of our own? */
  static async open(root: string, wanted: boolean, log: Log): Promise<AccountsIntake> {
    const place = path.join(root, 'intake');
    return new AccountsIntake(place, wanted ? await openIntake(place, log) : undefined, log);
  }

  private constructor(root: string, live: Intake | undefined, log: Log) {
    this.#root = root;
    this.#log = log;
    this.#reader = new IntakeReader(root, log);
    this.#live = live;
  }

  /** For opening a store. */
  of(account: Address): NonNullable<StoreOptions['intake']> {
    return { reader: this.#reader, live: this.#live, account };
  }

  /** @param visit  See `JanitorWork.visit`. */
  keepTidy(visit: (address: Address) => Promise<boolean>): void {
    this.#janitor = new Janitor({
      root: this.#root,
      reader: this.#reader,
      log: this.#log,
      ownId: this.#live?.logId,
      visit,
    });
  }

  /** When all accounts are closed. */
  async close(): Promise<void> {
    await this.#janitor?.stop();
    await this.#live?.close();
  }
}

/** Without an intake every message goes to its file at once: slower, and a full disk can still be read. */
async function openIntake(root: string, log: Log): Promise<Intake | undefined> {
  try {
    return await Intake.open(root, log);
  } catch (error) {
    log.error(
      { event: 'intake-not-opened', err: error },
      'there is no intake log; messages go to their files at once',
    );
    return undefined;
  }
}
