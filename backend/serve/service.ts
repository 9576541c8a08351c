/**
 * What a service of the backend is given when a gateway opens a stream: the
 * facts of the opening, already checked for version, ownership and form.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Log } from '../../base/log.ts';
import type { Address, Epoch } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { Accounts } from '../accounts/accounts.ts';
import type { Aliases } from '../accounts/aliases.ts';
import type { SessionBook } from './session-book.ts';

export interface Opening {
  /** Empty for `deliver`, `settle` and `admin`. */
  readonly account: Address;
  readonly epoch: Epoch;
  readonly client: { readonly address: string; readonly port: number };
  readonly tls: string | undefined;
  readonly trace: string;
  readonly credentials: Credentials | undefined;
  readonly headers: IncomingHttpHeaders;
}

export interface ServiceContext {
  readonly accounts: Accounts;
  /** Absent: there are none. */
  readonly aliases?: Aliases;
  readonly log: Log;
  /** The settings of `backend/settings.ts`. */
  readonly settings: import('../settings.ts').BackendSettings;
  /** Resumable sessions; without it sessions end with their backend. */
  readonly book?: SessionBook;
  /** May this backend act for the account now? Else who should be asked. */
  owns(
    address: Address,
  ):
    | { readonly ok: true; readonly epoch: Epoch }
    | { readonly ok: false; readonly owner: string; readonly epoch: Epoch };
  /** How much longer this backend may act unless its lease is renewed, in milliseconds. */
  leaseLeftMs?(): number;
}

/** What a session runs on: a stream of a link, or a socket of its own that is used like one. */
export type SessionStream = Duplex &
  Pick<ServerHttp2Stream, 'respond' | 'headersSent' | 'close' | 'setTimeout'>;

/** Serves one session, as a `Service` does a request. */
export type SessionService = (
  stream: SessionStream,
  opening: Opening,
  context: ServiceContext,
) => Promise<void>;

/** Serves one stream: answers with `stream.respond(...)`, reads, writes, ends it. A rejection is logged and resets the stream. */
export type Service = (stream: ServerHttp2Stream, opening: Opening, context: ServiceContext) => Promise<void>;
