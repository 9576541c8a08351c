/** The intake as one open account uses it: says in the account's journal when messages may be in the log, and when none are. */
import type { Journal } from '../journal.ts';
import type { JournalRecord } from '../journal-records.ts';
import type { MaildirFolder } from '../maildir-folder.ts';
import type { StoredFolder } from '../stored-folder.ts';
import type { Intake } from './intake.ts';
import type { IntakeEntry, NamedMessage } from './intake-entry.ts';
import { formatMeta } from './intake-record.ts';

/** How long closing waits for files to become durable; after that the next owner finds the messages in the log. */
const closeWaitMs = 2000;

export interface IntakeMessage {
  readonly uid: number;
  readonly name: string;
  readonly body: Buffer;
}

export class AccountIntake {
  readonly #intake: Intake;
  readonly #account: string;
  readonly #journal: Journal;
  /** Log and first sequence, once the journal has it. */
  #mark: { readonly i: string; readonly n: number } | undefined;

  constructor(intake: Intake, account: string, journal: Journal) {
    this.#intake = intake;
    this.#account = account;
    this.#journal = journal;
  }

  takes(bytes: number): boolean {
    return this.#intake.takes(bytes);
  }

  /** What a snapshot of the journal has to go on saying. */
  *marks(): Generator<JournalRecord> {
    if (this.#mark) yield { t: 'intake', ...this.#mark };
  }

  /** Before the first message: whoever opens the account after a crash has to know where to look. */
  async mark(): Promise<void> {
    if (this.#mark?.i === this.#intake.logId) return;
    const mark = { i: this.#intake.logId, n: this.#intake.nextSeq };
    this.#intake.marked(this.#account);
    await this.#journal.append({ t: 'intake', ...mark });
    this.#mark = mark;
  }

  /** `undefined`: there is no room now. */
  append(
    folder: MaildirFolder,
    messages: readonly IntakeMessage[],
  ): { readonly entries: readonly IntakeEntry[]; readonly durable: Promise<void> } | undefined {
    const named = messages.map(
      ({ uid, name, body }): NamedMessage => ({
        uid,
        meta: formatMeta(this.#account, folder.mailboxId, name),
        body,
      }),
    );
    return this.#intake.append(this.#account, folder, named);
  }

  shown(entries: readonly IntakeEntry[]): void {
    this.#intake.shown(entries);
  }

  unshown(entries: readonly IntakeEntry[]): void {
    this.#intake.unshown(entries);
  }

  makeLater(entries: readonly IntakeEntry[]): void {
    this.#intake.makeLater(entries);
  }

  /** Settles when the files of these messages are durable. */
  settle(entries: readonly IntakeEntry[]): Promise<void> {
    return this.#intake.settle(entries);
  }

  /** Makes what is left durable. @returns what the journal may say of it. */
  async finish(folders: readonly StoredFolder[]): Promise<readonly JournalRecord[]> {
    if (this.#mark === undefined) return [];
    const left = folders.flatMap(({ pending }) => pending.unsettled());
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, closeWaitMs, 'late');
    });
    const outcome = left.length === 0 ? 'settled' : await Promise.race([this.#settleAll(folders), late]);
    clearTimeout(timer);
    if (outcome === 'late') return [];
    return [{ t: 'intake-settled', i: this.#mark.i }];
  }

  /** The journal said what `finish` returned. */
  finished(): void {
    this.#mark = undefined;
    this.#intake.unmarked(this.#account);
  }

  /** The account is closed: nothing more is done about what could not be settled. */
  abandon(): void {
    this.#intake.abandon(this.#account);
  }

  async #settleAll(folders: readonly StoredFolder[]): Promise<'settled' | 'late'> {
    try {
      for (const { pending } of folders) await pending.made();
      await this.#intake.settleSoon();
      return folders.every(({ pending }) => pending.unsettled().length === 0) ? 'settled' : 'late';
    } catch {
      // Its own failure has been told.
      return 'late';
    }
  }
}
