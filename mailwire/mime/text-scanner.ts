/** Looks for a text in an encoded body that comes in pieces; keeps no more than the text's length between them. */
import { streamDecoder } from './charset.ts';
import { type TransferDecoder, transferDecoder } from './transfer-encoding.ts';

export class TextScanner {
  readonly #needle: string;
  readonly #fold: (text: string) => string;
  readonly #transfer: TransferDecoder;
  readonly #decode: (bytes: Buffer, last: boolean) => string;
  #tail = '';

  /**
   * @param needle  What is looked for, folded.
   * @param fold  Applied to the body's text before it is compared.
   */
  constructor(needle: string, encoding: string, charset: string, fold: (text: string) => string) {
    this.#needle = needle;
    this.#fold = fold;
    this.#transfer = transferDecoder(encoding);
    this.#decode = streamDecoder(charset);
  }

  /** Takes the next bytes of the body. Is the text there? */
  push(bytes: Buffer): boolean {
    return this.#look(this.#decode(this.#transfer.push(bytes), false));
  }

  /** The body is over. */
  end(): boolean {
    return this.#look(this.#decode(this.#transfer.end(), true));
  }

  #look(text: string): boolean {
    const window = this.#tail + this.#fold(text);
    if (window.includes(this.#needle)) return true;
    this.#tail = window.slice(Math.max(0, window.length - this.#needle.length + 1));
    return false;
  }
}
