/**
 * One request, from its header to the end of its answer: form, route, login by
 * the chain, the owner, the answer. Whatever goes wrong ends as one refusal.
 */
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { addressParts } from '../../cluster-protocol/ids.ts';
import { type Credentials, linkStatus } from '../../cluster-protocol/link.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { LoginAttempt } from '../plugins/api.ts';
import type { OwnerStream, Router } from '../routing/router.ts';
import { accountOf, credentialsOf } from '../session/login-work.ts';
import type { SaslOffer } from '../session/sasl-exchange.ts';
import type { Session } from '../session/session.ts';
import { challenges, httpLogin } from './authorization.ts';
import { copyAnswer, requestBody } from './body-copy.ts';
import type { Exchange } from './exchange.ts';
import type { HttpConnection } from './http-connection.ts';
import type { HttpLimits } from './http-limits.ts';
import { innerAnswer, ownerHeaders } from './owner-request.ts';
import {
  forbidden,
  type HeaderFields,
  notFound,
  type Refusal,
  refusalOf,
  safeFields,
  tooMany,
  unauthorized,
  unavailable,
} from './refusals.ts';
import type { HeaderCheck } from './request-check.ts';
import { type Target, targetOf } from './request-target.ts';

export interface HandlerParts {
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  readonly limits: HttpLimits;
  readonly oauth: SaslOffer['oauth'];
}

/** A name that cannot be an account is shown to plugins and the log up to this length. */
const typedCharsMax = 512;

const page = 'Postern. Mail is served here by JMAP: /.well-known/jmap\n';

type Outcome =
  | { readonly kind: 'answered'; readonly status: number; readonly bytes: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly why?: string }
  | { readonly kind: 'cut'; readonly why: string };

/** Answers one request and logs it. Never rejects. True: the connection should end. */
export async function handleRequest(
  parts: HandlerParts,
  connection: HttpConnection,
  exchange: Exchange,
  check: HeaderCheck,
): Promise<boolean> {
  const startedAtMs = performance.now();
  const trace = `${connection.session.id}.${connection.requests}`;
  let outcome: Outcome;
  let account: string | undefined;
  try {
    outcome = await new RequestWork(parts, connection, exchange, trace, (name) => {
      account = name;
    }).run(check);
  } catch (error) {
    outcome = outcomeOfError(error);
    if (!isFault(error)) parts.log.error({ trace, error: String(error) }, 'http request failed');
  }
  const close = finish(connection, exchange, outcome);
  const target = exchange.target.split('?', 1)[0];
  parts.log.info(
    {
      trace,
      client: connection.session.client.address,
      account,
      method: exchange.method.slice(0, 20),
      target,
      status:
        outcome.kind === 'answered'
          ? outcome.status
          : outcome.kind === 'refused'
            ? outcome.refusal.status
            : 0,
      why: outcome.kind === 'answered' ? undefined : outcome.why,
      bytes: outcome.kind === 'answered' ? outcome.bytes : 0,
      closed: close || undefined,
      ms: Math.round(performance.now() - startedAtMs),
    },
    'http request',
  );
  return close;
}

/** Says what is left to say. True when the connection ends. */
function finish(connection: HttpConnection, exchange: Exchange, outcome: Outcome): boolean {
  if (outcome.kind === 'answered') return connection.exhausted;
  if (outcome.kind === 'cut' || exchange.headSent || exchange.gone) {
    if (!exchange.gone) exchange.breakOff();
    return outcome.kind === 'cut';
  }
  const { refusal } = outcome;
  const body = Buffer.from(`${refusal.words}\n`);
  const unread = exchange.hasBody && !exchange.body.readableEnded;
  // A body that is not read any further must not be taken for the next request.
  const close = refusal.close === true || connection.exhausted || (unread && !exchange.multiplexed);
  exchange.head(
    refusal.status,
    {
      ...safeFields,
      'content-type': 'text/plain; charset=utf-8',
      'content-length': String(body.length),
      'cache-control': 'no-store',
      ...refusal.fields,
      ...(close ? { connection: 'close' } : {}),
    },
    false,
  );
  exchange.out.end(exchange.method === 'HEAD' ? undefined : body);
  if (unread) exchange.dropBody();
  return close;
}

