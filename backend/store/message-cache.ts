/**
 * Small messages that were read lately, whole, for all accounts of the process:
 * a client that asks for envelope, structure and text of a message one after
 * the other, or a second device that fetches what the first one did, costs no
 * second look at the disk. Messages never change, so nothing here goes stale.
 *
 * Two generations instead of a list by age: a look-up moves nothing, and what
 * was not asked for during two intervals is let go although there is room.
 */

/** Bytes held at most, all accounts together. */
const heldBytesMax = 64 * 1024 * 1024;
/** A generation ends after this time even when it is not full. */
const generationMs = 30_000;
/** What a message costs beside its bytes: key, map entry, buffer object. */
const entryBytes = 200;

export class MessageCache {
  readonly #bytesMax: number;
  #young = new Map<string, Buffer>();
  #old = new Map<string, Buffer>();
  #youngBytes = 0;
  #oldBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param bytesMax  Bytes held at most, what a message costs beside its own included. */
  constructor(bytesMax = heldBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Nobody may change what comes back. */
  get(key: string): Buffer | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old === undefined) return undefined;
    this.#old.delete(key);
    this.#oldBytes -= old.length + entryBytes;
    this.put(key, old);
    return old;
  }

  put(key: string, message: Buffer): void {
    if (this.#young.has(key)) return;
    const bytes = message.length + entryBytes;
    if (this.#youngBytes + bytes > this.#bytesMax / 2) this.#turn();
    if (bytes > this.#bytesMax / 2) return;
    this.#young.set(key, message);
    this.#youngBytes += bytes;
    this.#timer ??= setInterval(() => this.#turn(), generationMs).unref();
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes;
  }

  #turn(): void {
    this.#old = this.#young;
    this.#oldBytes = this.#youngBytes;
    this.#young = new Map();
    this.#youngBytes = 0;
    if (this.#old.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** The one of this process. */
export const messageCache = new MessageCache();
