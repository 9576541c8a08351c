/**
 * Talking to the issuer of tokens: its key set (RFC 7517) and its introspection
 * endpoint (RFC 7662), within a deadline and a size. What it does not say is
 * never taken for a yes.
 */
import { Fault } from '../../base/fault.ts';
import {
  type Claims,
  type IssuerKey,
  mayHaveSigned,
  readIssuerKey,
  type SignedToken,
} from './json-web-token.ts';

const answerBytesMax = 256 * 1024;
const keysMax = 100;
/** A key set is fetched again after this; while the issuer is away the old one does for an hour. */
const keysFreshMs = 600_000;
const keysUsableMs = 3_600_000;
/** A token that names a key we have not seen makes us look again, but not more often than this. */
const keysAgainMs = 30_000;
/** After a failure nobody waits for the issuer again for this long. */
const downMs = 1000;

/** Requests that fail at once for a moment after one has failed. */
class Reach {
  readonly #timeoutMs: number;
  #downUntilMs = Number.NEGATIVE_INFINITY;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** @returns A JSON object. @throws {Fault} `issuer-failed` */
  async json(url: string, init: RequestInit): Promise<Record<string, unknown>> {
    if (performance.now() < this.#downUntilMs)
      throw new Fault('issuer-failed', 'the issuer was down a moment ago');
    try {
      const signal = AbortSignal.timeout(this.#timeoutMs);
      const response = await fetch(url, { ...init, redirect: 'error', signal });
      const text = await boundedText(response);
      if (response.status !== 200) throw new Error(`it answered ${response.status}`);
      const value: unknown = JSON.parse(text);
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new Error('no JSON object');
      return value as Record<string, unknown>;
    } catch (cause) {
      this.#downUntilMs = performance.now() + downMs;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Fault('issuer-failed', `${new URL(url).host}: ${reason}`, { cause });
    }
  }
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > answerBytesMax) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export class KeySet {
  readonly #url: string;
  readonly #reach: Reach;
  #keys: readonly IssuerKey[] = [];
  #fetchedMs = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | undefined;

  constructor(url: string, timeoutMs: number) {
    this.#url = url;
    this.#reach = new Reach(timeoutMs);
  }

  /** Keys that may have signed the token; none: it is not the issuer's. @throws {Fault} `issuer-failed` */
  async keysFor(token: SignedToken): Promise<readonly IssuerKey[]> {
    const ageMs = performance.now() - this.#fetchedMs;
    if (ageMs > keysFreshMs) {
      await this.#fetch().catch((error: unknown) => {
        if (ageMs > keysUsableMs) throw error;
      });
    }
    const found = this.#fitting(token);
    if (found.length > 0 || performance.now() - this.#fetchedMs < keysAgainMs) return found;
    await this.#fetch();
    return this.#fitting(token);
  }

  #fitting(token: SignedToken): readonly IssuerKey[] {
    return this.#keys.filter((key) => mayHaveSigned(key, token)).slice(0, 4);
  }

  #fetch(): Promise<void> {
    this.#fetching ??= this.#reach
      .json(this.#url, { headers: { accept: 'application/json' } })
      .then(({ keys }) => {
        if (!Array.isArray(keys)) throw new Fault('issuer-failed', 'the issuer sent no key set');
        this.#keys = keys.slice(0, keysMax).flatMap((raw) => readIssuerKey(raw) ?? []);
        this.#fetchedMs = performance.now();
      })
      .finally(() => {
        this.#fetching = undefined;
      });
    return this.#fetching;
  }
}

export class Introspection {
  readonly #url: string;
  readonly #authorization: string;
  readonly #reach: Reach;

  constructor(url: string, clientId: string, clientSecret: string, timeoutMs: number) {
    this.#url = url;
    // RFC 6749 2.3.1: both are form-encoded first.
    const [id, secret] = [clientId, clientSecret].map((part) =>
      encodeURIComponent(part).replaceAll('%20', '+'),
    );
    this.#authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
    this.#reach = new Reach(timeoutMs);
  }

  /** What the issuer says of a token; `undefined`: it is not active. @throws {Fault} `issuer-failed` */
  async claimsOf(token: string): Promise<Claims | undefined> {
    const answer = await this.#reach.json(this.#url, {
      method: 'POST',
      headers: {
        authorization: this.#authorization,
        accept: 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ token, token_type_hint: 'access_token' }).toString(),
    });
    if (typeof answer.active !== 'boolean')
      throw new Fault('issuer-failed', 'the issuer did not say if it is active');
    return answer.active ? answer : undefined;
  }
}
