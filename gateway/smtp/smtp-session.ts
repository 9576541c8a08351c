/**
 * One SMTP connection from the first byte to the last. The session reads and
 * judges every command and message itself, asks the chain and the owners, and
 * lets Haraka run its state machine and plugins on what is left. Haraka gets
 * one command at a time; its replies pass through here.
 */
import type { Socket } from 'node:net';
import type { Log } from '../../base/log.ts';
import type { Deadline, Deadlines } from '../net/deadline.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { Router } from '../routing/router.ts';
import type { MutableSession } from '../session/session.ts';
import type { GatewaySettings } from '../settings.ts';
import { ClientSocket, type TlsContexts } from './client-socket.ts';
import { takeLine } from './command-line.ts';
import { DataReceiver } from './data-receiver.ts';
import { readEnvelope } from './envelope-command.ts';
import type { Haraka } from './haraka/haraka.ts';
import { type HarakaPeer, HarakaSocket } from './haraka/socket.ts';
import { type HarakaConnection, harakaState } from './haraka/types.ts';
import { LoginDialog } from './login-dialog.ts';
import { MailDelivery } from './mail-delivery.ts';
import { RecipientCheck, senderBelongsTo } from './recipient-check.ts';
import { type Reply, renderReply, replies, replyFor } from './reply.ts';
import { saslLineBytesMax } from './sasl.ts';
import { Spool, type SpoolRoom } from './spool.ts';
import { stuffDots } from './stuff-dots.ts';

export type SmtpRole = 'mx' | 'submission' | 'submissions';

/** What all sessions of a door share. */
export interface DoorShared {
  readonly settings: GatewaySettings;
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  readonly hostname: string;
  readonly tls: TlsContexts;
  readonly haraka: Haraka;
  readonly spools: SpoolRoom;
  readonly deadlines: Deadlines;
  ended(session: SmtpSession): void;
}

/** RFC 5321 4.5.3.1.4 asks for 512; extensions add to it. CR LF included. */
const commandBytesMax = 4096;
/** What a client may send while it has to wait. */
const pendingBytesMax = 64 * 1024;
/** RFC 5321 4.5.3.2.6: a sender waits ten minutes for the reply to its dot; nobody waits longer here. */
const busyMsMax = 600_000;
/** Refused and surplus recipients of a connection, in multiples of recipients_max, before it ends. */
const refusedRecipientsFactor = 10;

const httpVerb = /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) /;
const nothing = Buffer.alloc(0);

type Phase = 'greeting' | 'command' | 'login' | 'busy' | 'data' | 'ended';

interface Mail {
  readonly from: string;
  readonly sizeBytes: number;
  readonly recipients: Map<string, true>;
}

export class SmtpSession implements HarakaPeer {
  readonly facts: MutableSession;
  readonly role: SmtpRole;
  readonly #door: DoorShared;
  readonly #client: ClientSocket;
  readonly #recipients: RecipientCheck;
  readonly #login: LoginDialog;
  #haraka: HarakaConnection | undefined;
  #harakaSocket: HarakaSocket | undefined;
  #phase: Phase = 'greeting';
  #pending: Buffer = nothing;
  #stopping = false;
  #toldConnected = false;

  // the reply Haraka owes us
  #okReply: Reply | undefined;
  #answer: Reply | undefined;
  #lastReply = '';
  #whenAnswered: ((accepted: boolean) => void) | undefined;
  #waitingForHaraka = false;

  // deadline of the phase
  #deadlineAtMs = Number.POSITIVE_INFINITY;
  #deadline: Deadline | undefined;

  #extended = false;
  #mail: Mail | undefined;
  #receiver: DataReceiver | undefined;
  #delivery: MailDelivery | undefined;
  #unsettled: { key: string; recipients: readonly string[]; armed: boolean }[] = [];

  #commands = 0;
  #errors = 0;
  #refusedRecipients = 0;
  #messages = 0;
  #accepted = 0;
  #endReason = '';

