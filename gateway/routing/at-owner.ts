/**
 * Runs one attempt at the owner of an account, and again: at the owner that a
 * backend which is not names, when a link broke, when nobody owns the account
 * for a moment. Bounded in time, so that a client is told `try later` instead
 * of nothing.
 */
import type { Address, Epoch, MemberId } from '../../cluster-protocol/ids.ts';
import { linkHeader, linkStatus, type OwnerHint } from '../../cluster-protocol/link.ts';
import type { Metrics } from '../health/metrics.ts';
import type { BackendLink } from './backend-link.ts';
import type { ClusterView } from './cluster-view.ts';
import { type Answer, discard, type OwnerSide } from './exchange.ts';

/** Why an attempt has to be made again. */
export type Again =
  | { readonly kind: 'again'; readonly reason: 'broken' | 'busy' }
  | { readonly kind: 'again'; readonly reason: 'not-owner'; readonly hint: OwnerHint | undefined };

export type Attempted<T> = { readonly kind: 'done'; readonly value: T } | Again;

export interface Whereabouts {
  readonly view: ClusterView;
  readonly links: ReadonlyMap<MemberId, BackendLink>;
  readonly metrics: Pick<Metrics, 'retries'> | undefined;
}

/** Longest an account may be without a reachable owner before the client hears of it. */
export const ownerWaitMsMax = 10_000;

/**
 * @param attempt  Safe to make again whenever it says `again`.
 * @param goesOn   Asked before each attempt: false when nobody waits for the outcome any more.
 * @returns `undefined`: no owner could be reached within `waitMs`.
 */
export async function atOwner<T>(
  { view, links, metrics }: Whereabouts,
  account: Address,
  attempt: (link: BackendLink, epoch: Epoch) => Promise<Attempted<T>>,
  waitMs = ownerWaitMsMax,
  goesOn: () => boolean = () => true,
): Promise<T | undefined> {
  const endMs = performance.now() + waitMs;
  let hint: OwnerHint | undefined;
  while (goesOn()) {
    const place = newer(view.whereIs(account), hint);
    const link = place === undefined ? undefined : links.get(place.owner);
    let reason: Again['reason'] | 'no-owner' = 'no-owner';
    if (place !== undefined && link !== undefined && link.upCount > 0) {
      const attempted = await attempt(link, place.epoch);
      if (attempted.kind === 'done') return attempted.value;
      reason = attempted.reason;
      if (attempted.reason === 'not-owner') {
        const told = attempted.hint;
        // The backend knows of a later grant than we do: go there at once.
        if (told !== undefined && told.owner !== place.owner && told.epoch > place.epoch) {
          hint = told;
          metrics?.retries.inc({ reason });
          if (performance.now() < endMs) continue;
        }
        if (hint !== undefined && hint.owner === place.owner) hint = undefined;
      }
    }
    if (performance.now() >= endMs) return undefined;
    metrics?.retries.inc({ reason });
    await view.nextChange();
  }
  return undefined;
}

/** Of what the map says and what a backend said, the one with the greater epoch. */
function newer(
  place: { readonly owner: MemberId; readonly epoch: Epoch } | undefined,
  hint: OwnerHint | undefined,
): { readonly owner: MemberId; readonly epoch: Epoch } | undefined {
  if (hint === undefined) return place;
  return place === undefined || hint.epoch > place.epoch ? hint : place;
}

/** Reads a refusal that means "again"; `undefined` when it is an answer. Lets go of the stream. */
export function againOf(answer: Answer<OwnerSide>): Again | undefined {
  if (answer.status === linkStatus.notOwner) {
    discard(answer.stream);
    const owner = answer.headers[linkHeader.owner];
    const epoch = Number(answer.headers[linkHeader.epoch]);
    const hint =
      typeof owner === 'string' && owner !== '' && Number.isSafeInteger(epoch) ? { owner, epoch } : undefined;
    return { kind: 'again', reason: 'not-owner', hint };
  }
  if (answer.status === linkStatus.busy) {
    const reason = answer.headers[linkHeader.reason];
    // A limit of the account is an answer; a backend that is starting or leaving is not.
    if (reason === 'limit' || reason === 'login-delay') return undefined;
    discard(answer.stream);
    return { kind: 'again', reason: 'busy' };
  }
  return undefined;
}
