/**
 * How a door reaches the owner of an account. The router watches the shard map
 * and the domains, keeps links to backends, retries where a map was stale, and
 * waits a bounded time while a shard has no owner.
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Address, MemberId } from '../../cluster-protocol/ids.ts';
import type { Credentials, DeliveryAnswer, ServiceName } from '../../cluster-protocol/link.ts';
import type { Session } from '../session/session.ts';
import type { SessionStream } from './session-stream.ts';

export interface OwnerStream {
  /** `:status` and headers of the owner's answer, see `cluster-protocol/link.ts`. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Both ways for sessions; readable answer body for requests. */
  readonly stream: Duplex;
}

export type RecipientAnswer =
  | 'yes'
  | 'no-such-account'
  | 'over-quota'
  | 'unavailable'
  | { readonly targets: readonly Address[] };

export interface Router {
  /** Is this canonical domain one of ours? From the watched registry: no round trip. */
  isLocalDomain(domain: string): boolean;
  /** May it be given such a message? An alias leads to accounts, which have to be asked about each. */
  recipient(session: Session, address: Address, sizeBytes: number): Promise<RecipientAnswer>;
  /** Checks credentials at the owner. */
  login(session: Session, credentials: Credentials): Promise<'yes' | 'no' | 'unavailable'>;
  /** What a SCRAM exchange with a user begins with; the same for a user who does not exist. */
  scramStart(
    session: Session,
    user: Address,
  ): Promise<{ readonly salt: Buffer; readonly iterations: number } | 'unavailable'>;
  /** Checks a SCRAM proof at the owner. `signature`: base64, what the client wants to see before it trusts us. */
  scramProof(
    session: Session,
    credentials: Credentials & { readonly mechanism: 'scram' },
  ): Promise<{ readonly signature: string } | 'no' | 'unavailable'>;
  /**
   * Opens a session at the owner. `accepted`: the stream carries bytes from now on.
   * `capability`: the words for the client's completion line.
   */
  openSession(
    session: Session,
    service: 'imap' | 'pop3',
    credentials: Credentials,
  ): Promise<
    | { readonly outcome: 'accepted'; readonly stream: SessionStream; readonly capability: string }
    | { readonly outcome: 'refused'; readonly reason: string }
    | { readonly outcome: 'unavailable' }
  >;
  /**
   * Gives a message to the owners of all recipients, one stream per owner, and resolves when each has answered.
   * `body` is called once per owner and attempt. Recipients whose owner could not be reached come back `failed`.
   */
  deliver(
    session: Session,
    delivery: {
      readonly recipients: readonly Address[];
      readonly reversePath: string;
      readonly size: number;
      readonly deliveryKey: string;
      /** Into the folder of this use; the inbox when absent. */
      readonly fileInto?: 'junk';
      body(): AsyncIterable<Buffer> | Iterable<Buffer>;
    },
  ): Promise<readonly DeliveryAnswer[]>;
  /** The sender has seen its 250. Best effort, not awaited. */
  settle(deliveryKey: string, recipients: readonly Address[]): void;
  /** Any other request to the owner of an account (HTTP, admin). @throws {Fault} `no-owner`, `unavailable` */
  request(
    service: ServiceName,
    account: Address,
    headers: OutgoingHttpHeaders,
    body?: Duplex | Buffer,
  ): Promise<OwnerStream>;
  /** Ids of the backends that are members now, sorted. */
  backends(): readonly MemberId[];
  /** A request to one backend by its id, whoever owns what (account lists, status). @throws {Fault} `unavailable` */
  requestMember(
    service: ServiceName,
    member: MemberId,
    headers: OutgoingHttpHeaders,
    body?: Duplex | Buffer,
  ): Promise<OwnerStream>;
  /** Resolves when map and domains are known and at least one link works. */
  ready(): Promise<void>;
  close(): Promise<void>;
}
