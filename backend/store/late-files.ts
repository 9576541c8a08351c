/**
 * What happens to a folder's files behind the answer: names come to show the
 * flags, files of expunged messages go. The journal has said both already; a
 * crash only means that it is done after the next opening.
 */
import { errnoOf } from '../../base/fault.ts';
import { eachAtOnce, renameFile, syncDirectory, unlinkFile } from './files.ts';
import type { LateWork } from './late-work.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { lettersIn, withFlags } from './message-name.ts';

/** Showing flags waits this long, so that several changes of a message cost one rename. */
const showDelayMs = 20;
const batchMax = 64;

export class LateFiles implements LateWork {
  readonly #folder: MaildirFolder;
  readonly #toShow = new Set<number>();
  readonly #leaving = new Set<string>();
  #showing: Promise<void> | undefined;
  #showNow: (() => void) | undefined;
  #purging: Promise<void> | undefined;
  #failure = false;
  /** Names that could not be changed: another program had renamed the file, or the disk was full. */
  readonly #missed = new Set<number>();
  #abandoned = false;

  constructor(folder: MaildirFolder) {
    this.#folder = folder;
  }

  /** File names do not say all the journal does, and may not be taken at their word. */
  get behind(): boolean {
    return this.#failure || this.#missed.size > 0;
  }

  /** Settles when file names show all flags and expunged files are away. */
  async settled(): Promise<void> {
    await this.#shown();
    await this.#purging;
  }

  /** Begins nothing more: the journal has it all, and whoever opens the folder next goes on. */
  abandon(): void {
    if (!this.#showing && !this.#purging) return;
    this.#abandoned = true;
    this.#failure = true;
  }

  /** Is this the file of an expunged message that has not been removed yet? */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name);
  }

  /**
   * Renames files so that their names show the flags: a service to other programs and to a lost journal. What
   * could not be renamed before is tried again.
   */
  showFlags(uids: readonly number[]): void {
    for (const uid of uids) this.#toShow.add(uid);
    for (const uid of this.#missed) this.#toShow.add(uid);
    this.#missed.clear();
    if (this.#showing || this.#toShow.size === 0) return;
    this.#showing = this.#show()
      .catch((error: unknown) => this.#failed('show-flags', error))
      .finally(() => {
        this.#showing = undefined;
      });
    this.#folder.host.background(this.#showing);
  }

  /** Removes files; when that is durable, the journal may forget about expunges up to `modseq`. */
  purge(names: readonly string[], modseq: number): void {
    this.#folder.ownChanges++;
    for (const name of names) this.#leaving.add(name);
    const purging = (this.#purging ?? Promise.resolve())
      .then(() => this.#remove(names, modseq))
      .catch((error: unknown) => this.#failed('purge', error))
      .finally(() => {
        if (this.#purging === purging) this.#purging = undefined;
      });
    this.#purging = purging;
    this.#folder.host.background(purging);
  }

  async #shown(): Promise<void> {
    while (this.#showing) {
      this.#showNow?.();
      await this.#showing;
    }
  }

  async #show(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#showNow = resolve;
      setTimeout(resolve, showDelayMs);
    });
    while (this.#toShow.size > 0 && !this.#folder.removed && !this.#abandoned) {
      const batch: number[] = [];
      for (const uid of this.#toShow) if (batch.push(uid) === batchMax) break;
      for (const uid of batch) this.#toShow.delete(uid);
      await eachAtOnce(batch, (uid) => this.#showOne(uid));
    }
  }

  async #showOne(uid: number): Promise<void> {
    const folder = this.#folder;
    folder.host.mayFinish();
    const { columns } = folder.state;
    const at = columns.find(uid);
    if (at < 0) return;
    const before = columns.nameOf(at);
    const after = withFlags(before, columns.flags[at]!);
    if (before === after) return;
    // Whoever makes the file shows the flags in its name.
    if (folder.pending.isUnmade(uid)) return;
    folder.ownChanges++;
    try {
      await renameFile(folder.file(before), folder.file(after));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOSPC') throw error;
      this.#missed.add(uid);
      return;
    }
    const now = columns.find(uid);
    if (now >= 0) {
      columns.setName(now, after);
      if (lettersIn(after).flags !== columns.flags[now]) this.#toShow.add(uid);
      return;
    }
    // Expunged while the rename ran: the purge, which waits for us, knows the old name only.
    await this.#unlink(after);
  }

  async #remove(names: readonly string[], modseq: number): Promise<void> {
    await this.#shown();
    await eachAtOnce(names, async (name) => {
      this.#folder.host.mayFinish();
      if (this.#abandoned) return;
      await this.#unlink(name);
      this.#leaving.delete(name);
    });
    if (this.#failure) return;
    await syncDirectory(`${this.#folder.directory}/cur`);
    this.#folder.host.journal.note({ t: 'purged', f: this.#folder.mailboxId, m: modseq });
  }

  async #unlink(name: string): Promise<void> {
    try {
      await unlinkFile(this.#folder.file(name));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      this.#failure = true;
      throw error;
    }
  }

  #failed(what: string, error: unknown): void {
    this.#failure = true;
    const { host, name, removed } = this.#folder;
    if (removed) return;
    const failure = host.failed(error, what);
    host.log.warn({ event: 'late-work-failed', what, folder: name, err: failure }, 'late work failed');
  }
}
