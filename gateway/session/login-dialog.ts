/**
 * What IMAP and POP3 doors have in common before login: a dialog that decides,
 * and knows no socket. Bytes in, steps out; what came of a step is told back.
 */
import type { Fault } from '../../base/fault.ts';
import type { Verdict } from '../plugins/api.ts';
import type { RefusalWord } from './wording.ts';

export interface LoginAsked {
  /** As the client wrote it. */
  readonly user: string;
  readonly password: string;
  readonly mechanism: string;
}

export type DialogStep =
  /** All bytes are used up. */
  | { readonly do: 'wait' }
  | { readonly do: 'say'; readonly text: string }
  /** Say it, throw away every byte the client sent so far, start TLS, then call `tlsStarted`. */
  | { readonly do: 'start-tls'; readonly text: string }
  /** Check it; then say what the dialog's `login…` methods give. Until then `next` is not called. */
  | { readonly do: 'login'; readonly login: LoginAsked }
  | { readonly do: 'close'; readonly text: string; readonly reason: string };

export interface LoginDialog {
  greeting(): string;
  push(chunk: Buffer): void;
  next(): DialogStep;
  /** Bytes after the command that logged in: the owner's. */
  takeRest(): Buffer;
  tlsStarted(): void;
  loggedIn(capability: string): string;
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
