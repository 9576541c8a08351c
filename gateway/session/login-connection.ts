/**
 * One client connection from its first byte to its login: asks the chain,
 * starts TLS, runs the dialog, asks the owner, and then steps out of the way:
 * what stays is a `Splice`.
 */
import type { Socket } from 'node:net';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Metrics } from '../health/metrics.ts';
import type { Deadline, Deadlines } from '../net/deadline.ts';
import type { TlsContexts } from '../net/tls-contexts.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { Router } from '../routing/router.ts';
import { channelOf } from './channel-binding.ts';
import type { DialogStep, DialogWords, LoginDialog, LoginStep } from './login-dialog.ts';
import { LoginWork } from './login-work.ts';
import { tlsFactsOf } from './new-session.ts';
import type { SaslChannel } from './sasl-exchange.ts';
import type { MutableSession } from './session.ts';
import type { Splice } from './splice.ts';
import { wireOf } from './wire.ts';
import { isRefusal } from './wording.ts';

/** Answers to pipelined commands leave together, up to about this much. */
const gatherCharsMax = 16 * 1024;
/** How long a client that was told goodbye may take to close. */
const lingerMs = 2000;

export interface LoginDoorParts {
  readonly service: 'imap' | 'pop3';
  readonly alpn: readonly string[];
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly deadlines: Deadlines;
  readonly tls: TlsContexts;
  /** From connection to the end of TLS and the first command; from connection to login. */
  readonly greetingMs: number;
  readonly loginMs: number;
  readonly words: DialogWords;
  newDialog(tls: boolean, channel: SaslChannel): LoginDialog;
}

export class LoginConnection {
  readonly session: MutableSession;
  readonly #parts: LoginDoorParts;
  readonly #owner: LoginConnectionOwner;
  readonly #work: LoginWork;
  #socket: Socket;
  #dialog: LoginDialog | undefined;
  #greetingDeadline: Deadline | undefined;
  readonly #loginDeadline: Deadline;
  /** A login or a handshake is under way: bytes wait. */
  #busy = false;
  #over = false;
  #clientEnded = false;

