/**
 * The commands of RFC 5321 and its extensions: what may be said when, and what
 * is answered. Each returns its reply, or `undefined` when that comes later;
 * the session knows nothing of commands, and this nothing of sockets.
 */
import { mechanismsOf, type SaslChannel } from '../session/sasl-exchange.ts';
import type { MutableSession } from '../session/session.ts';
import type { DoorShared, SmtpRole } from './door-shared.ts';
import { readEnvelope } from './envelope-command.ts';
import { LoginDialog } from './login-dialog.ts';
import { RecipientCheck, senderBelongsTo } from './recipient-check.ts';
import { type Reply, replies, replyFor } from './reply.ts';

/** Refused and surplus recipients of a connection, in multiples of recipients_max, before it ends. */
const refusedRecipientsFactor = 10;
/** Commands since the last message that bring no mail nearer (NOOP, RSET, VRFY …) before the connection ends. */
const idleCommandsMax = 1000;

/** 334, and the next line goes to `loginLine`. */
export interface Challenge {
  readonly challenge: string;
}

/** What commands ask of the session. */
export interface CommandControl {
  /** Haraka runs the command and replies; `okReply` stands for its own words where it accepts. */
  feed(line: string, okReply: Reply | undefined, whenAnswered?: (accepted: boolean) => void): undefined;
  /** The reply comes later; `undefined` when the work has fed a command instead. */
  later(work: () => Promise<Reply | Challenge | undefined>): undefined;
  challenge(text: string): undefined;
  /** The connection, as far as a login can be bound to it. */
  readonly channel: SaslChannel;
  /** 220 and the handshake. */
  startTls(whenDone: () => void): undefined;
}

/** A mail transaction (RFC 5321 3.3). */
export interface Mail {
  readonly from: string;
  readonly sizeBytes: number;
  readonly recipients: Set<string>;
}

export class SmtpCommands {
  /** EHLO was said, not HELO. */
  extended = false;
  refusedRecipients = 0;
  readonly #door: DoorShared;
  readonly #facts: MutableSession;
  readonly #role: SmtpRole;
  readonly #control: CommandControl;
  readonly #recipients: RecipientCheck;
  readonly #login: LoginDialog;
  #mail: Mail | undefined;
  #wrongLogins = 0;
  #idleCommands = 0;

  constructor(door: DoorShared, facts: MutableSession, role: SmtpRole, control: CommandControl) {
    this.#door = door;
    this.#facts = facts;
    this.#role = role;
    this.#control = control;
    this.#recipients = new RecipientCheck(door, facts, role);
    this.#login = new LoginDialog(door, facts, control.channel);
  }

  /** @param line  Without CR LF, Latin-1. */
  command(line: string): Reply | undefined {
    const space = line.indexOf(' ');
    const verb = (space === -1 ? line : line.slice(0, space)).toUpperCase();
    const rest = space === -1 ? '' : line.slice(space + 1);
    const argument = rest.trim();
    switch (verb) {
      case 'MAIL':
        return this.#onMail(rest);
      case 'RCPT':
        return this.#onRcpt(rest);
      case 'DATA':
        return argument === '' ? this.#onData() : replies.syntax;
      case 'STARTTLS':
        return argument === '' ? this.#onStartTls() : replies.syntax;
      case 'AUTH':
        return this.#onAuth(argument);
      case 'QUIT':
        return argument === '' ? this.#control.feed('QUIT', replies.bye) : replies.syntax;
    }
    this.#idleCommands += 1;
    if (this.#idleCommands > idleCommandsMax) return replies.tooManyErrors;
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        return this.#onHello(verb, argument);
      case 'RSET':
        if (argument !== '') return replies.syntax;
        this.#mail = undefined;
        return this.#control.feed('RSET', replies.ok);
      case 'NOOP':
        return this.#control.feed('NOOP', replies.ok);
      case 'VRFY':
        return argument === '' ? replies.syntax : replies.cannotVerify;
      case 'EXPN':
        return replies.noExpand;
      case 'HELP':
        return replies.help;
      default:
        return replies.unknownCommand;
    }
  }

  /** The client's answer to a challenge of AUTH. */
  loginLine(line: string): Reply | undefined {
    return this.#loginStep(this.#login.line(line));
  }

  /** What EHLO announces. */
  capabilities(): readonly string[] {
    const { settings, hostname } = this.#door;
    const list = [hostname, 'PIPELINING', '8BITMIME', `SIZE ${settings['smtp.message_size_max']}`];
    if (this.#facts.tls === undefined) list.push('STARTTLS');
    if (this.#mayLogin()) list.push(`AUTH ${mechanismsOf(this.#door.sasl, this.#control.channel).join(' ')}`);
    list.push('ENHANCEDSTATUSCODES');
    return list;
  }

  /** The transaction whose data comes now; it ends with them. */
  takeMail(): Mail | undefined {
    const mail = this.#mail;
    this.#mail = undefined;
    this.#idleCommands = 0;
    return mail;
  }

  #onHello(verb: 'EHLO' | 'HELO', name: string): Reply | undefined {
    // judged by its characters only: half the world's clients greet with names that are none
    if (!/^[\x21-\x7e]{1,255}$/.test(name)) return replies.syntax;
    this.#mail = undefined;
    // the reply to EHLO lists the extensions, so Haraka's own stands
    const okReply = verb === 'HELO' ? { code: 250, text: this.#door.hostname } : undefined;
    const proceed = () =>
      this.#control.feed(`${verb} ${name}`, okReply, (accepted) => {
        if (!accepted) return;
        this.extended = verb === 'EHLO';
        this.#facts.greeting = name;
      });
    const { chain } = this.#door;
    if (!chain.wants('greeting')) return proceed();
    return this.#control.later(async () => {
      const refusal = replyFor('greeting', await chain.ask('greeting', this.#facts, name));
      return refusal ?? proceed();
    });
  }

