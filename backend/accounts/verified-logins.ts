/**
 * What verified lately, so that a mail client's next login costs no slow hash.
 * Remembered is a digest under a key of this process, of address, password and
 * the credentials' own salt: a changed password is not remembered any more.
 */
import { hash, randomBytes } from 'node:crypto';

/** A wrong password is remembered this long: a client with a stale one asks again and again. */
const wrongRememberMs = 30_000;
const wrongMax = 10_000;

export class VerifiedLogins {
  /** Never leaves the process, and neither does a digest: so a plain hash behind the key does what an HMAC would, at a tenth of its time. */
  readonly #key = randomBytes(32).toString('base64');
  readonly #rememberMs: number;
  readonly #rememberedMax: number;
  /** Digest → until when, ms; in the order of insertion. */
  readonly #right = new Map<string, number>();
  readonly #wrong = new Map<string, number>();

  constructor(rememberMs: number, rememberedMax: number) {
    this.#rememberMs = rememberMs;
    this.#rememberedMax = rememberedMax;
  }

  /** @param version  Changes with the credentials: their salt; empty for an unknown account. */
  digestOf(address: string, password: string, version: string): string {
    return hash('sha256', `${this.#key}\0${address}\0${version}\0${password}`, 'base64');
  }

  /** `undefined`: not known, the slow hash has to decide. @param nowMs  Monotonic. */
  recall(digest: string, nowMs: number): boolean | undefined {
    if (current(this.#right, digest, nowMs)) return true;
    return current(this.#wrong, digest, nowMs) ? false : undefined;
  }

  remember(digest: string, right: boolean, nowMs: number): void {
    if (right) put(this.#right, digest, nowMs + this.#rememberMs, this.#rememberedMax);
    else put(this.#wrong, digest, nowMs + wrongRememberMs, wrongMax);
  }
}

function current(map: Map<string, number>, digest: string, nowMs: number): boolean {
  const until = map.get(digest);
  if (until === undefined) return false;
  if (until > nowMs) return true;
  map.delete(digest);
  return false;
}

function put(map: Map<string, number>, digest: string, until: number, max: number): void {
  if (max === 0) return;
  map.delete(digest);
  map.set(digest, until);
  if (map.size > max) map.delete(map.keys().next().value!);
}
