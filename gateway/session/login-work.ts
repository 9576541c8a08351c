/**
 * What a door does for a dialog that has been given a login: asks the chain,
 * asks the owner, and counts and logs what came of it. One connection, one
 * login at a time.
 */
import type { Log } from '../../base/log.ts';
import { type Address, canonicalAddress } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { Metrics } from '../health/metrics.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { LoginAttempt, Verdict } from '../plugins/api.ts';
import type { Router } from '../routing/router.ts';
import type { SessionStream } from '../routing/session-stream.ts';
import type { DialogStep, LoginDialog, LoginStep } from './login-dialog.ts';
import type { SaslLogin, ScramLogin } from './sasl-exchange.ts';
import type { MutableSession } from './session.ts';
import { isRefusal } from './wording.ts';

/** A name that cannot be an account is shown to plugins and the log up to this length. */
const typedCharsMax = 512;

export interface LoginWorkParts {
  readonly service: 'imap' | 'pop3';
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** The owner has opened a session. */
export interface Opened {
  readonly do: 'hand-over';
  readonly account: Address;
  readonly stream: SessionStream;
  readonly capability: string;
}

export class LoginWork {
  readonly #parts: LoginWorkParts;
  readonly #session: MutableSession;
  #startedMs = 0;
  #attempt: LoginAttempt = { user: '', mechanism: '' };

  constructor(parts: LoginWorkParts, session: MutableSession) {
    this.#parts = parts;
    this.#session = session;
  }

  /** What the dialog makes of the answer, or the session that was opened. */
  async perform(step: LoginStep, dialog: LoginDialog): Promise<DialogStep | Opened> {
    const { login } = step;
    const account = accountOf(login.user);
    // The later steps of a SCRAM exchange are the login the chain was asked about at its first.
    const goesOn = step.do === 'scram-proof' || (step.do === 'login' && 'authMessage' in step.login);
    if (!goesOn) {
      this.#startedMs = performance.now();
      // What plugins see: the canonical name, or what was typed.
      this.#attempt = { user: account ?? login.user.slice(0, typedCharsMax), mechanism: login.mechanism };
    }
    if (step.do === 'login-failed') return this.#failed('credentials', dialog);
    if (!goesOn) {
      const verdict = await this.#parts.chain.ask('login', this.#session, this.#attempt);
      if (isRefusal(verdict)) {
        this.#note('refused');
        return dialog.loginJudged(verdict);
      }
    }
    if (account === undefined) return this.#failed('credentials', dialog);
    switch (step.do) {
      case 'scram-start':
        return this.#scramStart(account, dialog);
      case 'scram-proof':
        return this.#scramProof(account, step.login, dialog);
      case 'login':
        return this.#open(credentialsOf(account, step.login), dialog);
    }
  }

  /** The client gets what was opened. */
  accepted(account: Address): void {
    this.#session.account = account;
    this.#note('ok');
    this.#parts.chain.tell('loggedIn', this.#session);
  }

  async #scramStart(account: Address, dialog: LoginDialog): Promise<DialogStep> {
    const record = await this.#parts.router.scramStart(this.#session, account);
    if (record === 'unavailable') return this.#unavailable(dialog);
    return dialog.salted(record);
  }

  async #scramProof(account: Address, login: ScramLogin, dialog: LoginDialog): Promise<DialogStep> {
    const proven = await this.#parts.router.scramProof(this.#session, scramCredentials(account, login));
    if (proven === 'unavailable') return this.#unavailable(dialog);
    if (proven === 'no') return this.#failed('credentials', dialog);
    return dialog.proven(proven.signature);
  }

  async #open(credentials: Credentials, dialog: LoginDialog): Promise<DialogStep | Opened> {
    const opened = await this.#parts.router.openSession(this.#session, this.#parts.service, credentials);
    if (opened.outcome === 'unavailable') return this.#unavailable(dialog);
    if (opened.outcome === 'refused') return this.#failed(opened.reason, dialog);
    const { stream, capability } = opened;
    const verdict = await this.#judged(credentials.user);
    if (verdict !== undefined && isRefusal(verdict)) {
      stream.on('error', () => {});
      stream.destroy();
      this.#note('refused');
      return dialog.loginJudged(verdict);
    }
    return { do: 'hand-over', account: credentials.user, stream, capability };
  }

  /** What the chain says of somebody whose credentials were right; `undefined` when nobody asks. */
  async #judged(account: Address): Promise<Verdict | undefined> {
    const { chain } = this.#parts;
    if (!chain.wants('authenticated')) return undefined;
    return chain.ask('authenticated', { ...this.#session, account }, this.#attempt);
  }

  #unavailable(dialog: LoginDialog): DialogStep {
    this.#note('unavailable');
    return dialog.loginUnavailable();
  }

  #failed(reason: string, dialog: LoginDialog): DialogStep {
    this.#note('failed');
    if (reason === 'credentials') this.#parts.chain.tell('loginFailed', this.#session, this.#attempt);
    return dialog.loginRefused(reason);
  }

  #note(outcome: 'ok' | 'failed' | 'refused' | 'unavailable'): void {
    const { metrics, log } = this.#parts;
    const { id, protocol, client } = this.#session;
    metrics.logins.inc({ protocol, outcome });
    log.info(
      {
        trace: id,
        protocol,
        client: client.address,
        user: this.#attempt.user,
        mechanism: this.#attempt.mechanism,
        outcome,
        ms: Math.round(performance.now() - this.#startedMs),
      },
      'login',
    );
  }
}

/** What goes to the owner. @param user  The canonical form of the login's user. */
export function credentialsOf(user: Address, login: SaslLogin): Credentials {
  if ('password' in login) return { mechanism: 'password', user, password: login.password };
  if ('token' in login) return { mechanism: 'token', user, token: login.token };
  return scramCredentials(user, login);
}

export function scramCredentials(
  user: Address,
  { authMessage, proof }: ScramLogin,
): Credentials & { readonly mechanism: 'scram' } {
  return { mechanism: 'scram', user, authMessage, proof: proof.toString('base64') };
}

/** The account a typed name means; `undefined` when it can be none. */
export function accountOf(user: string): Address | undefined {
  try {
    return canonicalAddress(user);
  } catch {
    return undefined;
  }
}
