/** AUTH (RFC 4954): the exchange of one connection, the chain's question, and the owner's word. */
import { type Address, canonicalAddress } from '../../cluster-protocol/ids.ts';
import { type Mechanism, type SaslState, type SaslStep, startSasl, stepSasl } from '../session/sasl.ts';
import type { MutableSession } from '../session/session.ts';
import type { DoorShared } from './door-shared.ts';
import { type Reply, replies, replyFor } from './reply.ts';

export interface Attempt {
  readonly mechanism: Mechanism;
  readonly user: string;
  readonly password: string;
}

type DialogStep = { readonly reply: Reply } | { readonly challenge: string } | Attempt;

export class LoginDialog {
  readonly #door: Pick<DoorShared, 'chain' | 'router' | 'log'>;
  readonly #session: MutableSession;
  #mechanism: Mechanism = 'PLAIN';
  #state: SaslState = { wait: 'plain' };

  constructor(door: Pick<DoorShared, 'chain' | 'router' | 'log'>, session: MutableSession) {
    this.#door = door;
    this.#session = session;
  }

  /** @param argument  What follows `AUTH `. */
  begin(argument: string): DialogStep {
    const [name = '', initial, ...more] = argument.split(' ', 3);
    const mechanism = name.toUpperCase();
    if (name === '' || more.length > 0) return { reply: replies.syntax };
    if (mechanism !== 'PLAIN' && mechanism !== 'LOGIN') return { reply: replies.mechanism };
    this.#mechanism = mechanism;
    return this.#take(startSasl(mechanism, initial));
  }

  /** The client's answer to a challenge. */
  line(text: string): DialogStep {
    return this.#take(stepSasl(this.#state, text));
  }

  #take(step: SaslStep): DialogStep {
    if ('challenge' in step) {
      this.#state = step.state;
      return { challenge: step.challenge };
    }
    if ('failed' in step) {
      const failures = {
        cancelled: replies.loginCancelled,
        base64: replies.badBase64,
        refused: replies.badLogin,
      };
      return { reply: failures[step.failed] };
    }
    return { mechanism: this.#mechanism, user: step.user, password: step.password };
  }

  /** `wrong`: counts as an error of the connection. A session whose login is good has its account set. */
  async check(attempt: Attempt): Promise<{ readonly reply: Reply; readonly wrong: boolean }> {
    const { chain, router, log } = this.#door;
    const startedAtMs = performance.now();
    const user = accountNamed(attempt.user);
    const typed = { user: user ?? attempt.user.slice(0, 1024), mechanism: attempt.mechanism };
    const verdict = await chain.ask('login', this.#session, typed);
    const refusal = replyFor('login', verdict);
    let outcome: 'yes' | 'no' | 'unavailable' | 'refused' = 'refused';
    if (refusal === undefined) {
      outcome =
        user === undefined
          ? 'no'
          : await router.login(this.#session, { mechanism: 'password', user, password: attempt.password });
    }
    log.info(
      {
        trace: this.#session.id,
        client: this.#session.client.address,
        user: typed.user,
        mechanism: attempt.mechanism,
        outcome,
        plugin: verdict.plugin,
        ms: Math.round(performance.now() - startedAtMs),
      },
      'smtp login',
    );
    if (refusal !== undefined) return { reply: refusal, wrong: true };
    if (outcome === 'yes') {
      this.#session.account = user;
      chain.tell('loggedIn', this.#session);
      return { reply: replies.loggedIn, wrong: false };
    }
    if (outcome === 'unavailable') return { reply: replies.loginUnavailable, wrong: false };
    chain.tell('loginFailed', this.#session, typed);
    return { reply: replies.badLogin, wrong: true };
  }
}

/** The account a typed user name means; `undefined` when it can be none. */
function accountNamed(typed: string): Address | undefined {
  try {
    return canonicalAddress(typed);
  } catch {
    return undefined;
  }
}
