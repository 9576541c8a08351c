/**
 * What IMAP and POP3 doors have in common before login: a dialog that decides,
 * and knows no socket. Bytes in, steps out; what came of a step is told back.
 */
import type { Fault } from '../../base/fault.ts';
import type { Verdict } from '../plugins/api.ts';
import type { SaslLogin, SaslStep, ScramLogin } from './sasl-exchange.ts';
import type { RefusalWord } from './wording.ts';

/** `user`: as the client wrote it. */
export type LoginAsked = SaslLogin & { readonly mechanism: string };

interface Named {
  readonly user: string;
  readonly mechanism: string;
}

/** Steps about a login that somebody else has to do; until it is done `next` is not called. */
export type LoginStep =
  /** Check it; then say what the dialog's `login…` methods give. */
  | { readonly do: 'login'; readonly login: LoginAsked }
  /** Ask the owner what a SCRAM exchange begins with; then `salted`. */
  | { readonly do: 'scram-start'; readonly login: Named }
  /** Have the owner check the proof; then `proven`. */
  | { readonly do: 'scram-proof'; readonly login: ScramLogin & Named }
  /** It has failed before the owner saw it; then `loginRefused`. */
  | { readonly do: 'login-failed'; readonly login: Named };

export type DialogStep =
  /** All bytes are used up. */
  | { readonly do: 'wait' }
  | { readonly do: 'say'; readonly text: string }
  /** Say it, throw away every byte the client sent so far, start TLS, then call `tlsStarted`. */
  | { readonly do: 'start-tls'; readonly text: string }
  | LoginStep
  | { readonly do: 'close'; readonly text: string; readonly reason: string };

export interface LoginDialog {
  greeting(): string;
  push(chunk: Buffer): void;
  next(): DialogStep;
  /** Bytes after the command that logged in: the owner's. */
  takeRest(): Buffer;
  tlsStarted(): void;
  loggedIn(capability: string): string;
  salted(record: { readonly salt: Buffer; readonly iterations: number }): DialogStep;
  /** @param signature  base64 */
  proven(signature: string): DialogStep;
  /** The same words whether the user exists or not (CASES 69). */
  loginFailed(): DialogStep;
  /** No owner can be reached now. */
  loginUnavailable(): DialogStep;
  /** The account has a limit or is switched off; `reason` as in `cluster-protocol/link.ts`. */
  loginRefused(reason: string): DialogStep;
  /** The chain's verdict on the login. */
  loginJudged(verdict: Verdict & { readonly word: RefusalWord }): DialogStep;
}

/** Words of a protocol that do not depend on where a dialog stands. */
export interface DialogWords {
  /** The chain's verdict on the connection, as the only line the client gets. */
  connectionJudged(verdict: Verdict & { readonly word: RefusalWord }): string;
  readonly tooSlow: string;
  readonly stopping: string;
  /** The owner of a running session has gone. */
  readonly lost: string;
}

/** The part of an exchange that is not the dialog's own; `undefined` for what it says itself. */
export function loginStepOf(step: SaslStep, mechanism: string): LoginStep | undefined {
  if ('salt' in step) return { do: 'scram-start', login: { user: step.salt, mechanism } };
  if ('prove' in step) return { do: 'scram-proof', login: { ...step.prove, mechanism } };
  if ('login' in step) return { do: 'login', login: { ...step.login, mechanism } };
  if ('failed' in step && step.user !== undefined)
    return { do: 'login-failed', login: { user: step.user, mechanism } };
  return undefined;
}

/** Bad commands and failed logins a connection may make before it ends. */
export const errorsMax = 10;

/** HTTP at a mail port is a web page that makes a browser attack us (CASES 63, ALPACA). */
export function isHttpVerb(word: string): boolean {
  return /^(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PRI)$/.test(word);
}

/** Faults of the readers after which the place of the next command is not known. */
export function endsFraming(fault: Fault): boolean {
  return fault.code === 'line-too-long' || fault.code === 'bare-newline' || fault.code === 'command-too-big';
}
