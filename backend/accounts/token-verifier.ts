/**
 * Whose an OAuth access token is: by the issuer's keys where the token is
 * signed, else by asking the issuer. An issuer that cannot be reached is a
 * failure for now, never a yes and never a no.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type Address, canonicalAddress } from '../../cluster-protocol/ids.ts';
import type { LoginSettings } from '../../cluster-protocol/login-settings.ts';
import { Introspection, KeySet } from './issuer.ts';
import {
  hasSigned,
  isSignedForm,
  type Judgement,
  judgeClaims,
  readSignedToken,
  type TokenRules,
  tokenCharsMax,
} from './json-web-token.ts';

export interface TokenVerifier {
  /** The account a good token is for; `undefined` for any other. @throws {Fault} `issuer-failed`, `busy` */
  userOf(token: string): Promise<Address | undefined>;
}

const rememberedMax = 20_000;
/** A bad token is not asked about again for this long: a client with a stale one tries again and again. */
const badRememberMs = 30_000;
/** Tokens being judged at once. */
const atOnceMax = 64;

interface Remembered {
  readonly user: Address | undefined;
  readonly untilMs: number;
}

/**
 * @param configDir  What the path of the secret is relative to.
 * @returns `undefined` where no issuer is named.
 * @throws {Fault} `bad-config` when the secret cannot be read.
 */
export async function openTokenVerifier(
  settings: LoginSettings,
  configDir: string,
  log: Log,
): Promise<TokenVerifier | undefined> {
  const issuer = settings['login.oauth_issuer'];
  if (issuer === '') return undefined;
  const timeoutMs = settings['login.oauth_timeout'];
  const jwks = settings['login.oauth_jwks'];
  const introspection = settings['login.oauth_introspection'];
  return new IssuerVerifier(
    { issuer, audience: settings['login.oauth_audience'], userClaim: settings['login.oauth_user_claim'] },
    jwks === '' ? undefined : new KeySet(jwks, timeoutMs),
    introspection === ''
      ? undefined
      : new Introspection(
          introspection,
          settings['login.oauth_client_id'],
          await readSecret(settings['login.oauth_client_secret_file'], configDir),
          timeoutMs,
        ),
    settings['login.oauth_remember'],
    log,
  );
}

async function readSecret(file: string, configDir: string): Promise<string> {
  if (file === '') return '';
  try {
    return (await readFile(path.resolve(configDir, file), 'utf8')).split(/\r?\n/, 1)[0] ?? '';
  } catch (cause) {
    throw new Fault(
      'bad-config',
      `login.oauth_client_secret_file: ${file} cannot be read; name a file this program may read`,
      { cause },
    );
  }
}

class IssuerVerifier implements TokenVerifier {
  readonly #rules: TokenRules;
  readonly #keys: KeySet | undefined;
  readonly #introspection: Introspection | undefined;
  readonly #rememberMs: number;
  readonly #log: Log;
  /** Tokens are remembered by a digest under a key of this process. */
  readonly #digestKey = randomBytes(32);
  readonly #remembered = new Map<string, Remembered>();
  readonly #judging = new Map<string, Promise<Address | undefined>>();

  constructor(
    rules: TokenRules,
    keys: KeySet | undefined,
    introspection: Introspection | undefined,
    rememberMs: number,
    log: Log,
  ) {
    this.#rules = rules;
    this.#keys = keys;
    this.#introspection = introspection;
    this.#rememberMs = rememberMs;
    this.#log = log;
  }

  userOf(token: string): Promise<Address | undefined> {
    if (token.length > tokenCharsMax) return Promise.resolve(undefined);
    const digest = createHmac('sha256', this.#digestKey).update(token).digest('base64');
    const remembered = this.#remembered.get(digest);
    if (remembered !== undefined && remembered.untilMs > performance.now())
      return Promise.resolve(remembered.user);
    const judging = this.#judging.get(digest);
    if (judging !== undefined) return judging;
    if (this.#judging.size >= atOnceMax)
      return Promise.reject(new Fault('issuer-failed', 'too many tokens to judge at once'));
    const work = this.#judge(token, digest).finally(() => this.#judging.delete(digest));
    this.#judging.set(digest, work);
    return work;
  }

  async #judge(token: string, digest: string): Promise<Address | undefined> {
    const judged = await this.#judgement(token, Date.now() / 1000);
    const user = judged.good ? addressOf(judged.user) : undefined;
    if (user === undefined)
      this.#log.info(
        { event: 'token-refused', why: judged.good ? 'no address' : judged.why },
        'token refused',
      );
    const lastsMs = judged.good ? judged.untilS * 1000 - Date.now() : badRememberMs;
    const rememberMs = Math.max(0, Math.min(lastsMs, user === undefined ? badRememberMs : this.#rememberMs));
    this.#remembered.delete(digest);
    this.#remembered.set(digest, { user, untilMs: performance.now() + rememberMs });
    if (this.#remembered.size > rememberedMax) this.#remembered.delete(this.#remembered.keys().next().value!);
    return user;
  }

  async #judgement(token: string, nowS: number): Promise<Judgement> {
    if (this.#keys !== undefined && isSignedForm(token)) {
      const read = readSignedToken(token);
      if (read === undefined) return { good: false, why: 'form or algorithm' };
      for (const key of await this.#keys.keysFor(read)) {
        if (await hasSigned(key, read)) return judgeClaims(read.claims, this.#rules, nowS, true);
      }
      return { good: false, why: 'signature' };
    }
    if (this.#introspection === undefined) return { good: false, why: 'form' };
    const claims = await this.#introspection.claimsOf(token);
    return claims === undefined
      ? { good: false, why: 'not active' }
      : judgeClaims(claims, this.#rules, nowS, false);
  }
}

function addressOf(user: string): Address | undefined {
  try {
    return canonicalAddress(user);
  } catch {
    return undefined;
  }
}
