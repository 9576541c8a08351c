/**
 * One SMTP connection from the first byte to the last. The session reads and
 * judges every command and message itself, asks the chain and the owners, and
 * lets Haraka run its state machine and plugins on what is left.
 */
import type { Socket } from 'node:net';
import { channelOf } from '../session/channel-binding.ts';
import type { MutableSession } from '../session/session.ts';
import { ClientSocket } from './client-socket.ts';
import { CommandReader } from './command-reader.ts';
import { connectionRecord } from './connection-record.ts';
import type { DoorShared, SmtpRole } from './door-shared.ts';
import { HarakaDialog } from './haraka/dialog.ts';
import { MessageIntake } from './message-intake.ts';
import { busyMsMax, commandWaitMs, PhaseDeadline } from './phase-deadline.ts';
import { type Reply, renderReply, replies, replyFor } from './reply.ts';
import { Settlement } from './settlement.ts';
import { type Challenge, type CommandControl, SmtpCommands } from './smtp-commands.ts';

/** What a client may send while it has to wait. */
const pendingBytesMax = 64 * 1024;

/** `login`: the next line belongs to an AUTH exchange. `busy`: an answer is on its way. */
type Phase = 'greeting' | 'command' | 'login' | 'busy' | 'data' | 'ended';

export class SmtpSession implements CommandControl {
  readonly channel = channelOf(() => this.#client.socket);
  readonly facts: MutableSession;
  readonly #role: SmtpRole;
  readonly #door: DoorShared;
  readonly #ended: (session: SmtpSession) => void;
  readonly #client: ClientSocket;
  readonly #haraka: HarakaDialog;
  readonly #commands: SmtpCommands;
  readonly #deadline: PhaseDeadline;
  readonly #settlement: Settlement;
  readonly #pending = new CommandReader();
  #phase: Phase = 'greeting';
  #stopping = false;
  #handshaking = false;
  #clientEnded = false;
  #whenAnswered: ((accepted: boolean) => void) | undefined;
  #intake: MessageIntake | undefined;
  #reply = '';
  #endReason = '';
  readonly #counts = { commands: 0, errors: 0, messages: 0, accepted: 0 };

  constructor(
    door: DoorShared,
    socket: Socket,
    facts: MutableSession,
    role: SmtpRole,
    ended: (session: SmtpSession) => void,
  ) {
    this.#door = door;
    this.facts = facts;
    this.#role = role;
    this.#ended = ended;
    this.#commands = new SmtpCommands(door, facts, role, this);
    this.#deadline = new PhaseDeadline(door.deadlines, () => this.#tooSlow());
    this.#settlement = new Settlement((key, recipients) => door.router.settle(key, recipients));
    this.#client = new ClientSocket(socket, {
      data: (bytes) => this.#onData(bytes),
      roomy: () => this.#pump(),
      halfClosed: () => this.#halfClosed(),
      closed: (reason) => this.#finish(reason),
    });
    const questions = {
      capabilities: () => this.#commands.capabilities(),
      deliver: async () => (await this.#intake?.delivery.deliver()) ?? replies.unavailable,
    };
    this.#haraka = new HarakaDialog(door.haraka, questions, {
      say: (text, close) => this.#sayText(text, close),
      answered: (code) => this.#harakaAnswered(code),
      ended: () => this.#sayAndEnd(undefined, 'quit'),
    });
  }

  // ---- start and end

  /** Asks the chain, does implicit TLS, greets. */
  async start(): Promise<void> {
    const { settings, chain, hostname } = this.#door;
    this.#deadline.set(settings['net.greeting_timeout']);
    chain.tell('connected', this.facts);
    const implicitTls = this.#role === 'submissions';
    if (!implicitTls) this.#client.read();
    const verdict = await chain.ask('connect', this.facts, {
      spokeFirst: (waitMs) => (implicitTls ? Promise.resolve(false) : this.#pending.arrived(waitMs)),
    });
    if (this.#isIn('ended')) return;
    const refusal = replyFor('connect', verdict);
    if (refusal) {
      // before TLS there is nothing a TLS client could read
      if (implicitTls) this.destroy('refused');
      else this.#sayAndEnd(refusal, 'refused');
      return;
    }
    if (implicitTls && !(await this.#startTls(false))) return;
    this.#phase = 'busy'; // a door that is closing says so in place of taking the first command
    const { address, port } = this.facts.client;
    this.#haraka.open(address, port, { code: 220, text: `${hostname} ESMTP` });
  }

  /** No new command from now on; what is being received or delivered is finished. */
  stop(): void {
    this.#stopping = true;
    if (this.#phase === 'command' || this.#phase === 'login') this.#sayAndEnd(replies.stopping, 'stopping');
  }

  destroy(reason = 'destroyed'): void {
    this.#client.destroy();
    this.#finish(reason);
  }

  #isIn(phase: Phase): boolean {
    return this.#phase === phase;
  }

  async #startTls(afterCommand: boolean): Promise<boolean> {
    this.#handshaking = true;
    try {
      this.facts.tls = await this.#client.startTls(this.#door.tls, afterCommand);
    } catch (error) {
      this.destroy(`tls: ${(error as Error).message}`);
      return false;
    }
    this.#handshaking = false;
    if (this.#isIn('ended')) return false;
    this.#client.read();
    return true;
  }

  /** What was sent is still answered; then there is nothing to wait for. */
  #halfClosed(): void {
    this.#clientEnded = true;
    if (!this.#isIn('busy')) this.destroy('client closed');
  }

  #tooSlow(): void {
    if (this.#isIn('ended')) return;
    const reason = `timeout in ${this.#phase}`;
    // in the middle of a handshake there is nobody to read a reply
    if (this.#handshaking) this.destroy(reason);
    else this.#sayAndEnd(replies.tooSlow, reason);
  }

  #finish(reason: string): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#pending.clear();
    this.#deadline.cancel();
    this.#settlement.forget();
    this.#intake?.delivery.abandon();
    this.#haraka.close();
    const { chain, log } = this.#door;
    chain.tell('disconnected', this.facts);
    const { bytesIn, bytesOut } = this.#client;
    const { refusedRecipients } = this.#commands;
    const counts = { ...this.#counts, refusedRecipients, bytesIn, bytesOut };
    log.info(connectionRecord(this.facts, counts, this.#endReason || reason), 'smtp connection');
    this.#ended(this);
  }

  // ---- bytes

  #onData(bytes: Buffer): void {
    this.#settlement.heard();
    if (this.#phase === 'data') {
      this.#onMessageBytes(bytes);
      return;
    }
    this.#pending.push(bytes);
    if (this.#phase === 'command' || this.#phase === 'login') this.#pump();
    else if (this.#pending.length > pendingBytesMax) this.#client.pause();
  }

  /** Takes commands while the session is ready for one. */
  #pump(): void {
    while (this.#phase === 'command' || this.#phase === 'login') {
      if (this.#stopping) {
        this.#sayAndEnd(replies.stopping, 'stopping');
        return;
      }
      if (this.#client.crowded) {
        this.#client.pause();
        return;
      }
      if (!this.#takeCommand()) break;
    }
    if (this.#isIn('ended')) return;
    // replies to a pipelined group leave together, with the last command of the group
    if (this.#phase !== 'busy' || this.#pending.length === 0) this.#client.flush();
    if (this.#phase === 'command' || this.#phase === 'login') this.#client.read();
  }

  /** @returns False when a whole line has not come yet, or never will. */
  #takeCommand(): boolean {
    const login = this.#phase === 'login';
    const taken = this.#pending.take(login, this.#counts.commands === 0);
    if (taken === undefined) return false;
    if ('reply' in taken) {
      this.#counts.errors += 1;
      this.#sayAndEnd(taken.reply, taken.reason);
      return false;
    }
    this.#phase = 'command';
    if (!login) this.#counts.commands += 1;
    const reply = login ? this.#commands.loginLine(taken.line) : this.#commands.command(taken.line);
    if (reply !== undefined) this.#say(reply);
    if (this.#phase === 'command' || this.#phase === 'login') this.#awaitCommand();
    return true;
  }

  // ---- replies

  #say(reply: Reply): void {
    this.#sayText(renderReply(reply), reply.close === true);
    if (reply.code >= 500 && reply.code <= 504) this.#countError();
  }

  #sayText(text: string, close: boolean): void {
    if (this.#isIn('ended')) return;
    this.#reply = text;
    this.#client.write(text);
    if (!close) return;
    this.#intake?.delivery.finish(text);
    this.#sayAndEnd(undefined, text.trimEnd());
  }

  /** Syntax and sequence errors; what policy refuses is no error of the client's program. */
  #countError(): void {
    this.#counts.errors += 1;
    if (this.#counts.errors >= this.#door.settings['smtp.errors_max']) {
      this.#sayAndEnd(replies.tooManyErrors, 'too many errors');
    }
  }

  #sayAndEnd(reply: Reply | undefined, reason: string): void {
    if (this.#isIn('ended')) return;
    if (reply) this.#client.write(renderReply(reply));
    this.#endReason ||= reason;
    this.#client.end();
    this.#finish(reason);
  }

  // ---- phases

  #busy(): void {
    this.#phase = 'busy';
    this.#deadline.set(busyMsMax);
  }

  /** A command is answered: on with the next. */
  #next(phase: 'command' | 'login' = 'command'): void {
    if (this.#isIn('ended')) return;
    this.#phase = phase;
    this.#awaitCommand();
    this.#pump();
    if (this.#clientEnded && !this.#isIn('busy')) this.#sayAndEnd(undefined, 'client closed');
  }

  #awaitCommand(): void {
    this.#deadline.set(commandWaitMs(this.#door.settings, this.facts, this.#role, this.#counts.commands));
  }

  #harakaAnswered(code: number): void {
    if (this.#isIn('ended')) return;
    const whenAnswered = this.#whenAnswered;
    this.#whenAnswered = undefined;
    whenAnswered?.(code < 400);
    if (code >= 500 && code <= 504) this.#countError();
    if (this.#isIn('ended')) return;
    if (!this.#haraka.inData) this.#next();
    else if (this.#clientEnded && this.#pending.length === 0) this.destroy('client closed');
    else this.#beginData();
  }

  // ---- what commands ask of the session

  feed(line: string, okReply: Reply | undefined, whenAnswered?: (accepted: boolean) => void): undefined {
    if (this.#isIn('ended')) return undefined;
    this.#busy();
    this.#whenAnswered = whenAnswered;
    this.#haraka.command(line, okReply);
    return undefined;
  }

  later(work: () => Promise<Reply | Challenge | undefined>): undefined {
    this.#busy();
    work().then(
      (answer) => {
        if (answer === undefined || this.#isIn('ended')) return;
        if ('challenge' in answer) this.challenge(answer.challenge);
        else this.#say(answer);
        this.#next('challenge' in answer ? 'login' : 'command');
      },
      (error) => this.#failed(error),
    );
    return undefined;
  }

  challenge(text: string): undefined {
    this.#client.write(`334 ${text}\r\n`);
    this.#phase = 'login';
    return undefined;
  }

  startTls(whenDone: () => void): undefined {
    this.#client.write(renderReply(replies.startTls));
    this.#busy();
    this.#deadline.set(this.#door.settings['net.greeting_timeout']);
    // RFC 3207 4.2: nothing that came before TLS is a command
    this.#pending.clear();
    this.#startTls(true).then(
      (secure) => {
        if (!secure || this.facts.tls === undefined) return;
        this.#pending.clear();
        whenDone();
        this.#haraka.startedTls(this.facts.tls, () => this.#next());
      },
      (error) => this.#failed(error),
    );
    return undefined;
  }

  /** What must not happen, answered: the client hears 421, the log gets the error, the gateway lives. */
  #failed(error: unknown): void {
    this.#door.log.error({ trace: this.facts.id, err: error }, 'smtp session failed');
    this.#sayAndEnd(replies.internal, 'internal error');
  }

  // ---- the message

  #beginData(): void {
    const mail = this.#commands.takeMail();
    const { transaction } = this.#haraka;
    if (mail === undefined || transaction === undefined) {
      this.#sayAndEnd(replies.internal, 'internal error');
      return;
    }
    this.#counts.messages += 1;
    this.#intake = new MessageIntake({
      door: this.#door,
      session: this.facts,
      mail,
      number: this.#counts.messages,
      extended: this.#commands.extended,
      pause: () => this.#client.pause(),
      resume: () => this.#phase === 'data' && this.#client.read(),
    });
    if (this.#door.haraka.hasPlugins) this.#intake.delivery.collectFields(transaction);
    else this.#haraka.skipMessage();
    this.#phase = 'data';
    this.#deadline.set(this.#door.settings['smtp.data_timeout']);
    this.#client.flush();
    this.#client.read();
    const early = this.#pending.takeAll();
    if (early.length > 0) this.#onMessageBytes(early);
  }

  #onMessageBytes(bytes: Buffer): void {
    const intake = this.#intake!;
    const used = intake.push(bytes);
    const { failure } = intake;
    if (failure?.close) {
      this.#counts.errors += 1;
      intake.delivery.finish(renderReply(failure));
      this.#sayAndEnd(failure, failure.text);
      return;
    }
    if (used === -1) return;
    this.#pending.push(bytes.subarray(used));
    this.#busy();
    // read on: what comes before the reply must not be taken for a sign that the client has seen it
    this.#client.read();
    if (failure !== undefined) {
      this.#say(failure);
      this.#haraka.refuseData(() => {
        this.#messageAnswered(intake);
        this.#next();
      });
      return;
    }
    this.#whenAnswered = () => this.#messageAnswered(intake);
    if (!this.#door.haraka.hasPlugins) this.#haraka.dot();
    // its plugins get the message as it came; what is stored is ours, whatever they make of it
    else this.#haraka.message(intake.asSent()).catch((error) => this.#failed(error));
  }

  #messageAnswered(intake: MessageIntake): void {
    this.#intake = undefined;
    const accepted = intake.delivery.finish(this.#reply);
    if (accepted === undefined) return;
    this.#counts.accepted += 1;
    // read all the time, or what waits in the kernel could be older than the reply
    if (this.#client.reading) this.#settlement.wrote(accepted);
  }
}
