/**
 * The session's talk with its Haraka connection: one command in, one reply out,
 * and ready again only when Haraka is. Replies can be put in our words; what a
 * Haraka plugin refuses stands as it said it, unless the session has decided.
 */
import type { TlsFacts } from '../../session/session.ts';
import { type Reply, renderReply } from '../reply.ts';
import type { Haraka } from './haraka.ts';
import { HarakaSocket } from './socket.ts';
import { type HarakaConnection, type HarakaTransaction, harakaState } from './types.ts';

export interface HarakaEvents {
  /** A whole reply for the client. `close`: the connection ends with it. */
  say(text: string, close: boolean): void;
  /** Haraka is ready for what comes next. */
  answered(code: number): void;
  ended(): void;
}

/** What the bridge's hooks ask the session. */
export interface HarakaQuestions {
  /** What EHLO announces, the greeting name first. */
  capabilities(): readonly string[];
  /** Asks the chain and the owners; the reply is the session's own. */
  deliver(): Promise<Reply>;
}

export class HarakaDialog {
  readonly #haraka: Haraka;
  readonly #events: HarakaEvents;
  readonly #questions: HarakaQuestions;
  #socket: HarakaSocket | undefined;
  #connection: HarakaConnection | undefined;
  #okReply: Reply | undefined;
  #answer: Reply | undefined;
  #code = 0;
  #unready = false;
  #closed = false;

  constructor(haraka: Haraka, questions: HarakaQuestions, events: HarakaEvents) {
    this.#haraka = haraka;
    this.#questions = questions;
    this.#events = events;
  }

  /** Haraka greets; `answered` follows. */
  open(address: string, port: number, greeting: Reply): void {
    this.#okReply = greeting;
    this.#socket = new HarakaSocket(this, address, port);
    this.#connection = this.#haraka.connect(this.#socket);
  }

  /** @param okReply  What the client reads when Haraka accepts; without it Haraka's own words. */
  command(line: string, okReply: Reply | undefined): void {
    this.#okReply = okReply;
    this.#socket?.feed(Buffer.from(`${line}\r\n`, 'latin1'));
  }

  /** A whole message as it came over the wire, without its final dot, and then that. */
  async message(pieces: AsyncIterable<Buffer>): Promise<void> {
    for await (const piece of pieces) {
      // Haraka may have refused it half way
      if (this.#closed || !this.inData) return;
      this.#socket?.feed(piece);
    }
    if (!this.#closed) this.dot();
  }

  /** The final dot. */
  dot(): void {
    this.#socket?.feed(finalDot);
  }

  /** The message is refused before Haraka has seen it, and no plugin is asked what it thinks of that. */
  refuseData(done: () => void): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    connection.state = harakaState.cmd;
    connection.reset_transaction(done);
  }

  get inData(): boolean {
    return this.#connection?.state === harakaState.data;
  }

  get transaction(): HarakaTransaction | undefined {
    return this.#connection?.transaction ?? undefined;
  }

  /** No Haraka plugin will read this message, so Haraka keeps nothing of it. */
  skipMessage(): void {
    const { transaction } = this;
    if (transaction === undefined) return;
    transaction.discard_data = true;
    // it would remove a spool file, which is not there, after every message
    transaction.message_stream.destroy = () => {};
  }

  /** Haraka forgets what it learned before TLS (RFC 3207 4.2). */
  startedTls(tls: TlsFacts, done: () => void): void {
    const connection = this.#connection;
    connection?.reset_transaction(() => {
      connection.esmtp = false;
      connection.encoding = 'utf8';
      connection.set('hello.verb', null);
      connection.setTLS({ cipher: { name: tls.cipher, version: tls.version }, verified: false });
      done();
    });
  }

  /** The client is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket?.emit('close');
  }

  // ---- from Haraka's socket and hooks

  get capabilities(): readonly string[] {
    return this.#questions.capabilities();
  }

  async deliver(): Promise<'accepted' | 'deferred' | 'refused'> {
    const reply = await this.#questions.deliver();
    this.#answer = reply;
    if (reply.code < 400) return 'accepted';
    return reply.code < 500 ? 'deferred' : 'refused';
  }

  said(text: string): void {
    if (this.#closed) return;
    const accepted = text.startsWith('2') || text.startsWith('3');
    const own = this.#answer ?? (accepted ? this.#okReply : undefined);
    this.#answer = undefined;
    this.#okReply = undefined;
    this.#code = own?.code ?? Number(text.slice(0, 3));
    this.#events.say(own === undefined ? text : renderReply(own), own?.close === true);
    // Haraka changes its state right after it has written
    queueMicrotask(() => this.#checkReady());
  }

  resumed(): void {
    if (this.#unready) queueMicrotask(() => this.#checkReady());
  }

  ended(): void {
    if (!this.#closed) this.#events.ended();
  }

  #checkReady(): void {
    if (this.#closed || this.#connection === undefined) return;
    const { state } = this.#connection;
    const waits = state === harakaState.cmd || state === harakaState.loop || state === harakaState.data;
    this.#unready = this.#socket?.paused === true || !waits;
    if (!this.#unready) this.#events.answered(this.#code);
  }
}

const finalDot = Buffer.from('.\r\n');