  constructor(socket: Socket, session: MutableSession, parts: LoginDoorParts, owner: LoginConnectionOwner) {
    this.#socket = socket;
    this.session = session;
    this.#parts = parts;
    this.#owner = owner;
    this.#work = new LoginWork(parts, session);
    const slow = (): void => this.#end(this.#dialog === undefined ? '' : parts.words.tooSlow, 'too-slow');
    this.#greetingDeadline = parts.deadlines.start(parts.greetingMs, slow);
    this.#loginDeadline = parts.deadlines.start(parts.loginMs, slow);
    socket.on('close', this.#closed);
  }

  /** @param implicitTls  TLS from the first byte. Never rejects. */
  async start(implicitTls: boolean): Promise<void> {
    const { chain, words } = this.#parts;
    try {
      chain.tell('connected', this.session);
      const verdict = await chain.ask('connect', this.session, wireOf(this.#socket, implicitTls));
      if (this.#over) return;
      if (isRefusal(verdict)) {
        this.#parts.metrics.turnedAway.inc({ protocol: this.session.protocol, reason: 'plugin' });
        return this.#end(implicitTls ? '' : words.connectionJudged(verdict), 'refused');
      }
      if (implicitTls) await this.#handshake();
      if (this.#over) return;
      const channel = channelOf(() => this.#socket);
      this.#dialog = this.#parts.newDialog(implicitTls, channel);
      this.#say(this.#dialog.greeting());
      this.#listen();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The gateway stops. */
  stop(): void {
    this.#end(this.#dialog === undefined ? '' : this.#parts.words.stopping, 'stopping');
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on('data', this.#data);
    socket.on('drain', this.#drain);
    socket.on('end', this.#ended);
    if (socket.readableEnded) this.#ended();
    else socket.resume();
  }

  readonly #data = (chunk: Buffer): void => {
    this.#dialog?.push(chunk);
    this.#pump();
  };

  readonly #drain = (): void => this.#pump();

  readonly #ended = (): void => {
    this.#clientEnded = true;
    if (!this.#busy) this.#end('', 'client');
  };

  readonly #closed = (): void => this.#finish('client');

  /** Takes steps until the dialog wants more bytes, waits for an outcome, or the client does not read. */
  #pump(): void {
    const dialog = this.#dialog;
    if (dialog === undefined || this.#busy || this.#over) return;
    let text = '';
    try {
      for (;;) {
        if (text.length > gatherCharsMax) {
          this.#say(text);
          text = '';
        }
        if (this.#socket.writableNeedDrain) {
          // The client does not read its answers: its next command waits for that.
          this.#say(text);
          this.#socket.pause();
          return;
        }
        const step = dialog.next();
        if (step.do !== 'wait') {
          this.#greetingDeadline?.cancel();
          this.#greetingDeadline = undefined;
        }
        switch (step.do) {
          case 'wait':
            this.#say(text);
            if (this.#clientEnded) this.#end('', 'client');
            else this.#socket.resume();
            return;
          case 'say':
            text += step.text;
            continue;
          case 'close':
            this.#end(text + step.text, step.reason);
            return;
          case 'start-tls':
            void this.#startTls(text + step.text);
            return;
          default:
            this.#say(text);
            void this.#perform(step);
            return;
        }
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  async #startTls(text: string): Promise<void> {
    const socket = this.#socket;
    this.#busy = true;
    socket.pause();
    socket.off('data', this.#data);
    socket.off('drain', this.#drain);
    socket.off('end', this.#ended);
    try {
      await new Promise<void>((resolve) => socket.write(text, 'latin1', () => resolve()));
      // RFC 9051 6.2.1, RFC 2595 4: what came before the handshake is anybody's (CVE-2011-0411).
      this.#dialog?.takeRest();
      while (socket.read() !== null);
      await this.#handshake();
      if (this.#over) return;
      this.#dialog?.tlsStarted();
      this.#busy = false;
      this.#listen();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #handshake(): Promise<void> {
    const plain = this.#socket;
    try {
      const secure = await this.#parts.tls.startTls(plain, this.#parts.alpn);
      plain.off('close', this.#closed);
      secure.on('error', ignore);
      secure.on('close', this.#closed);
      this.#socket = secure;
      this.session.tls = tlsFactsOf(secure);
      if (secure.destroyed) this.#finish('client');
    } catch (error) {
      this.#parts.metrics.turnedAway.inc({ protocol: this.session.protocol, reason: 'tls' });
      throw error;
    }
  }

  async #perform(step: LoginStep): Promise<void> {
    const dialog = this.#dialog!;
    this.#busy = true;
    this.#socket.pause();
    try {
      const next = await this.#work.perform(step, dialog);
      if (next.do !== 'hand-over') return this.#goOn(next);
      const { account, stream, capability } = next;
      if (this.#over) {
        stream.on('error', ignore);
        stream.destroy();
        return;
      }
      this.#work.accepted(account);
      this.#handOver(dialog.loggedIn(capability), stream, dialog.takeRest());
    } catch (error) {
      this.#failed(error);
    }
  }

  #goOn(step: DialogStep): void {
    if (this.#over) return;
    this.#busy = false;
    if (step.do === 'close') {
      this.#end(step.text, step.reason);
      return;
    }
    if (step.do === 'say') this.#say(step.text);
    this.#pump();
  }

  #handOver(text: string, stream: Splice['stream'], rest: Buffer): void {
    this.#over = true;
    this.#letGo();
    const socket = this.#socket;
    socket.write(text, 'latin1');
    this.#owner.loggedIn(this, socket, stream, rest);
    this.#dialog = undefined;
  }

  #say(text: string): void {
    if (text !== '' && !this.#socket.destroyed) this.#socket.write(text, 'latin1');
  }

  #failed(error: unknown): void {
    const fault = Fault.from(error);
    if (fault.whose === 'bug')
      this.#parts.log.error(
        { trace: this.session.id, error: fault.stack ?? fault.message },
        'connection failed',
      );
    this.#finish(isFault(error) ? fault.code : 'failed');
    this.#socket.destroy();
  }

  /** Says goodbye and closes, soon. */
  #end(text: string, reason: string): void {
    if (this.#over) return;
    const socket = this.#socket;
    this.#finish(reason);
    if (socket.destroyed) return;
    // Without a word or before the handshake there is nothing a client could read.
    if (this.#dialog === undefined && text === '') {
      socket.destroy();
      return;
    }
    socket.end(text, 'latin1');
    // An unread byte would turn our FIN into an RST that overtakes the words.
    socket.resume();
    socket.once('end', () => socket.destroySoon());
    const lingering = this.#parts.deadlines.start(lingerMs, () => socket.destroy());
    socket.once('close', () => lingering.cancel());
  }

  /** Once: the connection is no longer ours to talk to. */
  #finish(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#letGo();
    this.#owner.ended(this, reason);
  }

  #letGo(): void {
    this.#greetingDeadline?.cancel();
    this.#loginDeadline.cancel();
    const socket = this.#socket;
    socket.off('data', this.#data);
    socket.off('drain', this.#drain);
    socket.off('end', this.#ended);
    socket.off('close', this.#closed);
  }
}

export interface LoginConnectionOwner {
  loggedIn(connection: LoginConnection, socket: Socket, stream: Splice['stream'], rest: Buffer): void;
  ended(connection: LoginConnection, reason: string): void;
}

/** Shared: 'close' follows every error and is what counts. */
function ignore(): void {}
