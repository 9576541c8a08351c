/**
 * IMAP before login (RFC 9051 6.1, 6.2; RFC 3501): few commands, small limits,
 * no socket. Everything a client may send before it has said who it is ends
 * here; what comes after a successful login is not looked at (CASES 20-25).
 */
import { Fault } from '../../base/fault.ts';
import { ImapCommandReader, type ImapPiece, type ImapReading } from '../../mailwire/imap-command-reader.ts';
import { ImapCursor, utf8 } from '../../mailwire/imap-tokens.ts';
import type { Verdict } from '../plugins/api.ts';
import {
  type DialogStep,
  type DialogWords,
  endsFraming,
  errorsMax,
  isHttpVerb,
  type LoginAsked,
  type LoginDialog,
  loginStepOf,
} from '../session/login-dialog.ts';
import { saslLineBytesMax } from '../session/sasl.ts';
import {
  mechanismsOf,
  onlyPasswords,
  type SaslChannel,
  SaslExchange,
  type SaslOffer,
  type SaslStep,
  unboundChannel,
} from '../session/sasl-exchange.ts';
import { imapWords, type RefusalWord, sayOf } from '../session/wording.ts';

/** Small: nothing longer is sent before login, and a thousand strangers may be here at once (CASES 24). */
const limits = { lineBytesMax: saslLineBytesMax, literalBytesMax: 4096, commandBytesMax: 16 * 1024 };
/** Fields of ID (RFC 2971 3.3 allows 30 pairs). */
const idFieldsMax = 60;

export interface ImapDialogFacts {
  readonly tls: boolean;
  /** STARTTLS can be offered. */
  readonly canStartTls: boolean;
  readonly plaintextLogin: boolean;
}

export const imapDialogWords: DialogWords = {
  connectionJudged: (verdict) =>
    `* BYE ${verdict.word === 'defer' ? '[UNAVAILABLE] ' : ''}${sayOf(verdict)}\r\n`,
  tooSlow: '* BYE Too slow, closing connection\r\n',
  stopping: '* BYE [UNAVAILABLE] Server is restarting, connect again\r\n',
  lost: '* BYE [UNAVAILABLE] Connection lost, connect again\r\n',
};

const wait: DialogStep = { do: 'wait' };

export class ImapDialog implements LoginDialog {
  #reader = new ImapCommandReader(limits);
  #facts: ImapDialogFacts;
  #errors = 0;
  /** Tag of the login that is being checked, or of the AUTHENTICATE that goes on. */
  #tag = '';
  #sasl: SaslExchange | undefined;
  readonly #channel: SaslChannel;
  readonly #offer: SaslOffer;

  constructor(facts: ImapDialogFacts, channel = unboundChannel, offer = onlyPasswords) {
    this.#facts = facts;
    this.#channel = channel;
    this.#offer = offer;
  }

  greeting(): string {
    return `* OK [CAPABILITY ${this.#capability()}] Postern ready\r\n`;
  }

  push(chunk: Buffer): void {
    this.#reader.push(chunk);
  }

  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  tlsStarted(): void {
    // RFC 9051 6.2.1: nothing from before TLS is kept, neither bytes nor state.
    this.#reader = new ImapCommandReader(limits);
    this.#sasl = undefined;
    this.#facts = { ...this.#facts, tls: true };
  }

  next(): DialogStep {
    try {
      const reading = this.#reader.next();
      if (reading.kind === 'more') return wait;
      if (reading.kind === 'literal') return this.#literal(reading);
      return this.#sasl === undefined ? this.#command(reading.pieces) : this.#saslLine(reading.pieces);
    } catch (error) {
      return this.#fault(Fault.from(error));
    }
  }

  loggedIn(capability: string): string {
    const words = /^[\x21-\x5c\x5e-\x7e][\x20-\x5c\x5e-\x7e]*$/.test(capability) ? capability : 'IMAP4rev1';
    return `${this.#tag} OK [CAPABILITY ${words}] Logged in\r\n`;
  }

  salted(record: { readonly salt: Buffer; readonly iterations: number }): DialogStep {
    return this.#saslStep(this.#sasl!, this.#sasl!.salted(record));
  }

