/** What an IMAP session is made with: limits, transport, account; and what a command of it is called with. */
import type { Log } from '../../../base/log.ts';
import type { Taking } from '../../../cluster-protocol/resumption.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';
import type { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { Account } from '../../accounts/accounts.ts';
import type { Folder } from '../../store/store.ts';
import type { SessionBook } from '../session-book.ts';
import type { RestoredView } from './mailbox-view.ts';
import type { Transport } from './reply-writer.ts';
import type { SessionClock } from './session-clock.ts';
import type { ImapState } from './session-state.ts';

export interface ImapSessionLimits {
  readonly lineBytesMax: number;
  readonly commandBytesMax: number;
  readonly idleMs: number;
  /** A client that reads nothing for this long is let go. */
  readonly stallMs: number;
  /** Bad commands before the session ends. */
  readonly errorsMax: number;
  /** More are answered later. 0: no limit. */
  readonly commandsPerSecondMax: number;
}

export const imapSessionLimits: ImapSessionLimits = {
  lineBytesMax: 64 * 1024,
  commandBytesMax: 256 * 1024,
  idleMs: 30 * 60_000,
  stallMs: 5 * 60_000,
  errorsMax: 50,
  commandsPerSecondMax: 0,
};

/** A session that began at another backend, and what it needs of this one. */
export interface RestoredSession {
  readonly state: ImapState;
  readonly taking: Taking;
  readonly selected:
    | { readonly folder: Folder; readonly readOnly: boolean; readonly view: RestoredView }
    | undefined;
}

export interface ImapSessionOptions {
  readonly account: Account;
  readonly transport: Transport;
  readonly limits: ImapSessionLimits;
  readonly log: Log;
  /** For the log line at the end. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Called once, when the session is over and the account no longer needed. */
  readonly ended: () => void;
  readonly clock?: SessionClock;
  /** The gateway reads marks: the session can outlive this backend. */
  readonly resumable?: { readonly book: SessionBook; readonly ticket: SessionTicket } | undefined;
  readonly restored?: RestoredSession | undefined;
  /** The gateway can compress the client's side (RFC 4978). */
  readonly canCompress?: boolean;
}

/** What one command is called with. */
export interface CommandCall {
  readonly tag: string;
  /** In capitals, without `UID `. */
  readonly name: string;
  readonly byUid: boolean;
  readonly cursor: ImapCursor;
}
