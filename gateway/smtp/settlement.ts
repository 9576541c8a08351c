/**
 * Which messages the sender is known to know about. A 250 that was written has
 * not been read: the connection may break first, and the message comes again
 * (RFC 1047). Bytes that arrive after it are the proof; until then the owners
 * keep the delivery key, so that a second copy is recognised.
 */
import type { Address } from '../../cluster-protocol/ids.ts';

interface Waiting {
  readonly key: string;
  readonly recipients: readonly Address[];
  armed: boolean;
}

const waitingMax = 100;

export class Settlement {
  readonly #settle: (key: string, recipients: readonly Address[]) => void;
  #waiting: Waiting[] = [];

  constructor(settle: (key: string, recipients: readonly Address[]) => void) {
    this.#settle = settle;
  }

  /**
   * The 250 has been written, and the socket was read all the time before: one full turn of the event loop reads
   * what had arrived until now, so only what comes after that turn was sent by a client that saw the 250.
   */
  wrote(accepted: { readonly key: string; readonly recipients: readonly Address[] }): void {
    if (this.#waiting.length >= waitingMax) return;
    const entry: Waiting = { ...accepted, armed: false };
    this.#waiting.push(entry);
    setImmediate(() =>
      setImmediate(() => {
        entry.armed = true;
      }),
    );
  }

  /** Bytes have come. */
  heard(): void {
    if (this.#waiting.length === 0) return;
    const still: Waiting[] = [];
    for (const entry of this.#waiting) {
      if (entry.armed) this.#settle(entry.key, entry.recipients);
      else still.push(entry);
    }
    this.#waiting = still;
  }

  /** The connection is gone: what was not proven stays unproven. */
  forget(): void {
    this.#waiting = [];
  }
}
