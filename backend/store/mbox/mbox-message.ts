/**
 * Reading one message of an mbox: its bytes as they came, whatever stands in
 * the file. Large ones are read in slices, each from where the message stands
 * by then: an mbox is rewritten under its readers.
 */
import { Readable } from 'node:stream';
import type { OpenMessage } from '../store.ts';
import { goneMessage } from '../stored-folder.ts';
import { toView } from './line-rewriter.ts';
import type { Place } from './places.ts';
import { formBit } from './stored-form.ts';

const sliceBytes = 256 * 1024;

/** Stored bytes of the message from a position on; empty at its end. @throws {Fault} `gone` */
export type ReadStored = (from: number, bytesMax: number) => Promise<{ place: Place; bytes: Buffer }>;

/** Where a slice begins, stored and shown, and what reads on from there. */
interface Mark {
  readonly stored: number;
  readonly shown: number;
  readonly view: ReturnType<typeof toView>;
}

/** Marks of messages that were read in part, so that the next part does not begin at the beginning. */
export type Marks = Mark[];

/** Are the lines of state in this message's header another program's? */
export function hidesStateAt(place: Place, fileBytes: number): boolean {
  if (!(place.form & formBit.hidesState)) return false;
  return (place.form & formBit.foreign) !== 0 || place.end - place.start !== fileBytes;
}

/** A small message, whole. `undefined`: it is not what its name says. */
export function viewWhole(stored: Buffer, place: Place, fileBytes: number, size: number): Buffer | undefined {
  const view = toView(place.form, hidesStateAt(place, fileBytes));
  const first = view.push(stored);
  const last = view.end();
  const shown = last.length === 0 ? first : Buffer.concat([first, last]);
  if (shown.length < size) return undefined;
  // Of its own memory: what is kept for long must not keep the larger buffer it was made in.
  const whole = Buffer.allocUnsafeSlow(size);
  shown.copy(whole, 0, 0, size);
  return whole;
}

export class MboxMessage implements OpenMessage {
  readonly size: number;
  readonly #fileBytes: number;
  readonly #read: ReadStored;
  readonly #marks: Marks;
  readonly #closed: () => void;

  constructor(size: number, fileBytes: number, read: ReadStored, marks: Marks, closed: () => void) {
    this.size = size;
    this.#fileBytes = fileBytes;
    this.#read = read;
    this.#marks = marks;
    this.#closed = closed;
  }

  async read(start: number, end: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.#slices(start, end)) parts.push(part);
    return Buffer.concat(parts);
  }

  stream(start: number, end: number): Readable {
    return Readable.from(this.#slices(start, end), { objectMode: false, highWaterMark: sliceBytes });
  }

  async close(): Promise<void> {
    this.#closed();
  }

  async *#slices(start: number, end: number): AsyncGenerator<Buffer> {
    const stop = Math.min(end, this.size);
    let at = Math.max(
      0,
      this.#marks.findLastIndex((mark) => mark.shown <= start),
    );
    for (let done = false; !done; at++) {
      const mark = this.#marks[at];
      if (mark && mark.shown >= stop) return;
      const { place, bytes } = await this.#read(mark?.stored ?? 0, sliceBytes);
      const view = mark ? mark.view.fork() : toView(place.form, hidesStateAt(place, this.#fileBytes));
      const shownFrom = mark?.shown ?? 0;
      let shown = view.push(bytes);
      done = bytes.length < sliceBytes;
      if (done) shown = Buffer.concat([shown, view.end()]);
      const shownTo = shownFrom + shown.length;
      if (this.#marks.length === 0) {
        this.#marks.push({
          stored: 0,
          shown: 0,
          view: toView(place.form, hidesStateAt(place, this.#fileBytes)),
        });
      }
      if (!done && at + 1 === this.#marks.length) {
        this.#marks.push({ stored: (mark?.stored ?? 0) + bytes.length, shown: shownTo, view });
      }
      const from = Math.max(start, shownFrom) - shownFrom;
      const to = Math.min(stop, shownTo) - shownFrom;
      if (to > from) yield shown.subarray(from, to);
      if (shownTo >= stop) return;
      // The bytes ended before the message: another program cut it.
      if (done) throw goneMessage();
    }
  }
}
