/**
 * The life of one shard (or pin), as a pure state machine:
 *
 * ```
 *            grant                 move                 owner wrote "released"
 *   free ───────────► owned(B,e) ───────► releasing(B,e → C) ───────────► owned(C,e')
 *     ▲                   │                      │
 *     └───────────────────┴──────────────────────┘  the registry has removed B's record: B is gone
 * ```
 *
 * The one rule that matters: a new owner is named only in a step in which the old
 * one is `gone` (its lease has expired or was revoked, so the registry has removed
 * its record) or has `released` this very epoch (DESIGN section 2.3).
 */
import type { Epoch } from './ids.ts';
import { freeHolding, type Holder, type Holding, sameHolder } from './shard-map.ts';

/** What is known of a holding when a step is taken. */
export interface HoldingFacts {
  /** Of the owner the holding names: is its member record there with this incarnation; has it released this epoch? */
  readonly owner: 'live' | 'gone' | 'released';
  /** Is the member it is being released to still there? */
  readonly targetIsLive: boolean;
  /** Where placement wants it; a live member. */
  readonly wanted: Holder | undefined;
  /** May a holding that is fine where it is be moved now? */
  readonly mayMove: boolean;
  /** The epoch of a grant made in this step; greater than any before. */
  readonly epoch: Epoch;
}

/** One step. Returns the same object when nothing changes. */
export function stepHolding(holding: Holding, facts: HoldingFacts): Holding {
  if (holding.state === 'free') return grant(facts.wanted, facts.epoch) ?? holding;
  if (facts.owner !== 'live') {
    const next = holding.state === 'releasing' && facts.targetIsLive ? holding.to : facts.wanted;
    return grant(next, facts.epoch) ?? freeHolding;
  }
  if (holding.state === 'releasing') {
    if (facts.targetIsLive) return holding;
    // The owner may have begun to let go: what it has been told stands, only the receiver changes.
    const to = facts.wanted ?? holding.owner;
    return sameHolder(to, holding.to) ? holding : { ...holding, to };
  }
  if (facts.wanted === undefined || !facts.mayMove || sameHolder(facts.wanted, holding.owner)) return holding;
  return { state: 'releasing', owner: holding.owner, epoch: holding.epoch, to: facts.wanted };
}

function grant(to: Holder | undefined, epoch: Epoch): Holding | undefined {
  return to && { state: 'owned', owner: to, epoch };
}
