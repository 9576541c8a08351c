/**
 * The maildrop of one POP3 session: the messages of the INBOX as they were at
 * login (RFC 1939 4 and 8), and which of them the client has marked as deleted.
 * Pure but for the look at the folder at the start.
 */
import type { Folder } from '../../store/store.ts';
import { formatUidSet, uidsIn } from '../../store/uid-set.ts';
import type { Pop3State } from './pop3-state.ts';

/** Messages looked at before other sessions get a turn. */
const messagesPerSlice = 5000;

export class Maildrop {
  readonly #uids: Uint32Array;
  readonly #sizes: Float64Array;
  readonly #uidValidity: number;
  readonly #deleted = new Set<number>();
  readonly #retrieved = new Set<number>();
  #deletedBytes = 0;
  #version = 0;
  readonly #totalBytes: number;

  constructor(uidValidity: number, uids: Uint32Array, sizes: Float64Array) {
    this.#uidValidity = uidValidity;
    this.#uids = uids;
    this.#sizes = sizes;
    this.#totalBytes = sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Takes the snapshot. Messages expunged meanwhile by another session are left out. */
  static async of(folder: Folder): Promise<Maildrop> {
    const all = folder.uids();
    const uids = new Uint32Array(all.length);
    const sizes = new Float64Array(all.length);
    let count = 0;
    for (let at = 0; at < all.length; at += 1) {
      if (at > 0 && at % messagesPerSlice === 0) await new Promise((resolve) => setImmediate(resolve));
      const uid = all[at] as number;
      const facts = folder.facts(uid);
      if (facts === undefined) continue;
      uids[count] = uid;
      sizes[count] = facts.size;
      count += 1;
    }
    return new Maildrop(folder.uidValidity, uids.subarray(0, count), sizes.subarray(0, count));
  }

  /** The maildrop of a session that began at another backend: sizes of messages that are gone count nothing. */
  static restored(folder: Folder, uids: Uint32Array, state: Pop3State): Maildrop {
    const sizes = Float64Array.from(uids, (uid) => folder.facts(uid)?.size ?? 0);
    const drop = new Maildrop(folder.uidValidity, uids, sizes);
    for (const number of uidsIn(state.deleted)) if (drop.has(number)) drop.delete(number);
    for (const number of uidsIn(state.retrieved)) if (number <= drop.last) drop.retrieved(number);
    return drop;
  }

  /** Changes with every mark and every message read. */
  get version(): number {
    return this.#version;
  }

  /** Numbers of the messages that are marked, and of those that were read, as sets. */
  get marks(): { readonly deleted: string; readonly retrieved: string } {
    return { deleted: setOf(this.#deleted), retrieved: setOf(this.#retrieved) };
  }

  /** Message numbers run from 1 to this, deleted ones included. */
  get last(): number {
    return this.#uids.length;
  }

  get count(): number {
    return this.#uids.length - this.#deleted.size;
  }

  get bytes(): number {
    return this.#totalBytes - this.#deletedBytes;
  }

  has(number: number): boolean {
    return number >= 1 && number <= this.#uids.length && !this.#deleted.has(number);
  }

  uid(number: number): number {
    return this.#uids[number - 1] as number;
  }

  size(number: number): number {
    return this.#sizes[number - 1] as number;
  }

  /** RFC 1939 7: 1 to 70 characters from 0x21 to 0x7E, never given to another message. */
  uniqueId(number: number): string {
    // As Dovecot gives them unless told otherwise ("%08Xu%08Xv"): who came from there does not fetch all mail again.
    return hex8(this.uid(number)) + hex8(this.#uidValidity);
  }

  delete(number: number): void {
    this.#version++;
    this.#deleted.add(number);
    this.#deletedBytes += this.size(number);
  }

  /** RFC 1939 5, RSET: marks are taken back. */
  reset(): void {
    this.#version++;
    this.#deleted.clear();
    this.#deletedBytes = 0;
  }

  retrieved(number: number): void {
    this.#version++;
    this.#retrieved.add(number);
  }

  /** UIDs to remove at QUIT. */
  deletedUids(): number[] {
    return [...this.#deleted].map((number) => this.uid(number)).sort((a, b) => a - b);
  }

  /** UIDs the client has read and keeps. */
  keptAndReadUids(): number[] {
    const kept = [...this.#retrieved].filter((number) => !this.#deleted.has(number));
    return kept.map((number) => this.uid(number)).sort((a, b) => a - b);
  }
}

function setOf(numbers: ReadonlySet<number>): string {
  return formatUidSet([...numbers].sort((a, b) => a - b));
}

function hex8(value: number): string {
  return value.toString(16).padStart(8, '0');
}