  proven(signature: string): DialogStep {
    return this.#saslStep(this.#sasl!, this.#sasl!.proven(signature));
  }

  loginFailed(): DialogStep {
    const told = this.#sasl?.refused();
    if (told !== undefined && 'challenge' in told) return { do: 'say', text: `+ ${told.challenge}\r\n` };
    this.#sasl = undefined;
    return this.#countError(`${this.#tag} NO [AUTHENTICATIONFAILED] Authentication failed\r\n`);
  }

  loginUnavailable(): DialogStep {
    this.#sasl = undefined;
    return { do: 'say', text: `${this.#tag} NO [UNAVAILABLE] Temporary failure, try again later\r\n` };
  }

  loginRefused(reason: string): DialogStep {
    if (reason !== 'limit') return reason === 'busy' ? this.loginUnavailable() : this.loginFailed();
    this.#sasl = undefined;
    return { do: 'say', text: `${this.#tag} NO [LIMIT] Too many sessions of this account\r\n` };
  }

  loginJudged(verdict: Verdict & { readonly word: RefusalWord }): DialogStep {
    this.#sasl = undefined;
    const words = imapWords(verdict);
    if (verdict.word === 'disconnect') return { do: 'close', text: `* ${words}\r\n`, reason: 'refused' };
    return this.#countError(`${this.#tag} ${words}\r\n`);
  }

  #capability(): string {
    const { tls, canStartTls, plaintextLogin } = this.#facts;
    const words = ['IMAP4rev1', 'IMAP4rev2', 'LITERAL+', 'SASL-IR', 'ID'];
    if (!tls && canStartTls) words.push('STARTTLS');
    if (tls || plaintextLogin)
      words.push(...mechanismsOf(this.#offer, this.#channel).map((name) => `AUTH=${name}`));
    else words.push('LOGINDISABLED');
    return words.join(' ');
  }

  #literal(reading: ImapReading & { kind: 'literal' }): DialogStep {
    // Only credentials come as literals here; an answer to AUTHENTICATE never does.
    if (!reading.tooBig && this.#sasl === undefined) {
      this.#reader.acceptLiteral();
      return reading.sync ? { do: 'say', text: '+ OK\r\n' } : { do: 'say', text: '' };
    }
    const tag = this.#sasl === undefined ? (this.#reader.tag ?? '*') : this.#tag;
    this.#sasl = undefined;
    const text = `${tag} BAD Literal is too large\r\n`;
    // RFC 7888 4: the bytes of `{n+}` are on the way, and reading them all would be doing the client's bidding.
    if (!reading.sync)
      return { do: 'close', text: `${text}* BYE Literal is too large\r\n`, reason: 'literal-too-big' };
    this.#reader.refuseLiteral();
    return this.#countError(text);
  }

  #command(pieces: readonly ImapPiece[]): DialogStep {
    const cursor = new ImapCursor(pieces);
    const tag = cursor.tag();
    if (isHttpVerb(tag)) return { do: 'close', text: '* BYE This is an IMAP server\r\n', reason: 'http' };
    this.#tag = tag;
    cursor.space();
    switch (cursor.keyword()) {
      case 'CAPABILITY':
        cursor.end();
        return { do: 'say', text: `* CAPABILITY ${this.#capability()}\r\n${tag} OK Done\r\n` };
      case 'NOOP':
        cursor.end();
        return { do: 'say', text: `${tag} OK Done\r\n` };
      case 'LOGOUT':
        cursor.end();
        return { do: 'close', text: `* BYE Logging out\r\n${tag} OK Done\r\n`, reason: 'logout' };
      case 'ID':
        return this.#id(cursor, tag);
      case 'STARTTLS':
        cursor.end();
        if (this.#facts.tls) return this.#countError(`${tag} BAD TLS is active already\r\n`);
        if (!this.#facts.canStartTls) return this.#countError(`${tag} NO TLS is not available\r\n`);
        return { do: 'start-tls', text: `${tag} OK Begin TLS now\r\n` };
      case 'LOGIN':
        return this.#login(cursor, tag);
      case 'AUTHENTICATE':
        return this.#authenticate(cursor, tag);
      default:
        return this.#countError(`${tag} BAD Log in first\r\n`);
    }
  }

  /** RFC 2971. What the client says of itself changes nothing (CASES 65). */
  #id(cursor: ImapCursor, tag: string): DialogStep {
    cursor.space();
    if (cursor.takeIf('(')) {
      for (let fields = 0; !cursor.takeIf(')'); fields++) {
        if (fields >= idFieldsMax) throw new Fault('bad-syntax', 'Too many fields');
        if (fields > 0) cursor.space();
        cursor.nstring();
      }
    } else if (cursor.nstring() !== undefined) {
      throw new Fault('bad-syntax', 'Missing list or NIL');
    }
    cursor.end();
    return { do: 'say', text: `* ID ("name" "Postern")\r\n${tag} OK Done\r\n` };
  }