class RequestWork {
  readonly #parts: HandlerParts;
  readonly #connection: HttpConnection;
  readonly #exchange: Exchange;
  readonly #trace: string;
  readonly #named: (account: string) => void;

  constructor(
    parts: HandlerParts,
    connection: HttpConnection,
    exchange: Exchange,
    trace: string,
    named: (account: string) => void,
  ) {
    this.#parts = parts;
    this.#connection = connection;
    this.#exchange = exchange;
    this.#trace = trace;
    this.#named = named;
  }

  async run(check: HeaderCheck): Promise<Outcome> {
    const { refusal } = this.#connection;
    if (refusal !== undefined) return refused({ ...refusal, close: true }, 'connect');
    if (!check.ok) return refused({ status: check.status, words: 'Bad request', close: true }, check.why);
    const target = targetOf(this.#exchange.target);
    const early = this.#mayGoOn(target);
    if (early !== undefined) return early;
    if (target.kind === 'page') return this.#page();
    if (target.kind !== 'owner') return refused(notFound);
    const login = await this.#credentials();
    if ('kind' in login) return login;
    return await this.#ask(target.path, check.authority, login);
  }

  /** Everything that can be refused by looking at the request alone. */
  #mayGoOn(target: Target): Outcome | undefined {
    const { method, headers } = this.#exchange;
    if (target.kind === 'malformed') {
      return refused({ status: 400, words: 'Bad request', close: true }, 'target');
    }
    if (target.kind === 'unknown') return refused(notFound);
    const methods = target.kind === 'page' ? ['GET', 'HEAD'] : target.methods;
    if (!methods.includes(method)) {
      return refused({ status: 405, words: 'Method not allowed', fields: { allow: methods.join(', ') } });
    }
    // A browser sends remembered Basic credentials along with what other sites make it ask (CASES 84).
    if (headers['sec-fetch-site'] === 'cross-site') return refused(forbidden, 'cross-site');
    if (method === 'POST' && !/^application\/json(?:\s*;|$)/i.test(headers['content-type'] ?? '')) {
      return refused({ status: 415, words: 'application/json is needed' });
    }
    return undefined;
  }

