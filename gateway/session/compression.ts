/**
 * DEFLATE between a client and the gateway (RFC 4978), for sessions that have
 * asked for it: stands between the socket and the splice, which sees the same
 * bytes as without. What a session's owner knows of it is one bit.
 */
import type { Socket } from 'node:net';
import zlib from 'node:zlib';

/** The client as a splice writes to it: the socket itself, or what compresses for it. */
export interface ClientSide {
  /** false: write on when the client has read. */
  write(chunk: Buffer): boolean;
  pause(): unknown;
  resume(): unknown;
  end(): unknown;
}

export interface CompressionListener {
  /** The client's bytes, as it meant them. */
  fromClient(bytes: Buffer): void;
  /** The client has read: write on. */
  clientDrained(): void;
  /** The client closed its side. */
  clientEnded(): void;
  /** What it sends is no DEFLATE, or a bomb. */
  notCompressed(reason: 'compression-broken' | 'compression-bomb'): void;
}

/** Sessions of the process whose compressors may have much memory; those after them compress less well. */
const richMax = 500;
/** zlib(3): (4 << windowBits) + (512 << memLevel) bytes: 96 KiB and 3 KiB. Inflating takes 40 KiB more, Node's buffers 8. */
const rich = { windowBits: 13, memLevel: 7, chunkSize: 16 * 1024 };
const lean = { windowBits: 9, memLevel: 1, chunkSize: 4 * 1024 };
let richCount = 0;

/**
 * What compressed bytes may become (CASES 29): DEFLATE reaches 1,000 to 1, and mail that is worth sending does not for
 * megabytes on end.
 */
const freeBytes = 16 * 1024 * 1024;
const ratioMax = 100;

export class Compression implements ClientSide {
  readonly #client: Socket;
  readonly #listener: CompressionListener;
  readonly #deflate: zlib.DeflateRaw;
  readonly #inflate: zlib.InflateRaw;
  readonly #isRich: boolean;
  #compressedBytes = 0;
  #plainBytes = 0;
  #over = false;

  /** @param client  What was written to it before goes out as it was. */
  constructor(client: Socket, listener: CompressionListener) {
    this.#client = client;
    this.#listener = listener;
    this.#isRich = richCount < richMax;
    if (this.#isRich) richCount++;
    // Each write ends where a client can read all of it: answers come whole, and may not wait for more.
    this.#deflate = zlib.createDeflateRaw({
      ...(this.#isRich ? rich : lean),
      flush: zlib.constants.Z_SYNC_FLUSH,
    });
    // A client that goes away ends its stream nowhere in particular.
    this.#inflate = zlib.createInflateRaw({ chunkSize: 4096, finishFlush: zlib.constants.Z_SYNC_FLUSH });
    this.#deflate.on('drain', () => listener.clientDrained());
    this.#deflate.on('error', () => this.#fail('compression-broken'));
    this.#deflate.pipe(client);
    this.#inflate.on('data', (bytes: Buffer) => this.#inflated(bytes));
    this.#inflate.on('drain', () => client.resume());
    this.#inflate.on('error', () => this.#fail('compression-broken'));
    this.#inflate.on('end', () => listener.clientEnded());
  }

  /** For figures and tests. */
  static get richCount(): number {
    return richCount;
  }

  write(chunk: Buffer): boolean {
    return this.#deflate.write(chunk);
  }

  /** The client's bytes, as they came. */
  push(chunk: Buffer): void {
    this.#compressedBytes += chunk.length;
    if (!this.#inflate.write(chunk)) this.#client.pause();
  }

  /** The client sends no more; what it sent is still inflated. */
  finish(): void {
    this.#inflate.end();
  }

  pause(): void {
    this.#inflate.pause();
  }

  resume(): void {
    if (!this.#over) this.#inflate.resume();
  }

  /** Everything written goes out, and the word; then the client's connection is ended. */
  end(word = ''): void {
    if (word === '') this.#deflate.end();
    else this.#deflate.end(word, 'latin1');
  }

  /** Gives its memory back. Call when the client is gone. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#isRich) richCount--;
    this.#deflate.destroy();
    this.#inflate.destroy();
  }

  #inflated(bytes: Buffer): void {
    if (this.#over) return;
    this.#plainBytes += bytes.length;
    if (this.#plainBytes > freeBytes + ratioMax * this.#compressedBytes) this.#fail('compression-bomb');
    else this.#listener.fromClient(bytes);
  }

  #fail(reason: 'compression-broken' | 'compression-bomb'): void {
    if (this.#over) return;
    this.close();
    this.#listener.notCompressed(reason);
  }
}
