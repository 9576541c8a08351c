/**
 * POP3 in the AUTHORIZATION state (RFC 1939 4, 7; RFC 2449, 2595, 5034): who
 * the client is, and nothing else. After login the owner's session goes on.
 */
import { Fault } from '../../base/fault.ts';
import { LineReader } from '../../mailwire/line-reader.ts';
import type { Verdict } from '../plugins/api.ts';
import {
  type DialogStep,
  type DialogWords,
  errorsMax,
  isHttpVerb,
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
import { pop3Words, type RefusalWord } from '../session/wording.ts';

/** RFC 2449 4 allows 255 for a command; an AUTH response in base64 is longer. */
const lineBytesMax = saslLineBytesMax;

export interface Pop3DialogFacts {
  readonly tls: boolean;
  readonly canStartTls: boolean;
  readonly plaintextLogin: boolean;
}

export const pop3DialogWords: DialogWords = {
  connectionJudged: (verdict) => `${pop3Words('connect', verdict)}\r\n`,
  tooSlow: '-ERR Too slow, closing connection\r\n',
  stopping: '-ERR [SYS/TEMP] Server is restarting, connect again\r\n',
  // A session that runs may be in the middle of a message: POP3 has no word that could not be taken for its text.
  lost: '',
};

/** RFC 2449: what CAPA names before login, beside what depends on TLS. */
export const pop3Capabilities: readonly string[] = [
  'TOP',
  'UIDL',
  'RESP-CODES',
  'AUTH-RESP-CODE',
  'PIPELINING',
  'EXPIRE NEVER',
  'UTF8 USER',
  'IMPLEMENTATION Postern',
];

const wait: DialogStep = { do: 'wait' };

export class Pop3Dialog implements LoginDialog {
  #reader = new LineReader(lineBytesMax);
  #facts: Pop3DialogFacts;
  #errors = 0;
  #user: string | undefined;
  #sasl: SaslExchange | undefined;
  readonly #channel: SaslChannel;
  readonly #offer: SaslOffer;

  constructor(facts: Pop3DialogFacts, channel = unboundChannel, offer = onlyPasswords) {
    this.#facts = facts;
    this.#channel = channel;
    this.#offer = offer;
  }

  greeting(): string {
    return '+OK Postern ready\r\n';
  }

  push(chunk: Buffer): void {
    this.#reader.push(chunk);
  }

  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  tlsStarted(): void {
    // RFC 2595 4: what was said before TLS is forgotten, the user's name too.
    this.#reader = new LineReader(lineBytesMax);
    this.#user = undefined;
    this.#sasl = undefined;
    this.#facts = { ...this.#facts, tls: true };
  }

  next(): DialogStep {
    try {
      const line = this.#reader.takeText();
      if (line === undefined) return wait;
      if (this.#sasl === undefined) return this.#command(line);
      return this.#saslStep(this.#sasl, this.#sasl.line(line));
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.whose !== 'client') throw fault;
      // The reader has lost its place.
      return { do: 'close', text: `-ERR ${fault.message}\r\n`, reason: fault.code };
    }
  }

  loggedIn(): string {
    return '+OK Logged in\r\n';
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
    return this.#countError('-ERR [AUTH] Authentication failed\r\n');
  }

  loginUnavailable(): DialogStep {
    this.#sasl = undefined;
    return { do: 'say', text: '-ERR [SYS/TEMP] Temporary failure, try again later\r\n' };
  }

  loginRefused(reason: string): DialogStep {
    if (reason === 'login-delay') {
      this.#sasl = undefined;
      // RFC 2449 8.1.1: the credentials were right, and it is too early.
      return { do: 'say', text: '-ERR [LOGIN-DELAY] This account logged in a moment ago, come later\r\n' };
    }
    // RFC 2449 8.1.1: the mailbox is in use; try again later.
    if (reason !== 'limit' && reason !== 'busy') return this.loginFailed();
    this.#sasl = undefined;
    return { do: 'say', text: '-ERR [IN-USE] Too many sessions of this account\r\n' };
  }

  loginJudged(verdict: Verdict & { readonly word: RefusalWord }): DialogStep {
    this.#sasl = undefined;
    const text = `${pop3Words('login', verdict)}\r\n`;
    return verdict.word === 'disconnect' ? { do: 'close', text, reason: 'refused' } : this.#countError(text);
  }

  #command(line: string): DialogStep {
    const space = line.indexOf(' ');
    const verb = (space < 0 ? line : line.slice(0, space)).toUpperCase();
    const rest = space < 0 ? '' : line.slice(space + 1);
    if (isHttpVerb(verb)) return { do: 'close', text: '-ERR This is a POP3 server\r\n', reason: 'http' };
    // RFC 1939 4: PASS follows USER at once.
    const user = this.#user;
    if (verb !== 'CAPA') this.#user = undefined;
    switch (verb) {
      case 'CAPA':
        return { do: 'say', text: this.#capa() };
      case 'STLS':
        if (this.#facts.tls) return this.#countError('-ERR TLS is active already\r\n');
        if (!this.#facts.canStartTls || rest !== '') return this.#countError('-ERR TLS is not available\r\n');
        return { do: 'start-tls', text: '+OK Begin TLS now\r\n' };
      case 'USER':
        if (rest === '') return this.#countError('-ERR Missing name\r\n');
        if (!this.#mayLogin) return this.#privacyRequired();
        this.#user = rest;
        return { do: 'say', text: '+OK\r\n' };
      case 'PASS':
        if (!this.#mayLogin) return this.#privacyRequired();
        if (user === undefined) return this.#countError('-ERR USER first\r\n');
        return this.#check(user, rest);
      case 'AUTH':
        return this.#auth(rest);
      case 'UTF8':
        // RFC 6856 2: messages come as they are with and without it; names and passwords may be UTF-8 anyway.
        return rest === ''
          ? { do: 'say', text: '+OK UTF8 enabled\r\n' }
          : this.#countError('-ERR UTF8 takes no argument\r\n');
      case 'QUIT':
        return { do: 'close', text: '+OK Bye\r\n', reason: 'logout' };
      default:
        return this.#countError('-ERR Log in first\r\n');
    }
  }

  #capa(): string {
    const lines = ['+OK', ...pop3Capabilities];
    if (this.#mayLogin) lines.push('USER', `SASL ${mechanismsOf(this.#offer, this.#channel).join(' ')}`);
    if (!this.#facts.tls && this.#facts.canStartTls) lines.push('STLS');
    lines.push('.');
    return `${lines.join('\r\n')}\r\n`;
  }

  #auth(rest: string): DialogStep {
    if (!this.#mayLogin) return this.#privacyRequired();
    // RFC 1734 clients ask for the mechanisms this way.
    if (rest === '') {
      const names = mechanismsOf(this.#offer, this.#channel).map((name) => `${name}\r\n`);
      return { do: 'say', text: `+OK\r\n${names.join('')}.\r\n` };
    }
    const [name = '', initial, ...more] = rest.split(' ', 3);
    const exchange = SaslExchange.named(name.toUpperCase(), this.#offer, this.#channel);
    if (exchange === undefined || more.length > 0)
      return this.#countError('-ERR There is no such mechanism here\r\n');
    return this.#saslStep(exchange, exchange.begin(initial));
  }

  #saslStep(exchange: SaslExchange, step: SaslStep): DialogStep {
    // Until it has ended: a refusal may have to be told in its own words.
    this.#sasl = exchange;
    if ('challenge' in step) return { do: 'say', text: `+ ${step.challenge}\r\n` };
    const asked = loginStepOf(step, exchange.mechanism);
    if (asked !== undefined) return asked;
    this.#sasl = undefined;
    if (!('failed' in step) || step.failed === 'refused') return this.loginFailed();
    return this.#countError(
      `-ERR ${step.failed === 'cancelled' ? 'Authentication cancelled' : 'Bad base64'}\r\n`,
    );
  }

  get #mayLogin(): boolean {
    return this.#facts.tls || this.#facts.plaintextLogin;
  }

  #privacyRequired(): DialogStep {
    return this.#countError('-ERR Start TLS first\r\n');
  }

  #check(userBytes: string, passwordBytes: string): DialogStep {
    const user = utf8Of(userBytes);
    const password = utf8Of(passwordBytes);
    if (!user || !password) return this.loginFailed();
    return { do: 'login', login: { user, password, mechanism: 'USER' } };
  }

  #countError(text: string): DialogStep {
    this.#errors++;
    return this.#errors < errorsMax ? { do: 'say', text } : { do: 'close', text, reason: 'too-many-errors' };
  }
}

/** Latin-1 held bytes as UTF-8; `undefined` when they are not. RFC 6856 allows UTF-8 in USER and PASS. */
function utf8Of(latin1: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(latin1, 'latin1'));
  } catch {
    return undefined;
  }
}
