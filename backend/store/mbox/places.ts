/**
 * Where the messages of an mbox stand in the file, by UID: columns, because a
 * folder of a million messages must not cost a million objects.
 */
import type { StoredForm } from './stored-form.ts';

export interface Place {
  readonly uid: number;
  /** Of its `From ` line, of its header, and behind its last byte. */
  readonly offset: number;
  readonly start: number;
  readonly end: number;
  readonly form: StoredForm;
  /** Its `From ` line says its name. false: the journal does. */
  readonly named: boolean;
}

const namedBit = 128;

export class Places {
  count = 0;
  uid = new Uint32Array(0);
  offset = new Float64Array(0);
  start = new Float64Array(0);
  end = new Float64Array(0);
  form = new Uint8Array(0);

  static of(places: readonly Place[]): Places {
    const made = new Places();
    for (const place of places.toSorted((a, b) => a.uid - b.uid)) made.push(place);
    return made;
  }

  /** UIDs come in ascending order. */
  push({ uid, offset, start, end, form, named }: Place): void {
    if (this.count === this.uid.length) this.#grow();
    const at = this.count++;
    this.uid[at] = uid;
    this.offset[at] = offset;
    this.start[at] = start;
    this.end[at] = end;
    this.form[at] = form | (named ? namedBit : 0);
  }

  get(uid: number): Place | undefined {
    let low = 0;
    let high = this.count - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const here = this.uid[middle]!;
      if (here === uid) return this.at(middle);
      if (here < uid) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }

  at(index: number): Place {
    const form = this.form[index]!;
    return {
      uid: this.uid[index]!,
      offset: this.offset[index]!,
      start: this.start[index]!,
      end: this.end[index]!,
      form: form & ~namedBit,
      named: (form & namedBit) !== 0,
    };
  }

  *[Symbol.iterator](): Generator<Place> {
    for (let index = 0; index < this.count; index++) yield this.at(index);
  }

  #grow(): void {
    const length = Math.max(4, Math.ceil(this.count * 1.5));
    const wider = <T extends Uint32Array | Float64Array | Uint8Array>(to: T, before: T): T => {
      to.set(before);
      return to;
    };
    this.uid = wider(new Uint32Array(length), this.uid);
    this.offset = wider(new Float64Array(length), this.offset);
    this.start = wider(new Float64Array(length), this.start);
    this.end = wider(new Float64Array(length), this.end);
    this.form = wider(new Uint8Array(length), this.form);
  }
}
