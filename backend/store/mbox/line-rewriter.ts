/**
 * Messages on their way into an mbox and out of it: quotes put on or taken off,
 * line ends made LF or CRLF, other programs' lines of state left out. Bytes
 * come in pieces of any size; what cannot be decided yet is held back.
 *
 * mboxrd: a line that is `From ` behind any number of `>` gets one `>` more on
 * its way in and loses one on its way out, so that every text comes back as it
 * was. (The other mbox dialects lose bytes; RFC 4155 appendix A.)
 */
import { isStateLine, stateNameBytesMax } from './state-lines.ts';
import { formBit, type StoredForm } from './stored-form.ts';

const gt = 0x3e;
const cr = 13;
const lf = 10;
const from = Buffer.from('From ');
const nothing = Buffer.alloc(0);

interface Ways {
  readonly quotes: 'add' | 'remove';
  /** `strip`: CRLF becomes LF. `add`: each LF becomes CRLF. `complete`: those without a CR do. */
  readonly ends: 'keep' | 'strip' | 'add' | 'complete';
  readonly hidesState: boolean;
}

class LineRewriter {
  readonly #ways: Ways;
  #held: Buffer = nothing;
  #atStart = true;
  #inHeader: boolean;
  #inState = false;

  constructor(ways: Ways) {
    this.#ways = ways;
    this.#inHeader = ways.hidesState;
  }

  /** Another that goes on from here. */
  fork(): LineRewriter {
    const other = new LineRewriter(this.#ways);
    other.#held = this.#held;
    other.#atStart = this.#atStart;
    other.#inHeader = this.#inHeader;
    other.#inState = this.#inState;
    return other;
  }

  push(chunk: Buffer): Buffer {
    return this.#rewrite(this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]), false);
  }

  /** What was held back. */
  end(): Buffer {
    return this.#held.length === 0 ? nothing : this.#rewrite(this.#held, true);
  }

  #rewrite(data: Buffer, last: boolean): Buffer {
    // Twice as much at most: each byte an LF that becomes CRLF. A quote comes only with five bytes of its own.
    const out = Buffer.allocUnsafe(data.length * 2);
    let written = 0;
    const put = (start: number, end: number): void => {
      written += data.copy(out, written, start, end);
    };
    this.#held = nothing;
    let at = 0;
    while (at < data.length) {
      let end = data.indexOf(lf, at);
      const whole = end >= 0;
      if (!whole) end = data.length;
      if (this.#atStart) {
        if (this.#inHeader) {
          if (!whole && !last && end - at < stateNameBytesMax) return this.#hold(data, at, out, written);
          this.#lookAtHeader(data, at, end);
        }
        if (!this.#inState) {
          let behind = at;
          while (data[behind] === gt) behind++;
          if (!whole && !last && data.length - behind < from.length && startsLikeFrom(data, behind)) {
            // The last `>` of a run is held, so that it is known to be one when the rest comes.
            const kept = behind > at ? behind - 1 : behind;
            put(at, kept);
            return this.#hold(data, kept, out, written);
          }
          if (data.length - behind >= from.length && startsLikeFrom(data, behind)) {
            if (this.#ways.quotes === 'add') {
              put(at, behind);
              out[written++] = gt;
            } else if (behind > at) put(at, behind - 1);
            at = behind;
          }
        }
        this.#atStart = false;
      }
      if (!whole) {
        // A CR may be the first half of the line's end.
        const kept = !last && data[data.length - 1] === cr && data.length > at ? 1 : 0;
        if (!this.#inState) put(at, data.length - kept);
        return kept === 0 ? out.subarray(0, written) : this.#hold(data, data.length - kept, out, written);
      }
      if (!this.#inState) {
        const hasCr = end > at && data[end - 1] === cr;
        const { ends } = this.#ways;
        put(at, ends === 'strip' && hasCr ? end - 1 : end);
        if (ends === 'add' || (ends === 'complete' && !hasCr)) out[written++] = cr;
        out[written++] = lf;
      }
      this.#atStart = true;
      at = end + 1;
    }
    return out.subarray(0, written);
  }

  #hold(data: Buffer, at: number, out: Buffer, written: number): Buffer {
    this.#held = Buffer.from(data.subarray(at));
    return out.subarray(0, written);
  }

  #lookAtHeader(data: Buffer, at: number, end: number): void {
    const first = data[at];
    if (end === at || (first === cr && end === at + 1)) {
      this.#inHeader = false;
      this.#inState = false;
    } else if (first !== 32 && first !== 9) {
      const start = data.toString('latin1', at, Math.min(end, at + stateNameBytesMax));
      this.#inState = isStateLine(start);
    }
  }
}

function startsLikeFrom(data: Buffer, at: number): boolean {
  const length = Math.min(from.length, data.length - at);
  for (let index = 0; index < length; index++) if (data[at + index] !== from[index]) return false;
  return true;
}

/** A message on its way in. @returns a rewriter whose `end` also gives the LF an open last line gets. */
export function toStored(form: StoredForm): { push(chunk: Buffer): Buffer; end(): Buffer } {
  const rewriter = new LineRewriter({
    quotes: 'add',
    ends: form & formBit.crlf ? 'strip' : 'keep',
    hidesState: false,
  });
  if (!(form & formBit.openEnd)) return rewriter;
  return {
    push: (chunk) => rewriter.push(chunk),
    end: () => Buffer.concat([rewriter.end(), Buffer.from('\n')]),
  };
}

/**
 * A message on its way out. What an open last line got is shown too: the caller stops at the message's size.
 * @param hidesState  Lines of state stand in the header that are another program's.
 */
export function toView(form: StoredForm, hidesState: boolean): LineRewriter {
  return new LineRewriter({
    quotes: 'remove',
    ends: form & formBit.crlf ? 'add' : form & formBit.foreign ? 'complete' : 'keep',
    hidesState,
  });
}

/** Finds the form a message of ours is stored in, from its pieces. */
export class FormFinder {
  #last = 0;
  #allCrlf = true;

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    for (let at = chunk.indexOf(lf); this.#allCrlf && at >= 0; at = chunk.indexOf(lf, at + 1)) {
      if ((at === 0 ? this.#last : chunk[at - 1]) !== cr) this.#allCrlf = false;
    }
    this.#last = chunk[chunk.length - 1]!;
  }

  /** @param hasState  The message came with lines of state itself. */
  form(hasState: boolean): StoredForm {
    // A CR at the very end would be taken for half of a line's end.
    const crlf = this.#allCrlf && this.#last !== cr;
    return (
      (crlf ? formBit.crlf : 0) |
      (this.#last === lf ? 0 : formBit.openEnd) |
      (hasState ? 0 : formBit.hidesState)
    );
  }
}
