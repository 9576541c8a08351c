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

type Named = { readonly address: Address } | { readonly reply: Reply };
/** `targets`: the accounts the message goes to; the address itself unless it is an alias. */
type Checked =
  | { readonly address: Address; readonly targets: readonly Address[] }
  | { readonly reply: Reply };

export class RecipientCheck {
  readonly #door: Pick<DoorShared, 'chain' | 'router' | 'hostname' | 'log'>;
  readonly #session: MutableSession;
  readonly #role: SmtpRole;

  constructor(
    door: Pick<DoorShared, 'chain' | 'router' | 'hostname' | 'log'>,
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
    const answer = await router.recipient(this.#session, address, sizeBytes);
    const owned =
      typeof answer === 'object' ? await this.#behind(address, answer.targets, sizeBytes) : answer;
    if (owned === 'no-such-account') return { reply: replies.noSuchUser };
    if (owned === 'over-quota') return { reply: replies.overQuota };
    if (owned === 'unavailable') return { reply: replies.unavailable };
    const targets = owned === 'yes' ? [address] : owned;
    if (chain.wants('recipient')) {
      const verdict = await chain.ask('recipient', this.#session, address, from);
      const reply = replyFor('recipient', verdict);
      if (reply !== undefined) return { reply };
    }
    return { address, targets };
  }

  /**
   * The accounts behind an alias, each asked about at its owner. One that is gone is left out; one that is full or out
   * of reach refuses the whole, since nothing that was accepted may be lost. An alias behind an alias leads nowhere:
   * so no circle is ever walked.
   */
  async #behind(
    alias: Address,
    targets: readonly Address[],
    sizeBytes: number,
  ): Promise<readonly Address[] | 'no-such-account' | 'over-quota' | 'unavailable'> {
    const { router, log } = this.#door;
    const answers = await Promise.all(
      targets.map(async (target) => ({
        target,
        answer: router.isLocalDomain(addressParts(target).domain)
          ? await router.recipient(this.#session, target, sizeBytes)
          : 'no-such-account',
      })),
    );
    for (const refusal of ['unavailable', 'over-quota'] as const)
      if (answers.some(({ answer }) => answer === refusal)) return refusal;
    const accounts = answers.filter(({ answer }) => answer === 'yes').map(({ target }) => target);
    for (const { target, answer } of answers)
      if (answer !== 'yes')
        log.warn(
          { trace: this.#session.id, alias, target, why: typeof answer === 'object' ? 'an alias' : answer },
          'alias leads to no account',
        );
    return accounts.length === 0 ? 'no-such-account' : accounts;
  }

  #name(command: EnvelopeCommand): Named {
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
  #postmaster(): Named {
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
