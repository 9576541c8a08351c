/**
 * The client's end: bytes in, replies out, TLS in between. Replies to pipelined
 * commands leave together; what a client has not read yet is bounded; and the
 * last reply is still read by a client that keeps sending.
 */
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { tlsFactsOf } from '../session/new-session.ts';
import type { TlsFacts } from '../session/session.ts';

/** Replies a client may leave unread before its next command waits. */
const unreadBytesMax = 64 * 1024;
/** Pipelined replies are gathered up to this. */
const gatherBytesMax = 16 * 1024;
/** How long a client that was told goodbye may go on sending before the connection is cut. */
const lingerMs = 2000;

export interface TlsContexts {
  /** @param serverName  As the client sent it, unchecked. */
  contextFor(serverName?: string): SecureContext;
}

export interface ClientSocketEvents {
  data(bytes: Buffer): void;
  /** Replies have been read: commands may go on. */
  roomy(): void;
  /** Nothing comes any more; called once. */
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
   * TLS from the next byte on. Whatever was read or waits in a buffer is forgotten first: it came in plain
   * text and may be anybody's (CVE-2011-0411).
   *
   * @throws {Error} of the handshake; the connection is closed then.
   */
  async startTls(contexts: TlsContexts): Promise<TlsFacts> {
    const plain = this.#socket;
    this.pause();
    this.flush();
    if (plain.writableLength > 0) await new Promise<void>((done) => plain.once('drain', done));
    if (plain.destroyed) throw new Error('closed before the handshake');
    plain.removeAllListeners('data');
    plain.removeAllListeners('drain');
    plain.removeAllListeners('end');
    plain.removeAllListeners('close');
    while (plain.read() !== null);
    const secure = new TLSSocket(plain, {
      isServer: true,
      secureContext: contexts.contextFor(),
      SNICallback: (name, done) => {
        try {
          done(null, contexts.contextFor(name));
        } catch (error) {
          done(error as Error);
        }
      },
      // a client that asks for anything but SMTP by ALPN is at the wrong door (ALPACA)
      ALPNProtocols: ['smtp'],
    });
    this.#socket = secure;
    await new Promise<void>((done, failed) => {
      secure.once('secure', done);
      secure.once('error', failed);
      secure.once('close', () => failed(new Error('closed in the handshake')));
      plain.once('close', () => failed(new Error('closed in the handshake')));
      secure.once('_tlsError', failed);
    });
    secure.removeAllListeners('close');
    this.#listen(secure);
    if (secure.destroyed) throw new Error('closed in the handshake');
    return tlsFactsOf(secure);
  }

  #listen(socket: Socket): void {
    socket.on('error', (error) => this.#close(error.message));
    socket.on('end', () => this.#close('client closed'));
    socket.on('close', () => this.#close('closed'));
    socket.on('drain', () => this.#events.roomy());
    socket.on('data', (bytes: Buffer) => {
      this.bytesIn += bytes.length;
      if (!this.#ended) this.#events.data(bytes);
    });
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
