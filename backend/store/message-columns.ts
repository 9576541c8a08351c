/**
 * What is known of the messages of a folder, as columns in typed arrays: a
 * folder of a million messages must not cost a million objects. File names
 * stand one after the other in one buffer.
 */

/** Room for a row more than its column has bytes: names are about 90 bytes. */
const nameBytesFirst = 128;

/** Shared by all empty folders: thousands of accounts are open that hold little. */
const noWords = new Uint32Array(0);
const noFloats = new Float64Array(0);
const noShorts = new Uint16Array(0);
const noBytes = new Uint8Array(0);
const noNames = Buffer.alloc(0);

export interface Row {
  readonly uid: number;
  readonly size: number;
  readonly seconds: number;
  readonly flags: number;
  readonly modseq: number;
  /** Index into the folder's table of keyword combinations; 0: none. */
  readonly keywordSet: number;
  /** The file's name in `cur/`. ASCII or Latin-1. */
  readonly name: string;
}

export class MessageColumns {
  count = 0;
  uid = noWords;
  size = noFloats;
  seconds = noWords;
  flags = noBytes;
  modseq = noFloats;
  keywordSet = noShorts;
  #nameAt = noFloats;
  #nameBytes = noShorts;
  #names = noNames;
  #namesEnd = 0;
  #namesDead = 0;

  /**
   * Columns that are there already; they are taken over, not copied.
   * @param names  Lengths of the names and the names, one after the other.
   */
  static of(
    given: Pick<MessageColumns, 'count' | 'uid' | 'size' | 'seconds' | 'flags' | 'modseq' | 'keywordSet'>,
    names: { readonly lengths: Uint16Array; readonly bytes: Buffer },
  ): MessageColumns {
    const made = Object.assign(new MessageColumns(), given);
    made.#nameBytes = names.lengths as Uint16Array<ArrayBuffer>;
    made.#names = names.bytes as Buffer<ArrayBuffer>;
    made.#nameAt = new Float64Array(given.count);
    let end = 0;
    for (let at = 0; at < given.count; at++) {
      made.#nameAt[at] = end;
      end += names.lengths[at]!;
    }
    made.#namesEnd = end;
    return made;
  }

  /** The names, one after the other in the order of rows, and their lengths. A copy. */
  packedNames(): { readonly lengths: Uint16Array; readonly bytes: Buffer } {
    const bytes = Buffer.allocUnsafeSlow(this.#namesEnd - this.#namesDead);
    let end = 0;
    for (let at = 0; at < this.count; at++) {
      const start = this.#nameAt[at]!;
      end += this.#names.copy(bytes, end, start, start + this.#nameBytes[at]!);
    }
    return { lengths: this.#nameBytes, bytes: bytes.subarray(0, end) };
  }

  /** Rows come in the order of their UIDs. */
  push(row: Row): void {
    if (this.count === this.uid.length) this.#grow();
    const at = this.count;
    this.uid[at] = row.uid;
    this.size[at] = row.size;
    this.seconds[at] = row.seconds;
    this.flags[at] = row.flags;
    this.modseq[at] = row.modseq;
    this.keywordSet[at] = row.keywordSet;
    this.#putName(at, row.name);
    this.count++;
  }

  /** Index of a UID, or −1. */
  find(uid: number): number {
    let low = 0;
    let high = this.count - 1;
    // Most look-ups are of the newest messages or of folders without gaps.
    const guess = uid - (this.uid[0] ?? 0);
    if (guess >= 0 && guess <= high && this.uid[guess] === uid) return guess;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const here = this.uid[middle]!;
      if (here === uid) return middle;
      if (here < uid) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  nameOf(at: number): string {
    const start = this.#nameAt[at]!;
    return this.#names.toString('latin1', start, start + this.#nameBytes[at]!);
  }

  setName(at: number, name: string): void {
    this.#namesDead += this.#nameBytes[at]!;
    this.#putName(at, name);
  }

  /** UIDs that exist; later rows are written behind the end of what was handed out. */
  uids(): Uint32Array {
    return this.uid.subarray(0, this.count);
  }

  /** Removes rows. @param indices Ascending. The array `uids()` gave before stays as it was. */
  remove(indices: readonly number[]): void {
    if (indices.length === 0) return;
    const uid = new Uint32Array(this.uid.length);
    const movable = this.#movable();
    let to = indices[0]!;
    uid.set(this.uid.subarray(0, to));
    for (const [order, at] of indices.entries()) {
      this.#namesDead += this.#nameBytes[at]!;
      const from = at + 1;
      const end = indices[order + 1] ?? this.count;
      uid.set(this.uid.subarray(from, end), to);
      for (const column of movable) column.copyWithin(to, from, end);
      to += end - from;
    }
    this.uid = uid;
    this.count = to;
    if (this.#namesDead > 4096 && this.#namesDead * 2 > this.#namesEnd) this.#packNames();
  }

  /** Columns that nobody else holds. */
  #movable(): readonly { copyWithin(target: number, start: number, end: number): unknown }[] {
    return [this.size, this.seconds, this.flags, this.modseq, this.keywordSet, this.#nameAt, this.#nameBytes];
  }

  #putName(at: number, name: string): void {
    const end = this.#namesEnd + name.length;
    if (end > this.#names.length) {
      const grown = Buffer.alloc(Math.max(nameBytesFirst, end, Math.ceil(this.#names.length * 1.5)));
      this.#names.copy(grown, 0, 0, this.#namesEnd);
      this.#names = grown;
    }
    this.#names.write(name, this.#namesEnd, 'latin1');
    this.#nameAt[at] = this.#namesEnd;
    this.#nameBytes[at] = name.length;
    this.#namesEnd = end;
  }

  #packNames(): void {
    const packed = Buffer.alloc(Math.max(nameBytesFirst, this.#namesEnd - this.#namesDead));
    let end = 0;
    for (let at = 0; at < this.count; at++) {
      const start = this.#nameAt[at]!;
      this.#names.copy(packed, end, start, start + this.#nameBytes[at]!);
      this.#nameAt[at] = end;
      end += this.#nameBytes[at]!;
    }
    this.#names = packed;
    this.#namesEnd = end;
    this.#namesDead = 0;
  }

  #grow(): void {
    const length = Math.max(4, Math.ceil(this.uid.length * 1.5));
    const copy = <T extends Uint32Array | Float64Array | Uint8Array | Uint16Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.uid = copy(new Uint32Array(length), this.uid);
    this.size = copy(new Float64Array(length), this.size);
    this.seconds = copy(new Uint32Array(length), this.seconds);
    this.flags = copy(new Uint8Array(length), this.flags);
    this.modseq = copy(new Float64Array(length), this.modseq);
    this.keywordSet = copy(new Uint16Array(length), this.keywordSet);
    this.#nameAt = copy(new Float64Array(length), this.#nameAt);
    this.#nameBytes = copy(new Uint16Array(length), this.#nameBytes);
  }
}
