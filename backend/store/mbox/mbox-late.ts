/**
 * What happens to an mbox behind the answer: expunged messages are cut out of
 * it, a little later, so that many expunges cost one rewriting. The journal has
 * said that they are gone; a crash only means that it is done at the next opening.
 */
import { isFault } from '../../../base/fault.ts';
import type { LateWork } from '../late-work.ts';
import type { MboxFolder } from './mbox-folder.ts';

/** Rewriting waits this long after an expunge, and ten times as long as the one before it took. */
const delayMs = 200;
const restFactor = 10;
const delayMsMax = 30_000;

export class MboxLate implements LateWork {
  readonly #folder: MboxFolder;
  /** Greatest sequence of an expunge whose messages are still in the file. */
  #upTo = 0;
  #working: Promise<void> | undefined;
  #now: (() => void) | undefined;
  #lastMs = 0;
  #abandoned = false;
  #failure = false;

  constructor(folder: MboxFolder) {
    this.#folder = folder;
  }

  get behind(): boolean {
    return this.#failure || this.#upTo > 0;
  }

  async settled(): Promise<void> {
    while (this.#working) {
      this.#now?.();
      await this.#working;
    }
  }

  abandon(): void {
    this.#abandoned = true;
    this.#now?.();
  }

  /** What flags a message has stands in the journal alone. */
  showFlags(): void {
    if (this.#upTo > 0) this.#start();
    // A journal that has grown is compacted behind late work, and flags make it grow.
    else this.#folder.host.background(Promise.resolve());
  }

  purge(_names: readonly string[], modseq: number): void {
    this.#upTo = Math.max(this.#upTo, modseq);
    this.#start();
  }

  /** Messages without a name in the file are many: they get one. */
  giveNames(): void {
    this.#start();
  }

  #start(): void {
    if (this.#working || this.#abandoned) return;
    const working = this.#work()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#working = undefined;
        if (this.#upTo > 0 && !this.#failure && !this.#busy) this.#start();
      });
    this.#working = working;
    this.#folder.host.background(working);
  }

  /** Another program has the mbox, or changed it: whatever looks at it next goes on. */
  #busy = false;

  async #work(): Promise<void> {
    await new Promise<void>((resolve) => {
      const waitMs = Math.min(delayMsMax, Math.max(delayMs, this.#lastMs * restFactor));
      const timer = setTimeout(resolve, waitMs);
      this.#now = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#now = undefined;
    if (this.#abandoned || this.#folder.removed) return;
    const upTo = this.#upTo;
    const startedMs = performance.now();
    this.#busy = !(await this.#folder.rewriteFile());
    this.#lastMs = performance.now() - startedMs;
    if (this.#busy) return;
    this.#failure = false;
    if (this.#upTo === upTo) this.#upTo = 0;
    if (upTo > 0) this.#folder.host.journal.note({ t: 'purged', f: this.#folder.mailboxId, m: upTo });
  }

  #failed(error: unknown): void {
    const { host, name, removed } = this.#folder;
    this.#failure = true;
    if (removed) return;
    const failure = host.failed(error, 'purge');
    this.#busy = isFault(failure, 'busy');
    host.log.warn(
      { event: 'late-work-failed', what: 'purge', folder: name, err: failure },
      'late work failed',
    );
  }
}
