/** One of thousands of clients of a load: it idles, or sends a command now and then; and notes what it met with. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { RandomSource } from '../support/random.ts';

/** What the sessions of a load have seen since the last look. */
export interface Sights {
  commands: number;
  /** Answers other than OK, as they came. */
  refused: string[];
  /** Connections that closed, and what had come last. */
  dropped: string[];
  longestMs: number;
  /** From commands to their answers, ms, where that took long enough to be told apart. */
  slow: { readonly sentMs: number; readonly answeredMs: number; readonly account: string }[];
}

export function noSights(): Sights {
  return { commands: 0, refused: [], dropped: [], longestMs: 0, slow: [] };
}

const slowMs = 50;
const message = `Subject: kept by a client\r\n\r\n${'A line of a message.\r\n'.repeat(20)}`;

export interface LoadOptions {
  readonly account: string;
  readonly idles: boolean;
  /** Between two commands, about. */
  readonly restMs: number;
  readonly random: RandomSource;
  sights(): Sights;
}

export class LoadSession {
  readonly account: string;
  readonly idles: boolean;
  readonly #socket: Socket;
  readonly #sights: () => Sights;
  readonly #random: RandomSource;
  readonly #restMs: number;
  #text = '';
  #tag = 0;
  #sentMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  #ready: (() => void) | undefined;

  private constructor(socket: Socket, options: LoadOptions) {
    this.#socket = socket;
    this.account = options.account;
    this.idles = options.idles;
    this.#sights = options.sights;
    this.#random = options.random;
    this.#restMs = options.restMs;
  }

  /** Connects, logs in and selects the INBOX. */
  static async open(port: number, password: string, options: LoadOptions): Promise<LoadSession> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    await once(socket, 'connect');
    const session = new LoadSession(socket, options);
    const ready = new Promise<void>((resolve) => {
      session.#ready = resolve;
    });
    socket.on('data', (chunk: Buffer) => session.#data(chunk));
    socket.on('error', () => {});
    socket.on('close', () => session.#closed());
    const idle = options.idles ? 'i IDLE\r\n' : '';
    socket.write(`l LOGIN ${options.account} "${password}"\r\ns SELECT INBOX\r\n${idle}`);
    await ready;
    return session;
  }

  /** Begins to send commands. */
  begin(): void {
    if (!this.idles) this.#later();
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket.destroy();
  }

  #data(chunk: Buffer): void {
    this.#text += chunk.toString('latin1');
    const last = this.#text.lastIndexOf('\n');
    if (this.#ready !== undefined) {
      if (!(this.idles ? /^\+ /m : /^s OK/m).test(this.#text)) return;
      this.#ready();
      this.#ready = undefined;
    } else if (this.#sentMs > 0) {
      const answer = new RegExp(`^t${this.#tag} (.*)\\r$`, 'm').exec(this.#text)?.[1];
      if (answer === undefined) return;
      this.#answered(answer);
    }
    this.#text = this.#text.slice(last + 1);
  }

  #answered(answer: string): void {
    const sights = this.#sights();
    const nowMs = performance.now();
    const ms = nowMs - this.#sentMs;
    sights.commands++;
    sights.longestMs = Math.max(sights.longestMs, ms);
    if (ms > slowMs) sights.slow.push({ sentMs: this.#sentMs, answeredMs: nowMs, account: this.account });
    if (!answer.startsWith('OK')) sights.refused.push(answer);
    this.#sentMs = 0;
    this.#later();
  }

  #closed(): void {
    clearTimeout(this.#timer);
    if (this.#ended) return;
    this.#ended = true;
    this.#sights().dropped.push(
      this.idles ? 'in IDLE' : this.#sentMs > 0 ? 'in a command' : 'between commands',
    );
  }

  #later(): void {
    if (this.#ended) return;
    this.#timer = setTimeout(() => this.#send(), this.#restMs * (0.5 + this.#random.next()));
  }

  #send(): void {
    this.#sentMs = performance.now();
    const tag = `t${++this.#tag}`;
    const one = this.#random.between(1, 20);
    if (one === 1) this.#socket.write(`${tag} APPEND INBOX {${message.length}+}\r\n${message}\r\n`);
    else if (one <= 4) this.#socket.write(`${tag} STORE 1 +FLAGS (\\Flagged)\r\n`);
    else if (one <= 8) this.#socket.write(`${tag} FETCH 1 (FLAGS BODY.PEEK[])\r\n`);
    else if (one <= 10) this.#socket.write(`${tag} UID SEARCH UNSEEN\r\n`);
    else this.#socket.write(`${tag} NOOP\r\n`);
  }
}