  #mayLogin(): boolean {
    if (this.#role === 'mx' || this.#facts.account !== undefined) return false;
    return this.#facts.tls !== undefined || this.#door.settings['login.plaintext'];
  }

  #onMail(rest: string): Reply | undefined {
    const { settings, chain } = this.#door;
    const { account } = this.#facts;
    if (this.#facts.greeting === undefined) return replies.helloFirst;
    if (this.#mail !== undefined) return replies.nestedMail;
    if (this.#role !== 'mx' && account === undefined) {
      return this.#mayLogin() ? replies.loginFirst : replies.tlsFirst;
    }
    const read = readEnvelope('mail', rest, {
      extended: this.extended,
      authOffered: this.#role !== 'mx',
      messageBytesMax: settings['smtp.message_size_max'],
    });
    if ('reply' in read) return read.reply;
    const { command } = read;
    if (account !== undefined && !senderBelongsTo(command.address, account)) return replies.notYourAddress;
    // Haraka's grammar knows no `_` in a domain, which mail in the field has: where no plugin of Haraka's looks at
    // the sender, it need not parse one
    const path = this.#door.haraka.hasPlugins ? command.path : '<>';
    const proceed = () =>
      this.#control.feed(`MAIL FROM:${path}`, replies.senderOk, (accepted) => {
        if (!accepted) return;
        this.#mail = { from: command.address, sizeBytes: command.sizeBytes, recipients: new Set() };
      });
    if (!chain.wants('sender')) return proceed();
    return this.#control.later(async () => {
      const refusal = replyFor('sender', await chain.ask('sender', this.#facts, command.address));
      return refusal ?? proceed();
    });
  }

  #onRcpt(rest: string): Reply | undefined {
    const mail = this.#mail;
    if (mail === undefined) return replies.mailFirst;
    const { settings } = this.#door;
    const read = readEnvelope('rcpt', rest, {
      extended: this.extended,
      authOffered: false,
      messageBytesMax: settings['smtp.message_size_max'],
    });
    if ('reply' in read) return read.reply;
    if (mail.recipients.size >= settings['smtp.recipients_max']) {
      return this.#recipientRefused(replies.tooManyRecipients);
    }
    return this.#control.later(async () => {
      const checked = await this.#recipients.check(read.command, mail.from, mail.sizeBytes);
      if ('reply' in checked) return this.#recipientRefused(checked.reply);
      return this.#control.feed(`RCPT TO:<${checked.address}>`, replies.recipientOk, (accepted) => {
        if (accepted) for (const target of checked.targets) mail.recipients.add(target);
      });
    });
  }

  /** The reply, or the end of a connection that only tries names or does not heed the limit. */
  #recipientRefused(reply: Reply): Reply {
    this.refusedRecipients += 1;
    const most = refusedRecipientsFactor * this.#door.settings['smtp.recipients_max'];
    return this.refusedRecipients < most ? reply : replies.tooManyErrors;
  }

  #onData(): Reply | undefined {
    if (this.#mail === undefined) return replies.mailFirst;
    if (this.#mail.recipients.size === 0) {
      return this.refusedRecipients > 0 ? replies.noValidRecipients : replies.recipientFirst;
    }
    return this.#control.feed('DATA', replies.data, (accepted) => {
      if (!accepted) this.#mail = undefined;
    });
  }

  #onStartTls(): Reply | undefined {
    if (this.#facts.tls !== undefined) return replies.tlsAlready;
    return this.#control.startTls(() => {
      // RFC 3207 4.2: what was learned before TLS is forgotten, a login as well
      this.#mail = undefined;
      this.extended = false;
      this.#facts.greeting = undefined;
      this.#facts.account = undefined;
    });
  }

  #onAuth(argument: string): Reply | undefined {
    if (this.#role === 'mx') return replies.noLogin;
    if (this.#facts.account !== undefined) return replies.loggedInAlready;
    if (!this.#mayLogin()) return replies.needsEncryption;
    if (this.#facts.greeting === undefined) return replies.helloFirst;
    if (this.#mail !== undefined) return replies.notDuringMail;
    return this.#loginStep(this.#login.begin(argument));
  }

  #loginStep(step: ReturnType<LoginDialog['begin']>): Reply | undefined {
    if ('reply' in step) return step.reply === replies.badLogin ? this.#loginRefused(step.reply) : step.reply;
    if ('challenge' in step) return this.#control.challenge(step.challenge);
    return this.#control.later(async () => {
      const answer = await this.#login.perform(step);
      if ('challenge' in answer) return answer;
      return answer.wrong ? this.#loginRefused(answer.reply) : answer.reply;
    });
  }

  #loginRefused(reply: Reply): Reply {
    this.#wrongLogins += 1;
    return this.#wrongLogins < this.#door.settings['smtp.errors_max'] ? reply : replies.tooManyErrors;
  }
}
