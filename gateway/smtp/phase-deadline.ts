/**
 * The one deadline of a session: fixed when a phase begins and never moved by
 * what the client sends (CASES 60). Phases change with every command, so the
 * clock is armed again only when it goes off early, not each time.
 */
import type { Deadline, Deadlines } from '../net/deadline.ts';
import type { Session } from '../session/session.ts';
import type { GatewaySettings } from '../settings.ts';
import type { SmtpRole } from './door-shared.ts';

/** RFC 5321 4.5.3.2.6: a sender waits ten minutes for the reply to its dot; nobody waits longer here. */
export const busyMsMax = 600_000;

export class PhaseDeadline {
  readonly #clock: Deadlines;
  readonly #passed: () => void;
  #atMs = Number.POSITIVE_INFINITY;
  #armedForMs = Number.POSITIVE_INFINITY;
  #entry: Deadline | undefined;

  constructor(clock: Deadlines, passed: () => void) {
    this.#clock = clock;
    this.#passed = passed;
  }

  /** A phase begins that may last `ms`. */
  set(ms: number): void {
    this.#atMs = performance.now() + ms;
    if (this.#armedForMs <= this.#atMs) return;
    this.#entry?.cancel();
    this.#arm(ms);
  }

  cancel(): void {
    this.#entry?.cancel();
    this.#entry = undefined;
    this.#armedForMs = Number.POSITIVE_INFINITY;
  }

  #arm(ms: number): void {
    this.#armedForMs = this.#atMs;
    this.#entry = this.#clock.start(ms, () => {
      this.#armedForMs = Number.POSITIVE_INFINITY;
      const leftMs = this.#atMs - performance.now();
      if (leftMs > 1) this.#arm(leftMs);
      else this.#passed();
    });
  }
}

/** How long the next command may take: the idle time, and before the first one or a login no more than that in all. */
export function commandWaitMs(
  settings: GatewaySettings,
  session: Session,
  role: SmtpRole,
  commandCount: number,
): number {
  const sinceStartMs = Date.now() - session.startedAtMs;
  let ms = settings['smtp.idle_timeout'];
  if (commandCount === 0) ms = Math.min(ms, settings['net.greeting_timeout'] - sinceStartMs);
  if (role !== 'mx' && session.account === undefined) {
    ms = Math.min(ms, settings['net.login_timeout'] - sinceStartMs);
  }
  return Math.max(0, ms);
}
