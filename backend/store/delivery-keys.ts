/**
 * Deliveries whose sender may not have seen the 250 yet. A retry with the same
 * key must find the first copy, also after a crash (the key stands in the file
 * name) and after the message was read and expunged (then in the journal).
 */
import type { KeptKey } from './journal-records.ts';

/** Keys of messages that are no longer in a folder, per account; the oldest go first. */
const orphansMax = 10_000;

export interface KeyPlace {
  readonly mailboxId: string;
  readonly uid: number;
  readonly seconds: number;
}

export class DeliveryKeys {
  #stored: Map<string, KeyPlace> | undefined;
  #orphans: Map<string, KeptKey> | undefined;
  #running: Map<string, Promise<unknown>> | undefined;

  /** UID of the first copy, if there was one. */
  uidOf(key: string): number | undefined {
    return this.#stored?.get(key)?.uid ?? this.#orphans?.get(key)?.[1];
  }

  stored(key: string, place: KeyPlace): void {
    this.#stored ??= new Map();
    this.#stored.set(key, place);
  }

  placeOf(key: string): KeyPlace | undefined {
    return this.#stored?.get(key);
  }

  /** What is stored in a folder, for its index. */
  of(mailboxId: string): KeptKey[] {
    const kept: KeptKey[] = [];
    for (const [key, place] of this.#stored ?? []) {
      if (place.mailboxId === mailboxId) kept.push([key, place.uid, place.seconds]);
    }
    return kept;
  }

  isOrphan(key: string): boolean {
    return this.#orphans?.has(key) ?? false;
  }

  forget(key: string): void {
    this.#stored?.delete(key);
    if (this.#stored?.size === 0) this.#stored = undefined;
    this.#orphans?.delete(key);
  }

  /** The message of `key` leaves its folder: what the journal has to keep. */
  keptFor(key: string | undefined): KeptKey | undefined {
    if (key === undefined) return undefined;
    const place = this.#stored?.get(key);
    return place && [key, place.uid, place.seconds];
  }

  orphan(kept: KeptKey): void {
    this.#stored?.delete(kept[0]);
    this.#orphans ??= new Map();
    this.#orphans.set(kept[0], kept);
    if (this.#orphans.size > orphansMax) this.#orphans.delete(this.#orphans.keys().next().value!);
  }

  orphans(sinceSeconds: number): KeptKey[] {
    return [...(this.#orphans?.values() ?? [])].filter(([, , seconds]) => seconds > sinceSeconds);
  }

  /** Two attempts at once with one key: the second waits for what becomes of the first. */
  async alone<T>(key: string, work: () => Promise<T>): Promise<T> {
    this.#running ??= new Map();
    for (let other = this.#running.get(key); other; other = this.#running?.get(key)) {
      await other.catch(() => {});
    }
    const running = work();
    this.#running ??= new Map();
    this.#running.set(key, running);
    try {
      return await running;
    } finally {
      this.#running.delete(key);
      if (this.#running.size === 0) this.#running = undefined;
    }
  }
}