  #login(cursor: ImapCursor, tag: string): DialogStep {
    cursor.space();
    const user = cursor.astring();
    cursor.space();
    const password = cursor.astring();
    cursor.end();
    return this.#mayLogin(tag) ?? this.#check(user, password, 'LOGIN');
  }

  #authenticate(cursor: ImapCursor, tag: string): DialogStep {
    cursor.space();
    const mechanism = cursor.keyword();
    // RFC 4959: the first response stands in the command; `=` is an empty one.
    let initial: string | undefined;
    if (cursor.takeIf(' ')) initial = cursor.astring();
    cursor.end();
    const refused = this.#mayLogin(tag);
    if (refused !== undefined) return refused;
    const exchange = SaslExchange.named(mechanism, this.#offer, this.#channel);
    if (exchange === undefined)
      return this.#countError(`${tag} NO [CANNOT] There is no such mechanism here\r\n`);
    return this.#saslStep(exchange, exchange.begin(initial));
  }

  #saslLine(pieces: readonly ImapPiece[]): DialogStep {
    const exchange = this.#sasl!;
    const line = pieces[0];
    if (pieces.length !== 1 || !Buffer.isBuffer(line)) throw new Fault('bad-syntax', 'Bad response');
    return this.#saslStep(exchange, exchange.line(line.toString('latin1')));
  }

  #saslStep(exchange: SaslExchange, step: SaslStep): DialogStep {
    // Until it has ended: a refusal may have to be told in its own words.
    this.#sasl = exchange;
    if ('challenge' in step) return { do: 'say', text: `+ ${step.challenge}\r\n` };
    const asked = loginStepOf(step, exchange.mechanism);
    if (asked !== undefined) return asked;
    this.#sasl = undefined;
    if (!('failed' in step) || step.failed === 'refused') return this.loginFailed();
    const why = step.failed === 'cancelled' ? 'Authentication cancelled' : 'Bad base64';
    return this.#countError(`${this.#tag} BAD ${why}\r\n`);
  }

  /** May credentials be sent on this connection? */
  #mayLogin(tag: string): DialogStep | undefined {
    if (this.#facts.tls || this.#facts.plaintextLogin) return undefined;
    return this.#countError(`${tag} NO [PRIVACYREQUIRED] Start TLS first\r\n`);
  }

  #check(user: string, password: string, mechanism: string): DialogStep {
    let login: LoginAsked;
    try {
      login = { user: utf8(user), password: utf8(password), mechanism };
    } catch {
      return this.loginFailed();
    }
    return password === '' || user === '' ? this.loginFailed() : { do: 'login', login };
  }

  #fault(fault: Fault): DialogStep {
    if (fault.whose !== 'client') throw fault;
    const tag = this.#sasl !== undefined ? this.#tag : (this.#reader.tag ?? '*');
    this.#sasl = undefined;
    const text = `${tag} BAD ${fault.message}\r\n`;
    if (endsFraming(fault) || this.#reader.mustClose)
      return { do: 'close', text: `${text}* BYE ${fault.message}\r\n`, reason: fault.code };
    return this.#countError(text);
  }

  #countError(text: string): DialogStep {
    this.#errors++;
    if (this.#errors < errorsMax) return { do: 'say', text };
    return { do: 'close', text: `${text}* BYE Too many errors\r\n`, reason: 'too-many-errors' };
  }
}
