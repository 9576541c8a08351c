/**
 * The client's end: bytes in, replies out, TLS in between. Replies to pipelined
 * commands leave together; what a client has not read yet is bounded; and the
 * last reply is still read by a client that keeps sending.
 */
import type { Socket } from 'node:net';
import { Fault } from '../../base/fault.ts';
import type { TlsContexts } from '../net/tls-contexts.ts';
import { tlsFactsOf } from '../session/new-session.ts';
import type { TlsFacts } from '../session/session.ts';

/** Replies a client may leave unread before its next command waits. */
const unreadBytesMax = 64 * 1024;
/** Pipelined replies are gathered up to this. */
const gatherBytesMax = 16 * 1024;
/** How long a client that was told goodbye may go on sending before the connection is cut. */
const lingerMs = 2000;

export interface ClientSocketEvents {
  data(bytes: Buffer): void;
  /** Replies have been read: commands may go on. */
  roomy(): void;
  /** The client sends no more, but may still read (RFC 9293 3.6). */
  halfClosed(): void;
  /** Nothing comes or goes any more; called once. */
  closed(reason: string): void;
}

export class ClientSocket {
  bytesIn = 0;
  bytesOut = 0;
  #socket: Socket;
  readonly #events: ClientSocketEvents;
  #gathered = '';
  #reading = false;
  #ended = false;
  #closed = false;
  #linger: NodeJS.Timeout | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: each event has its own argument
  readonly #heard: readonly (readonly [event: string, heard: (...args: any[]) => void])[] = [
    ['error', (error: Error) => this.#close(error.message)],
    ['end', () => (this.#ended ? this.#close('client closed') : this.#events.halfClosed())],
    ['close', () => this.#close('closed')],
    ['drain', () => this.#events.roomy()],
    [
      'data',
      (bytes: Buffer) => {
        this.bytesIn += bytes.length;
        if (!this.#ended) this.#events.data(bytes);
      },
    ],
  ];

  constructor(socket: Socket, events: ClientSocketEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.setNoDelay(true);
    this.#listen(socket);
  }

  /** True while the client leaves too many replies unread. */
  get crowded(): boolean {
    return this.#socket.writableLength > unreadBytesMax;
  }

  /** The TLS socket once there is TLS. */
  get socket(): Socket {
    return this.#socket;
  }

  get reading(): boolean {
    return this.#reading;
  }

  get closed(): boolean {
    return this.#closed;
  }

  read(): void {
    if (this.#reading || this.#closed) return;
    this.#reading = true;
    this.#socket.resume();
  }

  pause(): void {
    if (!this.#reading) return;
    this.#reading = false;
    this.#socket.pause();
  }

  /** Keeps a reply until `flush`, or until enough has gathered. */
  write(text: string): void {
    this.#gathered += text;
    if (this.#gathered.length > gatherBytesMax) this.flush();
  }

  flush(): void {
    if (this.#gathered === '' || this.#ended || this.#closed) return;
    const text = this.#gathered;
    this.#gathered = '';
    this.bytesOut += text.length;
    this.#socket.write(text, 'latin1');
  }

  /** After the last reply: a FIN, then what still comes is thrown away, so that no RST overtakes the reply. */
  end(): void {
    if (this.#ended || this.#closed) return;
    this.flush();
    this.#ended = true;
    const socket = this.#socket;
    socket.end();
    this.#reading = true;
    socket.resume();
    this.#linger = setTimeout(() => socket.destroy(), lingerMs).unref();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * TLS from the next byte on.
   *
   * @param afterCommand  STARTTLS: whatever was read or waits in a buffer is forgotten first, because it came in
   *   plain text and may be anybody's (CVE-2011-0411). Else the buffer begins with the client's handshake.
   * @throws {Fault} of the handshake; the connection is closed then.
   */
  async startTls(contexts: Pick<TlsContexts, 'startTls'>, afterCommand: boolean): Promise<TlsFacts> {
    const plain = this.#socket;
    this.pause();
    this.flush();
    if (plain.writableLength > 0) await new Promise<void>((done) => plain.once('drain', done));
    // only our own: the listener counts connections by this socket's close
    for (const [event, heard] of this.#heard) plain.off(event, heard);
    while (afterCommand && plain.read() !== null);
    // a client that closes in mid-handshake has no half left to read with
    plain.allowHalfOpen = false;
    // a client that asks for anything but SMTP by ALPN is at the wrong door (ALPACA)
    const secure = await contexts.startTls(plain, ['smtp']);
    this.#socket = secure;
    this.#listen(secure);
    // its `end` and `close` may have been emitted before anybody listened
    if (secure.destroyed || secure.readableEnded) throw new Fault('gone', 'closed after the TLS handshake');
    return tlsFactsOf(secure);
  }

  #listen(socket: Socket): void {
    for (const [event, heard] of this.#heard) socket.on(event, heard);
    socket.pause();
  }

  #close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#linger);
    if (!this.#ended) this.#socket.destroy();
    else this.#socket.destroySoon();
    this.#events.closed(reason);
  }
}
