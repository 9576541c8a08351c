/**
 * The resumable sessions of this backend: tickets for new ones, and which are
 * alive, so that one that is taken up again (its link broke, its process did
 * not) is over before its successor begins.
 */
import { randomId } from '../../base/random-id.ts';
import type { Address } from '../../cluster-protocol/ids.ts';
import {
  makeTicket,
  type SessionTicket,
  ticketIsGood,
  ticketMs,
} from '../../cluster-protocol/session-ticket.ts';

/** A session that can be told that nobody listens to it any more. */
export interface Superseded {
  /** Resolves when what it was doing has come to an end. */
  supersede(): Promise<void>;
}

export class SessionBook {
  readonly #secret: Buffer;
  readonly #live = new Map<string, Superseded>();

  /** @param secret  Of the cluster, the same for all backends. */
  constructor(secret: Buffer) {
    this.#secret = secret;
  }

  issue(account: Address, session = randomId()): SessionTicket {
    return makeTicket(this.#secret, account, session, Date.now());
  }

  isGood(account: Address, ticket: SessionTicket): boolean {
    return ticketIsGood(this.#secret, account, ticket, Date.now());
  }

  /** Half of its time has passed. */
  isDue(ticket: SessionTicket): boolean {
    return ticket.untilMs - Date.now() < ticketMs / 2;
  }

  enter(session: string, live: Superseded): void {
    this.#live.set(session, live);
  }

  leave(session: string, live: Superseded): void {
    if (this.#live.get(session) === live) this.#live.delete(session);
  }

  /** Resolves when no session of this id is alive here. */
  async supersede(session: string): Promise<void> {
    await this.#live.get(session)?.supersede();
  }
}