  #page(): Outcome {
    const { method } = this.#exchange;
    const fields = {
      ...this.#fields(),
      'content-type': 'text/plain; charset=utf-8',
      'content-length': String(page.length),
    };
    this.#exchange.head(200, fields, false);
    this.#exchange.out.end(method === 'HEAD' ? undefined : page);
    return { kind: 'answered', status: 200, bytes: page.length };
  }

  /** Who is asking, as far as the chain lets them. */
  async #credentials(): Promise<Credentials | Outcome> {
    const { chain, router, limits, oauth } = this.#parts;
    const asked = httpLogin(this.#exchange.headers.authorization, oauth);
    if (asked === undefined) return refused(this.#unauthorized);
    if (this.#connection.failedLogins >= limits.failedLoginsPerConnectionMax)
      return refused(tooMany, 'failed logins');
    const { login, mechanism } = asked;
    const user = accountOf(login.user);
    const attempt = { user: user ?? login.user.slice(0, typedCharsMax), mechanism };
    const verdict = await chain.ask('login', this.#view(undefined), attempt);
    const refusal = refusalOf(verdict);
    if (refusal === 'disconnect') return { kind: 'cut', why: `login: ${verdict.plugin ?? ''}` };
    if (refusal !== undefined) return refused(refusal, `login: ${verdict.plugin ?? ''}`);
    if (user === undefined || !router.isLocalDomain(addressParts(user).domain))
      return this.#loginFailed(attempt);
    return credentialsOf(user, login);
  }

  async #ask(path: string, authority: string, credentials: Credentials): Promise<Outcome> {
    const { router, limits } = this.#parts;
    const { method, headers, hasBody, body } = this.#exchange;
    const request = { method, path, authority, contentType: headers['content-type'], trace: this.#trace };
    const sent = hasBody
      ? await requestBody(body, { bytesMax: limits.bodyBytesMax, totalMs: limits.bodyMs })
      : undefined;
    const answer = await router.request(
      'http',
      credentials.user,
      ownerHeaders(this.#connection.session, credentials, request),
      sent,
    );
    try {
      return await this.#answer(answer, credentials);
    } finally {
      if (!answer.stream.destroyed) answer.stream.destroy();
      if (sent !== undefined && !Buffer.isBuffer(sent)) sent.destroy();
    }
  }

  async #answer(answer: OwnerStream, credentials: Credentials): Promise<Outcome> {
    answer.stream.on('error', () => {});
    switch (answer.status) {
      case linkStatus.accepted:
        break;
      case linkStatus.refused:
      case linkStatus.noSuchAccount:
        return this.#loginFailed(attemptOf(credentials));
      default:
        return refused(unavailable, `owner answered ${answer.status}`);
    }
    const turnedAway = await this.#loggedIn(credentials);
    if (turnedAway !== undefined) return turnedAway;
    const { status, fields } = innerAnswer(answer.headers);
    const { limits } = this.#parts;
    const { out, method } = this.#exchange;
    this.#exchange.head(status, { ...this.#fields(), ...fields }, method === 'HEAD');
    if (method === 'HEAD') return { kind: 'answered', status, bytes: 0 };
    const bytes = await copyAnswer(answer.stream, out, {
      stallMs: limits.stallMs,
      totalMs: limits.responseMs,
    });
    out.end();
    this.#connection.bytesOut += bytes;
    return { kind: 'answered', status, bytes };
  }

  #fields(): HeaderFields {
    const fields: HeaderFields = { ...safeFields, 'cache-control': 'no-store' };
    return this.#connection.exhausted ? { ...fields, connection: 'close' } : fields;
  }

  get #unauthorized(): Refusal {
    return { ...unauthorized, fields: { 'www-authenticate': challenges(this.#parts.oauth) } };
  }

  #loginFailed(attempt: LoginAttempt): Outcome {
    this.#connection.failedLogins += 1;
    this.#parts.chain.tell('loginFailed', this.#view(undefined), attempt);
    return refused(this.#unauthorized, 'credentials');
  }

  /** The owner has found the credentials right. @returns What the client gets instead, when the chain turns the account away. */
  async #loggedIn(credentials: Credentials): Promise<Outcome | undefined> {
    const { user } = credentials;
    this.#named(user);
    const { accounts } = this.#connection;
    if (accounts.has(user)) return undefined;
    const { chain } = this.#parts;
    const verdict = await chain.ask('authenticated', this.#view(user), attemptOf(credentials));
    const refusal = refusalOf(verdict);
    if (refusal === 'disconnect') return { kind: 'cut', why: `authenticated: ${verdict.plugin ?? ''}` };
    if (refusal !== undefined) return refused(refusal, `authenticated: ${verdict.plugin ?? ''}`);
    if (accounts.size < 100) accounts.add(user);
    chain.tell('loggedIn', this.#view(user));
    return undefined;
  }

  /** Requests of one connection may come from several accounts: each gets its own view of the session. */
  #view(account: string | undefined): Session {
    return { ...this.#connection.session, account };
  }
}

function attemptOf({ user, mechanism }: Credentials): LoginAttempt {
  return { user, mechanism: mechanism === 'token' ? 'BEARER' : 'BASIC' };
}

function refused(refusal: Refusal, why?: string): Outcome {
  return why === undefined ? { kind: 'refused', refusal } : { kind: 'refused', refusal, why };
}

function outcomeOfError(error: unknown): Outcome {
  if (!(error instanceof Fault)) return refused({ status: 500, words: 'Internal error', close: true }, 'bug');
  switch (error.code) {
    case 'message-too-big':
      return refused({ status: 413, words: 'Request too large', close: true }, error.code);
    case 'deadline-passed':
      return refused({ status: 408, words: 'Too slow', close: true }, error.code);
    case 'gone':
      return { kind: 'cut', why: 'client gone' };
    default:
      return refused(unavailable, `${error.code}: ${error.message}`);
  }
}
