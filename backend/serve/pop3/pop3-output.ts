/** Answers on their way to the client: gathered into few large writes, and no faster than the client reads. */
import type { Writable } from 'node:stream';
import { Fault } from '../../../base/fault.ts';

const flushBytes = 64 * 1024;

export class Pop3Output {
  readonly #stream: Writable;
  #pieces: (string | Buffer)[] = [];
  #gatheredBytes = 0;
  #sentBytes = 0;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Adds to what is gathered. Resolves at once, or when the client has taken enough of what was sent. */
  async add(piece: string | Buffer): Promise<void> {
    this.#pieces.push(piece);
    this.#gatheredBytes += piece.length;
    if (this.#gatheredBytes >= flushBytes) await this.flush();
  }

  /** @throws {Fault} `gone` when the stream has ended. */
  async flush(): Promise<void> {
    if (this.#pieces.length === 0) return;
    const bytes = Buffer.concat(
      this.#pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)),
    );
    this.#pieces = [];
    this.#gatheredBytes = 0;
    if (this.#stream.destroyed || this.#stream.writableEnded)
      throw new Fault('gone', 'the session has ended');
    this.#sentBytes += bytes.length;
    if (!this.#stream.write(bytes)) await this.#drained();
  }

  async #drained(): Promise<void> {
    const stream = this.#stream;
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        stream.off('drain', settle);
        stream.off('close', settle);
        if (stream.destroyed) reject(new Fault('gone', 'the session has ended'));
        else resolve();
      };
      stream.on('drain', settle);
      stream.on('close', settle);
      if (stream.destroyed) settle();
    });
  }
}