  constructor(door: DoorShared, socket: Socket, facts: MutableSession, role: SmtpRole) {
    this.#door = door;
    this.facts = facts;
    this.role = role;
    this.#recipients = new RecipientCheck(door, facts, role);
    this.#login = new LoginDialog(door, facts);
    this.#client = new ClientSocket(socket, {
      data: (bytes) => this.#onData(bytes),
      roomy: () => this.#pump(),
      closed: (reason) => this.#finish(reason),
    });
  }

  // ---- start and end

  async start(): Promise<void> {
    const { settings, chain } = this.#door;
    this.#setDeadline(settings['net.greeting_timeout']);
    const implicitTls = this.role === 'submissions';
    if (!implicitTls) this.#client.read();
    const verdict = await chain.ask('connect', this.facts, {
      spokeFirst: (waitMs) => (implicitTls ? Promise.resolve(false) : this.#spokeFirst(waitMs)),
    });
    if (this.#isEnded()) return;
    const refusal = replyFor('connect', verdict);
    if (refusal) {
      this.#endReason = 'refused';
      // before TLS there is nothing a TLS client could read
      if (implicitTls) this.#client.destroy();
      else this.#sayAndEnd(refusal);
      return;
    }
    if (implicitTls && !(await this.#startTls())) return;
    this.#toldConnected = true;
    chain.tell('connected', this.facts);
    if (this.#stopping) {
      this.#sayAndEnd(replies.stopping);
      return;
    }
    this.#phase = 'busy';
    this.#okReply = { code: 220, text: `${this.#door.hostname} ESMTP` };
    this.#harakaSocket = new HarakaSocket(this, this.facts.client.address, this.facts.client.port);
    this.#haraka = this.#door.haraka.connect(this.#harakaSocket);
    // said in the constructor when no plugin had to wait; settled in any case by the microtask of harakaSaid
  }

  /** No new command from now on; what is being received or delivered is finished. */
  stop(): void {
    this.#stopping = true;
    if (this.#phase === 'command' || this.#phase === 'login') this.#sayAndEnd(replies.stopping);
  }

  destroy(): void {
    this.#client.destroy();
    this.#finish('destroyed');
  }

  #isEnded(): boolean {
    return this.#phase === 'ended';
  }

  async #startTls(): Promise<boolean> {
    try {
      this.facts.tls = await this.#client.startTls(this.#door.tls);
    } catch (error) {
      this.#endReason = `tls: ${(error as Error).message}`;
      this.#client.destroy();
      this.#finish(this.#endReason);
      return false;
    }
    if (this.#isEnded()) return false;
    this.#client.read();
    return true;
  }

  async #spokeFirst(waitMs: number): Promise<boolean> {
    const until = performance.now() + waitMs;
    while (this.#pending.length === 0 && !this.#isEnded()) {
      const leftMs = until - performance.now();
      if (leftMs <= 0) break;
      await new Promise<void>((done) => {
        const timer = setTimeout(done, leftMs);
        this.#wakeEarly = () => {
          clearTimeout(timer);
          done();
        };
      });
    }
    this.#wakeEarly = undefined;
    return this.#pending.length > 0;
  }
  #wakeEarly: (() => void) | undefined;

  #finish(reason: string): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#pending = nothing;
    this.#deadline?.cancel();
    this.#wakeEarly?.();
    this.#delivery?.abandon();
    this.#unsettled = [];
    this.#harakaSocket?.emit('close');
    const { chain, log } = this.#door;
    if (this.#toldConnected) chain.tell('disconnected', this.facts);
    const { facts } = this;
    log.info(
      {
        trace: facts.id,
        protocol: facts.protocol,
        client: facts.client.address,
        port: facts.client.port,
        listener: facts.listener,
        tls: facts.tls && `${facts.tls.version} ${facts.tls.cipher}`,
        helo: facts.greeting,
        account: facts.account,
        commands: this.#commands,
        errors: this.#errors,
        messages: this.#messages,
        accepted: this.#accepted,
        bytesIn: this.#client.bytesIn,
        bytesOut: this.#client.bytesOut,
        ms: Date.now() - facts.startedAtMs,
        end: this.#endReason || reason,
      },
      'smtp connection',
    );
    this.#door.ended(this);
  }

  // ---- deadlines: fixed when a phase begins, never moved by what the client sends

  #setDeadline(ms: number): void {
    this.#deadlineAtMs = performance.now() + ms;
    if (this.#deadline === undefined) this.#armDeadline(ms);
  }

  #armDeadline(ms: number): void {
    this.#deadline = this.#door.deadlines.start(ms, () => {
      this.#deadline = undefined;
      if (this.#isEnded()) return;
      const leftMs = this.#deadlineAtMs - performance.now();
      // the phase has moved on since this was armed
      if (leftMs > 1) {
        this.#armDeadline(leftMs);
        return;
      }
      this.#endReason = `timeout in ${this.#phase}`;
      if (this.role === 'submissions' && this.facts.tls === undefined) return this.destroy();
      this.#sayAndEnd(replies.tooSlow);
    });
  }

  /** Waiting for a command: the idle time, and before login no more than the login time in all. */
  #commandDeadline(): void {
    const { settings } = this.#door;
    let ms = settings['smtp.idle_timeout'];
    if (this.#commands === 0) {
      ms = Math.min(ms, settings['net.greeting_timeout'] - (Date.now() - this.facts.startedAtMs));
    }
    if (this.role !== 'mx' && this.facts.account === undefined) {
      ms = Math.min(ms, settings['net.login_timeout'] - (Date.now() - this.facts.startedAtMs));
    }
    this.#setDeadline(Math.max(0, ms));
  }

  // ---- bytes

  #onData(bytes: Buffer): void {
    if (this.#unsettled.length > 0) this.#settleSeen();
    if (this.#phase === 'data') {
      this.#onMessageBytes(bytes);
      return;
    }
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    this.#wakeEarly?.();
    if (this.#phase === 'command' || this.#phase === 'login') this.#pump();
    else if (this.#pending.length > pendingBytesMax) this.#client.pause();
  }

  #pump(): void {
    while (this.#phase === 'command' || this.#phase === 'login') {
      if (this.#stopping) {
        this.#sayAndEnd(replies.stopping);
        return;
      }
      if (this.#client.crowded) {
        this.#client.pause();
        return;
      }
      if (this.#pending.length === 0) break;
      if (this.#commands === 0 && this.#pending[0] === 0x16 && this.facts.tls === undefined) {
        // a TLS handshake on a plain port
        this.#endReason = 'tls on a plain port';
        this.#sayAndEnd(replies.notSmtp);
        return;
      }
      const lineBytesMax =
        this.#phase === 'login' || /^auth /i.test(this.#pending.toString('latin1', 0, 5))
          ? saslLineBytesMax
          : commandBytesMax;
      const taken = takeLine(this.#pending, lineBytesMax);
      if (taken === 'more') break;
      if ('fault' in taken) {
        this.#endReason = taken.fault;
        this.#errors += 1;
        if (taken.fault === 'too-long') {
          this.#sayAndEnd(replies.commandTooLong);
          return;
        }
        if (httpVerb.test(this.#pending.toString('latin1', 0, 16))) {
          this.#sayAndEnd(replies.notSmtp);
          return;
        }
        return this.#sayAndEnd(
          taken.fault === 'nul-byte' ? replies.nulInCommand : replies.bareNewlineInCommand,
        );
      }
      this.#pending = taken.rest;
      if (this.#phase === 'login') this.#onLoginLine(taken.line);
      else this.#onCommand(taken.line);
    }
    if (this.#isEnded()) return;
    // replies to a pipelined group leave together, with the last command of the group
    if (this.#phase !== 'busy' || this.#pending.length === 0) this.#client.flush();
    if (this.#phase === 'command' || this.#phase === 'login') this.#client.read();
  }

  #say(reply: Reply): void {
    if (this.#isEnded()) return;
    this.#client.write(renderReply(reply));
    if (reply.close) {
      this.#sayAndEnd(undefined);
      return;
    }
    if (reply.code >= 500 && reply.code <= 504) this.#countError();
  }

  /** Syntax and sequence errors; what policy refuses is no error of the client's program. */
  #countError(): void {
    this.#errors += 1;
    if (this.#errors < this.#door.settings['smtp.errors_max']) return;
    this.#endReason = 'too many errors';
    this.#sayAndEnd(replies.tooManyErrors);
  }

  #sayAndEnd(reply: Reply | undefined): void {
    if (this.#isEnded()) return;
    if (reply) this.#client.write(renderReply(reply));
    this.#client.end();
    this.#finish(this.#endReason || reply?.text || 'closed');
  }

  #busy(): void {
    this.#phase = 'busy';
    this.#setDeadline(busyMsMax);
  }

  /** A command is answered: on with the next. */
  #next(): void {
    if (this.#isEnded()) return;
    this.#phase = 'command';
    this.#commandDeadline();
    this.#pump();
  }

  // ---- Haraka

  #feed(line: string, okReply: Reply, whenAnswered?: (accepted: boolean) => void): void {
    this.#busy();
    this.#okReply = okReply;
    this.#whenAnswered = whenAnswered;
    this.#harakaSocket?.feed(Buffer.from(`${line}\r\n`, 'latin1'));
  }

  get capabilities(): readonly string[] {
    const { settings, hostname } = this.#door;
    const list = [hostname, 'PIPELINING', '8BITMIME', `SIZE ${settings['smtp.message_size_max']}`];
    if (this.facts.tls === undefined) list.push('STARTTLS');
    if (this.#mayLogin()) list.push('AUTH PLAIN LOGIN');
    list.push('ENHANCEDSTATUSCODES');
    return list;
  }

  harakaSaid(text: string): void {
    if (this.#isEnded()) return;
    const accepted = text.startsWith('2') || text.startsWith('3');
    const own = this.#answer ?? (accepted ? this.#okReply : undefined);
    this.#answer = undefined;
    this.#okReply = undefined;
    this.#lastReply = own === undefined ? text : renderReply(own);
    this.#client.write(this.#lastReply);
    if (own?.close) {
      this.#sayAndEnd(undefined);
      return;
    }
    // Haraka changes its state right after it has written
    queueMicrotask(() => this.#harakaAnswered());
  }

  harakaResumed(): void {
    if (this.#waitingForHaraka) queueMicrotask(() => this.#harakaAnswered());
  }

  harakaEnded(): void {
    if (this.#isEnded()) return;
    this.#endReason ||= 'quit';
    this.#sayAndEnd(undefined);
  }

  #harakaAnswered(): void {
    if (this.#isEnded() || this.#haraka === undefined) return;
    const { state } = this.#haraka;
    const ready = state === harakaState.cmd || state === harakaState.loop || state === harakaState.data;
    this.#waitingForHaraka = this.#harakaSocket?.paused === true || !ready;
    if (this.#waitingForHaraka) return;
    const code = Number(this.#lastReply.slice(0, 3));
    const whenAnswered = this.#whenAnswered;
    this.#whenAnswered = undefined;
    whenAnswered?.(code < 400);
    if (code >= 500 && code <= 504) this.#countError();
    if (this.#isEnded()) return;
    if (this.#haraka.state === harakaState.data) this.#beginData();
    else this.#next();
  }

  // ---- commands

  #onCommand(line: string): void {
    if (httpVerb.test(line)) {
      this.#endReason = 'http';
      this.#sayAndEnd(replies.notSmtp);
      return;
    }
    this.#commands += 1;
    const space = line.indexOf(' ');
    const verb = (space === -1 ? line : line.slice(0, space)).toUpperCase();
    const rest = space === -1 ? '' : line.slice(space + 1);
    const reply = this.#command(verb, rest);
    if (reply === undefined) return;
    this.#say(reply);
    if (this.#phase === 'command') this.#commandDeadline();
  }

  /** @returns The reply, or `undefined` when it comes later. */
  #command(verb: string, rest: string): Reply | undefined {
    const argument = rest.trim();
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        return this.#hello(verb, argument);
      case 'MAIL':
        return this.#onMail(rest);
      case 'RCPT':
        return this.#onRcpt(rest);
      case 'DATA':
        if (argument !== '') return replies.syntax;
        if (this.#mail === undefined) return replies.mailFirst;
        if (this.#mail.recipients.size === 0) {
          return this.#refusedRecipients > 0 ? replies.noValidRecipients : replies.recipientFirst;
        }
        this.#feed('DATA', replies.data, (accepted) => {
          if (!accepted) this.#mail = undefined;
        });
        return undefined;
      case 'RSET':
        if (argument !== '') return replies.syntax;
        this.#mail = undefined;
        this.#feed('RSET', replies.ok);
        return undefined;
      case 'NOOP':
        this.#feed('NOOP', replies.ok);
        return undefined;
      case 'QUIT':
        if (argument !== '') return replies.syntax;
        this.#endReason = 'quit';
        this.#feed('QUIT', { code: 221, text: '2.0.0 Bye' });
        return undefined;
      case 'STARTTLS':
        return this.#onStartTls(argument);
      case 'AUTH':
        return this.#onAuth(argument);
      case 'VRFY':
        return argument === '' ? replies.syntax : replies.cannotVerify;
      case 'EXPN':
        return replies.noExpand;
      case 'HELP':
        return replies.help;
      default:
        return /[\x80-\xff]/.test(verb) ? replies.notAscii : replies.unknownCommand;
    }
  }

  #hello(verb: 'EHLO' | 'HELO', name: string): Reply | undefined {
    // a name or literal by its characters only: half the world's clients greet with names that are none
    if (!/^[\x21-\x7e]{1,255}$/.test(name)) return replies.syntax;
    this.#mail = undefined;
    const hello: Reply = { code: 250, text: this.#door.hostname };
    this.#busy();
    // EHLO's own reply lists the extensions, so Haraka's stands
    this.#okReply = verb === 'HELO' ? hello : undefined;
    this.#whenAnswered = (accepted) => {
      if (!accepted) return;
      this.#extended = verb === 'EHLO';
      this.facts.greeting = name;
    };
    this.#harakaSocket?.feed(Buffer.from(`${verb} ${name}\r\n`, 'latin1'));
    return undefined;
  }

  #mayLogin(): boolean {
    if (this.role === 'mx' || this.facts.account !== undefined) return false;
    return this.facts.tls !== undefined || this.#door.settings['login.plaintext'];
  }

  #onMail(rest: string): Reply | undefined {
    if (this.facts.greeting === undefined) return replies.helloFirst;
    if (this.#mail !== undefined) return replies.nestedMail;
    const { settings, chain } = this.#door;
    if (this.role !== 'mx' && this.facts.account === undefined) {
      return this.facts.tls === undefined && !settings['login.plaintext']
        ? replies.tlsFirst
        : replies.loginFirst;
    }
    const read = readEnvelope('mail', rest, {
      extended: this.#extended,
      authOffered: this.role !== 'mx',
      messageBytesMax: settings['smtp.message_size_max'],
    });
    if ('reply' in read) return read.reply;
    const { command } = read;
    if (this.facts.account !== undefined && !senderBelongsTo(command.address, this.facts.account)) {
      return replies.notYourAddress;
    }
    const proceed = () => {
      this.#feed(`MAIL FROM:${command.path}`, replies.senderOk, (accepted) => {
        if (!accepted) return;
        this.#mail = { from: command.address, sizeBytes: command.sizeBytes, recipients: new Map() };
      });
    };
    if (!chain.wants('sender')) {
      proceed();
      return undefined;
    }
    this.#busy();
    void this.#guard(async () => {
      const verdict = await chain.ask('sender', this.facts, command.address);
      const refusal = replyFor('sender', verdict);
      if (refusal === undefined) {
        proceed();
        return;
      }
      this.#say(refusal);
      this.#next();
    });
    return undefined;
  }

  #onRcpt(rest: string): Reply | undefined {
    const mail = this.#mail;
    if (mail === undefined) return replies.mailFirst;
    const { settings } = this.#door;
    const read = readEnvelope('rcpt', rest, {
      extended: this.#extended,
      authOffered: false,
      messageBytesMax: settings['smtp.message_size_max'],
    });
    if ('reply' in read) return read.reply;
    if (mail.recipients.size >= settings['smtp.recipients_max']) {
      return this.#recipientRefused(replies.tooManyRecipients);
    }
    const { command } = read;
    this.#busy();
    void this.#guard(async () => {
      const checked = await this.#recipients.check(command, mail.from, mail.sizeBytes);
      if ('reply' in checked) {
        this.#say(this.#recipientRefused(checked.reply));
        this.#next();
        return;
      }
      this.#feed(`RCPT TO:<${checked.address}>`, replies.recipientOk, (accepted) => {
        if (accepted) mail.recipients.set(checked.address, true);
      });
    });
    return undefined;
  }

  /** The reply, or the end of a connection that only tries names or ignores the limit. */
  #recipientRefused(reply: Reply): Reply {
    this.#refusedRecipients += 1;
    const most = refusedRecipientsFactor * this.#door.settings['smtp.recipients_max'];
    if (this.#refusedRecipients < most) return reply;
    this.#endReason = 'too many refused recipients';
    return replies.tooManyErrors;
  }

  #onStartTls(argument: string): Reply | undefined {
    if (argument !== '') return replies.syntax;
    if (this.facts.tls !== undefined) return replies.tlsAlready;
    // RFC 3207 4.2: nothing known before TLS may be kept, and nothing read before it is a command
    this.#pending = nothing;
    this.#busy();
    this.#setDeadline(this.#door.settings['net.greeting_timeout']);
    this.#client.write(renderReply(replies.startTls));
    void this.#guard(async () => {
      if (!(await this.#startTls())) return;
      this.#pending = nothing;
      this.#mail = undefined;
      this.#extended = false;
      this.facts.greeting = undefined;
      this.facts.account = undefined;
      const haraka = this.#haraka;
      const tls = this.facts.tls as MutableSession['tls'];
      if (haraka === undefined || tls === undefined) return;
      haraka.reset_transaction(() => {
        haraka.esmtp = false;
        haraka.encoding = 'utf8';
        haraka.set('hello.verb', null);
        haraka.setTLS({ cipher: { name: tls.cipher, version: tls.version }, verified: false });
        this.#next();
      });
    });
    return undefined;
  }

  #onAuth(argument: string): Reply | undefined {
    if (this.role === 'mx') return replies.noLogin;
    if (this.facts.account !== undefined) return replies.loggedInAlready;
    if (!this.#mayLogin()) return replies.needsEncryption;
    if (this.facts.greeting === undefined) return replies.helloFirst;
    if (this.#mail !== undefined) return replies.notDuringMail;
    const begun = this.#login.begin(argument);
    return this.#loginStep(begun);
  }

  #onLoginLine(line: string): void {
    this.#phase = 'command';
    const reply = this.#loginStep(this.#login.line(line));
    if (reply) this.#say(reply);
    if (this.#phase === 'command') this.#commandDeadline();
  }

  #loginStep(step: ReturnType<LoginDialog['begin']>): Reply | undefined {
    if ('reply' in step) return step.reply;
    if ('challenge' in step) {
      this.#client.write(`334 ${step.challenge}\r\n`);
      this.#phase = 'login';
      return undefined;
    }
    this.#busy();
    void this.#guard(async () => {
      const { reply, wrong } = await this.#login.check(step);
      if (this.#isEnded()) return;
      this.#say(reply);
      if (wrong && !reply.close) this.#countError();
      this.#next();
    });
    return undefined;
  }

  // ---- the message

  #beginData(): void {
    const mail = this.#mail;
    if (mail === undefined || this.#haraka?.transaction == null) {
      this.#sayAndEnd(replies.internal);
      return;
    }
    const { settings, spools } = this.#door;
    this.#messages += 1;
    const spool = new Spool(spools, `${mail.from}\0`, () => {
      if (this.#phase === 'data') this.#client.read();
    });
    this.#receiver = new DataReceiver(
      {
        messageBytesMax: settings['smtp.message_size_max'],
        lineBytesMax: settings['smtp.line_bytes_max'],
        headerLinesMax: settings['smtp.header_lines_max'],
        headerBytesMax: settings['smtp.header_bytes_max'],
        receivedMax: settings['smtp.received_max'],
      },
      (slice) => {
        if (!spool.write(slice)) this.#client.pause();
      },
    );
    this.#delivery = new MailDelivery({
      door: this.#door,
      session: this.facts,
      id: `${this.facts.id}.${this.#messages}`,
      from: mail.from,
      recipients: [...mail.recipients.keys()],
      extended: this.#extended,
      spool,
    });
    if (this.#door.haraka.hasPlugins) this.#delivery.collectFields(this.#haraka.transaction);
    else this.#haraka.transaction.discard_data = true;
    this.#phase = 'data';
    this.#setDeadline(settings['smtp.data_timeout']);
    this.#client.flush();
    this.#client.read();
    const early = this.#pending;
    this.#pending = nothing;
    if (early.length > 0) this.#onMessageBytes(early);
  }

  #onMessageBytes(bytes: Buffer): void {
    const receiver = this.#receiver!;
    const used = receiver.push(bytes);
    const { failure } = receiver;
    if (failure !== undefined) {
      this.#delivery!.refuse(failure);
      if (failure.close) {
        this.#endReason = failure.text;
        this.#errors += 1;
        this.#delivery!.finish(failure);
        this.#sayAndEnd(failure);
        return;
      }
    }
    if (used === -1) return;
    this.#pending = bytes.subarray(used);
    this.#mail = undefined;
    this.#busy();
    // read on: bytes that come before the reply are no sign that the client has seen it
    this.#client.read();
    this.#delivery!.received(receiver.header ?? nothing);
    this.#whenAnswered = () => this.#messageAnswered();
    if (failure === undefined && this.#door.haraka.hasPlugins) void this.#guard(() => this.#showHaraka());
    else this.#harakaSocket?.feed(Buffer.from('.\r\n'));
  }

  /** Haraka's plugins get the message as it came; what is stored is ours, whatever Haraka makes of it. */
  async #showHaraka(): Promise<void> {
    await this.#delivery!.spool.complete();
    let lineStart = true;
    for await (const chunk of this.#delivery!.spool.chunks()) {
      if (this.#isEnded() || this.#haraka?.state !== harakaState.data) return;
      for (const piece of stuffDots(chunk, lineStart)) this.#harakaSocket?.feed(piece);
      lineStart = chunk.at(-1) === 0x0a;
    }
    if (!this.#isEnded()) this.#harakaSocket?.feed(Buffer.from('.\r\n'));
  }

  judgeData(): boolean {
    const failure = this.#receiver?.failure;
    if (failure === undefined) return true;
    this.#answer = failure;
    return false;
  }

  async deliver(): Promise<'accepted' | 'deferred' | 'refused'> {
    const delivery = this.#delivery;
    let reply: Reply = replies.unavailable;
    if (delivery !== undefined) reply = await delivery.deliver();
    this.#answer = reply;
    if (reply.code < 400) return 'accepted';
    return reply.code < 500 ? 'deferred' : 'refused';
  }

  #messageAnswered(): void {
    const delivery = this.#delivery;
    this.#delivery = undefined;
    this.#receiver = undefined;
    if (delivery === undefined) return;
    const accepted = delivery.finish(this.#lastReply);
    if (accepted === undefined) return;
    this.#accepted += 1;
    // read all the time, or what waits in the kernel could be older than the reply
    if (!this.#client.reading) return;
    const entry = { ...accepted, armed: false };
    this.#unsettled.push(entry);
    // one full turn of the loop reads what had arrived before the reply left; only then do bytes prove it seen
    setImmediate(() =>
      setImmediate(() => {
        entry.armed = true;
      }),
    );
  }

  /** Bytes have come after the 250: the client has seen it, and will not send the message again (RFC 1047). */
  #settleSeen(): void {
    const waiting = [];
    for (const entry of this.#unsettled) {
      if (entry.armed) this.#door.router.settle(entry.key, entry.recipients);
      else waiting.push(entry);
    }
    this.#unsettled = waiting;
  }

  /** What must not happen, answered: the client hears 421, the log gets the error, the gateway lives. */
  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#door.log.error({ trace: this.facts.id, err: error }, 'smtp session failed');
      this.#endReason = 'internal error';
      this.#sayAndEnd(replies.internal);
    }
  }
}
