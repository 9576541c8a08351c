/**
 * What the files of an account say about who may use them (DESIGN section 2,
 * invariant 4): the decisions, pure; `backend/store/` does the reading and writing.
 */
import type { Epoch } from './ids.ts';

/** What an account's `owner` file holds. `owner`: the process, among all that ever were. */
export interface FenceRecord {
  readonly epoch: Epoch;
  readonly owner: string;
}

/**
 * - `refuse`: somebody has acted at a greater epoch; keep away.
 * - `held`: this process recorded this epoch before.
 * - `take`: to be recorded before anything is done.
 */
export function judgeFence(
  recorded: FenceRecord | undefined,
  epoch: Epoch,
  who: string,
): 'refuse' | 'held' | 'take' {
  if (recorded !== undefined && recorded.epoch > epoch) return 'refuse';
  return recorded?.epoch === epoch && recorded.owner === who ? 'held' : 'take';
}

export function journalName(epoch: Epoch): string {
  return `journal.${epoch}`;
}

/** The epoch a journal's name says; `undefined` for any other file. */
export function journalEpoch(name: string): Epoch | undefined {
  const digits = /^journal\.(\d{1,15})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Of the journals there are, the epoch of the one a new owner goes on from; `undefined` when there is none. */
export function journalToReplay(there: readonly Epoch[], epoch: Epoch): Epoch | undefined {
  const before = there.filter((one) => one <= epoch);
  return before.length === 0 ? undefined : Math.max(...before);
}

/** Listings after which a journal that is not there is taken for lost. */
const listingsMax = 5;

/**
 * The journal that a listing had shown may be gone when it is read: an earlier owner that woke up late has gone on
 * opening, has written its own from it and removed it. Whoever took it for empty would go on from nothing.
 *
 * @param listings  How many there were, this one included.
 */
export function mustListAgain(chosen: Epoch | undefined, wasThere: boolean, listings: number): boolean {
  return chosen !== undefined && !wasThere && listings < listingsMax;
}

/** The journals nobody needs any more once the one of `epoch` is durable. Greater ones are another owner's. */
export function journalsToRemove(there: readonly Epoch[], epoch: Epoch): Epoch[] {
  return there.filter((one) => one < epoch);
}
