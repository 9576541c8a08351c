/** AUTH (RFC 4954): the exchange of one connection, the chain's question, and the owner's word. */
import { type LoginStep, loginStepOf } from '../session/login-dialog.ts';
import { accountOf, credentialsOf, scramCredentials } from '../session/login-work.ts';
import { type SaslChannel, SaslExchange, type SaslStep } from '../session/sasl-exchange.ts';
import type { MutableSession } from '../session/session.ts';
import type { DoorShared } from './door-shared.ts';
import { type Reply, replies, replyFor } from './reply.ts';

type DialogStep = { readonly reply: Reply } | { readonly challenge: string } | LoginStep;

/** `wrong`: counts as an error of the connection. A session whose login is good has its account set. */
type Answer = { readonly reply: Reply; readonly wrong: boolean } | { readonly challenge: string };

const nameCharsMax = 1024;

type Door = Pick<DoorShared, 'chain' | 'router' | 'log' | 'sasl'>;

export class LoginDialog {
  readonly #door: Door;
  readonly #session: MutableSession;
  readonly #channel: SaslChannel;
  #exchange: SaslExchange | undefined;
  #startedAtMs = 0;
  /** The chain has let the exchange that goes on pass: its later steps are the same login. */
  #passed = false;
  /** The owner has found the proof right; what is left is the client's last line. */
  #proven = false;

  constructor(door: Door, session: MutableSession, channel: SaslChannel) {
    this.#door = door;
    this.#session = session;
    this.#channel = channel;
  }

  /** @param argument  What follows `AUTH `. */
  begin(argument: string): DialogStep {
    const [name = '', initial, ...more] = argument.split(' ', 3);
    if (name === '' || more.length > 0) return { reply: replies.syntax };
    this.#passed = false;
    this.#proven = false;
    this.#exchange = SaslExchange.named(name.toUpperCase(), this.#door.sasl, this.#channel);
    if (this.#exchange === undefined) return { reply: replies.mechanism };
    return this.#take(this.#exchange, this.#exchange.begin(initial));
  }

  /** The client's answer to a challenge. */
  line(text: string): DialogStep {
    const exchange = this.#exchange;
    return exchange === undefined ? { reply: replies.syntax } : this.#take(exchange, exchange.line(text));
  }

  #take(exchange: SaslExchange, step: SaslStep): DialogStep {
    if ('challenge' in step) return step;
    const asked = loginStepOf(step, exchange.mechanism);
    if (asked !== undefined) return asked;
    this.#exchange = undefined;
    const failures = {
      cancelled: replies.loginCancelled,
      base64: replies.badBase64,
      refused: replies.badLogin,
    };
    return { reply: failures['failed' in step ? step.failed : 'refused'] };
  }

  /** Does what a step needs of others, and gives what the client is told. */
  async perform(step: LoginStep): Promise<Answer> {
    const { login } = step;
    const user = accountOf(login.user);
    const typed = { user: user ?? login.user.slice(0, nameCharsMax), mechanism: login.mechanism };
    if (!this.#passed) {
      this.#startedAtMs = performance.now();
      const verdict =
        step.do === 'login-failed'
          ? ({ word: 'pass', plugin: undefined } as const)
          : await this.#door.chain.ask('login', this.#session, typed);
      const refusal = replyFor('login', verdict);
      if (refusal !== undefined) {
        this.#note(typed, 'refused', verdict.plugin);
        this.#exchange = undefined;
        return { reply: refusal, wrong: true };
      }
      this.#passed = true;
    }
    const asked = user === undefined ? 'no' : await this.#ask(step, user);
    if (typeof asked === 'object') return asked;
    if (asked !== 'yes') this.#note(typed, asked);
    else {
      this.#exchange = undefined;
      this.#session.account = user;
      const verdict = await this.#door.chain.ask('authenticated', this.#session, typed);
      const refusal = replyFor('authenticated', verdict);
      if (refusal !== undefined) {
        this.#session.account = undefined;
        this.#note(typed, 'refused', verdict.plugin);
        return { reply: refusal, wrong: true };
      }
      this.#note(typed, asked);
      this.#door.chain.tell('loggedIn', this.#session);
      return { reply: replies.loggedIn, wrong: false };
    }
    if (asked === 'unavailable') {
      this.#exchange = undefined;
      return { reply: replies.loginUnavailable, wrong: false };
    }
    this.#door.chain.tell('loginFailed', this.#session, typed);
    const told = this.#exchange?.refused();
    if (told !== undefined && 'challenge' in told) return told;
    this.#exchange = undefined;
    return { reply: replies.badLogin, wrong: true };
  }

  async #ask(
    step: LoginStep,
    user: string,
  ): Promise<'yes' | 'no' | 'unavailable' | { readonly challenge: string }> {
    const { router } = this.#door;
    const exchange = this.#exchange;
    if (exchange === undefined || step.do === 'login-failed') return 'no';
    let next: SaslStep;
    switch (step.do) {
      case 'login':
        if (this.#proven) return 'yes';
        return await router.login(this.#session, credentialsOf(user, step.login));
      case 'scram-start': {
        const record = await router.scramStart(this.#session, user);
        if (record === 'unavailable') return record;
        next = exchange.salted(record);
        break;
      }
      case 'scram-proof': {
        const proven = await router.scramProof(this.#session, scramCredentials(user, step.login));
        if (typeof proven === 'string') return proven;
        this.#proven = true;
        next = exchange.proven(proven.signature);
      }
    }
    return 'challenge' in next ? next : 'no';
  }

  #note(
    typed: { readonly user: string; readonly mechanism: string },
    outcome: 'yes' | 'no' | 'unavailable' | 'refused',
    plugin?: string,
  ): void {
    this.#door.log.info(
      {
        trace: this.#session.id,
        client: this.#session.client.address,
        ...typed,
        outcome,
        plugin,
        ms: Math.round(performance.now() - this.#startedAtMs),
      },
      'smtp login',
    );
  }
}
