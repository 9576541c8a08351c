/** An IMAP client that sends one NOOP after another and keeps what it saw: the longest pause, refusals, lost connections. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Fault } from '../base/fault.ts';

export interface Seen {
  /** Longest time from a command to its answer, in milliseconds. */
  readonly pauseMsMax: number;
  readonly commands: number;
  /** Answers other than OK. */
  readonly refused: number;
  /** Connections that ended; each is opened anew. */
  readonly lost: number;
}

export interface ProberOptions {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Rests in IDLE in place of sending commands: only a lost connection counts. */
  readonly idle: boolean;
}

const restMs = 2;

export class Prober {
  readonly #options: ProberOptions;
  #socket: Socket | undefined;
  #text = '';
  #wake: (() => void) | undefined;
  #stopped = false;
  #running: Promise<void> | undefined;
  #pauseMsMax = 0;
  #commands = 0;
  #refused = 0;
  #lost = 0;

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  /** Logs in and begins. @throws {Fault} `unavailable` */
  async start(): Promise<void> {
    await this.#open();
    this.#running = this.#run();
  }

  /** What was seen since the last call. */
  take(): Seen {
    const seen = {
      pauseMsMax: this.#pauseMsMax,
      commands: this.#commands,
      refused: this.#refused,
      lost: this.#lost,
    };
    this.#pauseMsMax = this.#commands = this.#refused = this.#lost = 0;
    return seen;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#socket?.destroy();
    this.#wake?.();
    await this.#running;
  }

  async #open(): Promise<void> {
    const { port, user, password, idle } = this.#options;
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    this.#socket = socket;
    this.#text = '';
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
      this.#wake?.();
    });
    socket.on('close', () => this.#wake?.());
    await once(socket, 'connect');
    socket.write(`a LOGIN ${user} "${password}"\r\nb SELECT INBOX\r\n`);
    if (!(await this.#until(/^b OK.*\r\n/m)))
      throw new Fault('unavailable', `${user} cannot log in: ${this.#text.slice(-200)}`);
    if (!idle) return;
    socket.write('c IDLE\r\n');
    await this.#until(/^\+ .*\r\n/m);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      if (this.#socket!.destroyed) {
        this.#lost++;
        await this.#open().catch(() => this.#socket?.destroy());
        continue;
      }
      if (this.#options.idle) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#text = '';
      const sentAtMs = performance.now();
      this.#socket!.write('n NOOP\r\n');
      const answered = await this.#until(/^n (?:OK|NO|BAD).*\r\n/m);
      if (!answered) continue;
      this.#pauseMsMax = Math.max(this.#pauseMsMax, performance.now() - sentAtMs);
      this.#commands++;
      if (!/^n OK/m.test(this.#text)) this.#refused++;
      await new Promise((resolve) => setTimeout(resolve, restMs));
    }
  }

  /** false: the connection has ended before. */
  async #until(wanted: RegExp): Promise<boolean> {
    while (!wanted.test(this.#text)) {
      if (this.#socket!.destroyed) return false;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return true;
  }
}
