/**
 * One recipient of a message being delivered: opens the account, writes, commits.
 * Each is settled by itself, so that one full or moving account does not decide
 * for the others (CASES 12).
 */
import { errnoOf, type Fault, isFault } from '../../../base/fault.ts';
import type { Address } from '../../../cluster-protocol/ids.ts';
import type { DeliveryAnswer } from '../../../cluster-protocol/link.ts';
import type { Account, Accounts } from '../../accounts/accounts.ts';
import type { Folder, Incoming, Store } from '../../store/store.ts';

type Outcome = DeliveryAnswer['outcome'];

export const inboxName = 'INBOX';
/** Where there is no folder of that use yet. */
const junkName = 'Junk';

export class RecipientDelivery {
  readonly recipient: Address;
  outcome: Outcome | undefined;
  detail: string | undefined;
  uid: number | undefined;
  #account: Account | undefined;
  #incoming: Incoming | undefined;

  constructor(recipient: Address) {
    this.recipient = recipient;
  }

  /** Still to be written and committed? */
  get isOpen(): boolean {
    return this.outcome === undefined;
  }

  /** Opens the account and a temporary file in the folder. Never rejects: a failure is the outcome. */
  async begin(
    accounts: Accounts,
    delivery: { deliveryKey: string; size: number; nowMs: number; fileInto?: 'junk' },
  ): Promise<void> {
    if (!this.isOpen) return;
    try {
      this.#account = await accounts.open(this.recipient);
      const { store } = this.#account;
      const folder = delivery.fileInto === 'junk' ? await junkFolder(store) : await store.folder(inboxName);
      this.#incoming = await folder.append(
        { flags: 0, keywords: [], internalDateMs: delivery.nowMs, deliveryKey: delivery.deliveryKey },
        delivery.size,
      );
    } catch (error) {
      await this.#fail(error);
    }
  }

  async write(chunk: Buffer): Promise<void> {
    if (!this.isOpen || this.#incoming === undefined) return;
    if (this.#account?.ended.aborted === true) return await this.settle('not-owner', 'account left');
    try {
      await this.#incoming.write(chunk);
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Durable when this settles with `stored` or `already`. */
  async commit(): Promise<void> {
    if (!this.isOpen || this.#incoming === undefined) return;
    const incoming = this.#incoming;
    this.#incoming = undefined;
    try {
      const { uid, already } = await incoming.commit();
      this.uid = uid;
      this.outcome = already ? 'already' : 'stored';
    } catch (error) {
      // `commit` has failed as a whole: it leaves nothing, and `abort` after it does no harm.
      await incoming.abort().catch(() => {});
      await this.#fail(error);
    } finally {
      this.#release();
    }
  }

  /** Gives up with this outcome; nothing is left behind. */
  async settle(outcome: Outcome, detail?: string): Promise<void> {
    if (!this.isOpen) return;
    this.outcome = outcome;
    this.detail = detail;
    const incoming = this.#incoming;
    this.#incoming = undefined;
    try {
      await incoming?.abort();
    } catch (error) {
      this.detail = `${detail ?? ''}; abort: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      this.#release();
    }
  }

  answer(): DeliveryAnswer {
    const answer = { recipient: this.recipient, outcome: this.outcome ?? ('failed' as const) };
    return this.detail === undefined ? answer : { ...answer, detail: this.detail };
  }

  async #fail(error: unknown): Promise<void> {
    const detail = error instanceof Error ? error.message : String(error);
    await this.settle(outcomeOf(error), detail.slice(0, 500));
  }

  #release(): void {
    const account = this.#account;
    this.#account = undefined;
    account?.release();
  }
}

/** The folder for junk (RFC 6154), made when there is none. */
async function junkFolder(store: Store): Promise<Folder> {
  const folders = store.listFolders();
  const found =
    folders.find(({ specialUse, selectable }) => specialUse === 'junk' && selectable) ??
    folders.find(({ name, selectable }) => name === junkName && selectable);
  if (found !== undefined) return store.folder(found.name);
  try {
    return await store.createFolder(junkName, 'junk');
  } catch (error) {
    // Made by another delivery meanwhile.
    if (isFault(error, 'already-exists')) return store.folder(junkName);
    throw error;
  }
}

/** What a failure means for the sender of a message. */
export function outcomeOf(error: unknown): Outcome {
  if (!isFault(error)) return errnoOf(error) === 'ENOSPC' ? 'no-space' : 'failed';
  const fault: Fault = error;
  switch (fault.code) {
    case 'no-such-account':
      return 'no-such-account';
    case 'over-quota':
      return 'over-quota';
    case 'message-too-big':
      return 'too-big';
    case 'no-space':
      return 'no-space';
    case 'not-owner':
    case 'lease-lost':
      return 'not-owner';
    default:
      return 'failed';
  }
}
