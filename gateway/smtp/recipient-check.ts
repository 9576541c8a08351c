/**
 * Whose mail is this? A recipient is taken when its owner says so, and nothing
 * is relayed: every spelling that means another host (routes, `%`, literals,
 * quoted addresses) ends at a domain that is not ours or a local part that is
 * no account (CASES 9).
 */
import {
  type Address,
  addressParts,
  canonicalAddress,
  canonicalDomain,
  canonicalLocalPart,
} from '../../cluster-protocol/ids.ts';
import type { MutableSession } from '../session/session.ts';
import type { DoorShared, SmtpRole } from './door-shared.ts';
import type { EnvelopeCommand } from './envelope-command.ts';
import { type Reply, replies, replyFor } from './reply.ts';

type Checked = { readonly address: Address } | { readonly reply: Reply };

export class RecipientCheck {
  readonly #door: Pick<DoorShared, 'chain' | 'router' | 'hostname'>;
  readonly #session: MutableSession;
  readonly #role: SmtpRole;

  constructor(
    door: Pick<DoorShared, 'chain' | 'router' | 'hostname'>,
    session: MutableSession,
    role: SmtpRole,
  ) {
    this.#door = door;
    this.#session = session;
    this.#role = role;
  }

  /** Form, domain, owner, chain, in this order: the chain is asked about recipients the owner has confirmed. */
  async check(command: EnvelopeCommand, from: string, sizeBytes: number): Promise<Checked> {
    const { chain, router } = this.#door;
    const named = this.#name(command);
    if ('reply' in named) return named;
    const { address } = named;
    switch (await router.recipient(this.#session, address, sizeBytes)) {
      case 'no-such-account':
        return { reply: replies.noSuchUser };
      case 'over-quota':
        return { reply: replies.overQuota };
      case 'unavailable':
        return { reply: replies.unavailable };
      case 'yes':
        break;
    }
    if (chain.wants('recipient')) {
      const verdict = await chain.ask('recipient', this.#session, address, from);
      const reply = replyFor('recipient', verdict);
      if (reply !== undefined) return { reply };
    }
    return { address };
  }

  #name(command: EnvelopeCommand): Checked {
    if (command.domain === '') return this.#postmaster();
    let domain: string;
    try {
      domain = canonicalDomain(command.domain);
    } catch {
      return { reply: this.#remote() };
    }
    if (!this.#door.router.isLocalDomain(domain)) return { reply: this.#remote() };
    try {
      return { address: `${canonicalLocalPart(command.localPart)}@${domain}` };
    } catch {
      return { reply: replies.noSuchUser };
    }
  }

  #remote(): Reply {
    return this.#role === 'mx' ? replies.noRelay : replies.noRemoteYet;
  }

  /**
   * RFC 5321 4.5.1: `<postmaster>` without a domain must be taken. It means the postmaster of the domain this
   * gateway is named in, or of the user's own; where that account does not exist there is nobody to give it to.
   */
  #postmaster(): Checked {
    const names = this.#session.account === undefined ? [] : [addressParts(this.#session.account).domain];
    const labels = this.#door.hostname.toLowerCase().split('.');
    for (let skip = 0; skip < labels.length && skip < 4; skip++) names.push(labels.slice(skip).join('.'));
    const domain = names.find((name) => this.#door.router.isLocalDomain(name));
    return domain === undefined ? { reply: replies.noSuchUser } : { address: `postmaster@${domain}` };
  }
}

/** May this account write under this reverse-path? The null path is what receipts are sent with (RFC 8098 3). */
export function senderBelongsTo(from: string, account: Address): boolean {
  if (from === '') return true;
  try {
    return canonicalAddress(from) === account;
  } catch {
    return false;
  }
}
