/**
 * What the door remembers of one HTTP connection: how many requests run, how
 * long it may still be without one, what it has cost. Protocol and sockets are
 * elsewhere.
 */
import type { MutableSession } from '../session/session.ts';
import type { HttpLimits } from './http-limits.ts';
import type { Refusal } from './refusals.ts';

export class HttpConnection {
  readonly session: MutableSession;
  /** What `connect` of the chain refused, to be said to the first request. */
  refusal: Refusal | undefined;
  requests = 0;
  failedLogins = 0;
  bytesOut = 0;
  /** Ends the connection after what has been written; until TLS is up there is nothing to wait for. */
  finish: () => void;
  /** Accounts that have logged in on it: reported once each. */
  readonly accounts = new Set<string>();
  readonly #limits: HttpLimits;
  readonly #cut: (reason: string) => void;
  #active = 0;
  #resetsLeft: number;
  #resetsAtMs = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #draining = false;

  /**
   * @param firstRequestMs  From now to the first whole request header, TLS included.
   * @param cut  Ends the connection at once.
   */
  constructor(
    session: MutableSession,
    limits: HttpLimits,
    firstRequestMs: number,
    cut: (reason: string) => void,
  ) {
    this.session = session;
    this.#limits = limits;
    this.#cut = cut;
    this.#resetsLeft = limits.resetBurst;
    this.finish = () => cut('drained');
    this.#expectRequest(firstRequestMs);
  }

  get active(): number {
    return this.#active;
  }

  /**
   * The client has taken back a request. A few are a user who clicks fast; more are an attack that costs us a
   * request each and the client nothing (CVE-2023-44487).
   */
  reset(): void {
    const nowMs = performance.now();
    const earned = ((nowMs - this.#resetsAtMs) / 1000) * this.#limits.resetsPerSecond;
    this.#resetsLeft = Math.min(this.#limits.resetBurst, this.#resetsLeft + earned) - 1;
    this.#resetsAtMs = nowMs;
    if (this.#resetsLeft < 0) this.#cut('resets');
  }

  /** A request's header is whole. False: one too many, the connection is being cut. */
  begin(): boolean {
    clearTimeout(this.#timer);
    this.#active += 1;
    this.requests += 1;
    if (this.#active <= this.#limits.concurrentRequestsMax) return true;
    this.#cut('too-many-requests');
    return false;
  }

  /** A request is answered or has broken off. */
  end(): void {
    this.#active -= 1;
    if (this.#active > 0) return;
    if (this.#draining) this.finish();
    else this.#expectRequest(this.#limits.idleMs);
  }

  /** No further request after this one. */
  get exhausted(): boolean {
    return this.#draining || this.requests >= this.#limits.requestsPerConnectionMax;
  }

  /** Ends when the running requests have. */
  drain(): void {
    this.#draining = true;
    if (this.#active === 0) this.finish();
  }

  closed(): void {
    clearTimeout(this.#timer);
  }

  #expectRequest(waitMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#cut('idle'), waitMs);
    this.#timer.unref();
  }
}
