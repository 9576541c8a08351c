/**
 * Gives one message to the owners of all its recipients, side by side. Made
 * again per recipient while an owner moves or restarts: the delivery key makes
 * a second attempt harmless, so only what nobody answered for is `failed`.
 */
import type { ClientHttp2Stream } from 'node:http2';
import { Fault } from '../../base/fault.ts';
import type { Address, MemberId } from '../../cluster-protocol/ids.ts';
import {
  type DeliveryAnswer,
  linkHeader,
  linkStatus,
  type OwnerHint,
  recipientsPerDeliveryMax,
} from '../../cluster-protocol/link.ts';
import type { Session } from '../session/session.ts';
import { againOf, type Whereabouts } from './at-owner.ts';
import type { BackendLink } from './backend-link.ts';
import { discard, exchange, readJson } from './exchange.ts';
import { clientHeaders, recipientsHeader, serviceHeaders } from './headers.ts';

export interface Delivery {
  readonly recipients: readonly Address[];
  readonly reversePath: string;
  readonly size: number;
  readonly deliveryKey: string;
  /** Into the folder of this use; the inbox when absent. */
  readonly fileInto?: 'junk';
  body(): AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** From the last byte of the message to the owner's answer that it is durable. */
const answerMsMax = 60_000;
const outcomes: readonly DeliveryAnswer['outcome'][] = [
  'stored',
  'already',
  'no-such-account',
  'over-quota',
  'no-space',
  'not-owner',
  'too-big',
  'failed',
];

/** @param waitMs  How long recipients may be without a reachable owner, counted from the last attempt that got somewhere. */
export async function deliver(
  where: Whereabouts,
  session: Session,
  delivery: Delivery,
  waitMs: number,
): Promise<readonly DeliveryAnswer[]> {
  const settled = new Map<Address, DeliveryAnswer>();
  const hints = new Map<Address, OwnerHint>();
  let pending = [...new Set(delivery.recipients)];
  let endMs = performance.now() + waitMs;
  for (;;) {
    const groups = groupByOwner(where, pending, hints);
    const answers = await Promise.all(groups.map((group) => deliverTo(group, session, delivery, hints)));
    const before = pending.length;
    for (const answer of answers.flat()) settled.set(answer.recipient, answer);
    pending = pending.filter((recipient) => !settled.has(recipient));
    if (pending.length === 0) break;
    // Owners that answered for some are an attempt well spent: the rest gets its whole time.
    if (pending.length < before) endMs = performance.now() + waitMs;
    if (performance.now() >= endMs) break;
    where.metrics?.retries.inc({ reason: groups.length === 0 ? 'no-owner' : 'broken' });
    await where.view.nextChange();
  }
  return delivery.recipients.map(
    (recipient) => settled.get(recipient) ?? { recipient, outcome: 'failed', detail: 'owner not reached' },
  );
}

interface Group {
  readonly link: BackendLink;
  readonly epoch: number;
  readonly recipients: Address[];
}

/** Recipients of one backend together, at most `recipientsPerDeliveryMax` each; without those nobody can be asked for now. */
export function groupByOwner(
  { view, links }: Pick<Whereabouts, 'view' | 'links'>,
  recipients: readonly Address[],
  hints: ReadonlyMap<Address, OwnerHint>,
): Group[] {
  const open = new Map<MemberId, Group>();
  const groups: Group[] = [];
  for (const recipient of recipients) {
    const place = view.whereIs(recipient);
    const hint = hints.get(recipient);
    const at = hint !== undefined && hint.epoch > (place?.epoch ?? 0) ? hint : place;
    const link = at === undefined ? undefined : links.get(at.owner);
    if (at === undefined || link === undefined || link.upCount === 0) continue;
    let group = open.get(at.owner);
    if (group === undefined || group.recipients.length >= recipientsPerDeliveryMax) {
      group = { link, epoch: at.epoch, recipients: [] };
      open.set(at.owner, group);
      groups.push(group);
    }
    group.recipients.push(recipient);
  }
  return groups;
}

/** One stream to one owner. Recipients that are missing in what it returns have to be tried again. */
async function deliverTo(
  group: Group,
  session: Session,
  delivery: Delivery,
  hints: Map<Address, OwnerHint>,
): Promise<readonly DeliveryAnswer[]> {
  const headers = {
    ...serviceHeaders('deliver', group.epoch),
    ...clientHeaders(session),
    ...recipientsHeader(group.recipients),
    [linkHeader.reversePath]: encodeURIComponent(delivery.reversePath),
    [linkHeader.size]: String(delivery.size),
    [linkHeader.deliveryKey]: delivery.deliveryKey,
    ...(delivery.fileInto === undefined ? {} : { [linkHeader.fileInto]: delivery.fileInto }),
  };
  try {
    const answer = await exchange(group.link, headers, delivery.body(), answerMsMax);
    const again = againOf(answer);
    if (again !== undefined) {
      if (again.reason === 'not-owner' && again.hint !== undefined) {
        // Where several owners are meant, the hint is right for some: the others come back and hear the next.
        for (const recipient of group.recipients) hints.set(recipient, again.hint);
      }
      return [];
    }
    if (answer.status !== linkStatus.accepted) {
      answer.stream.close();
      return group.recipients.map((recipient) => refusalOf(recipient, answer.status));
    }
    const outcomes = answer.headers[linkHeader.outcomes];
    const answers =
      typeof outcomes === 'string'
        ? allStored(outcomes, answer.stream, group.recipients)
        : readAnswers(await readJson(answer.stream), group.recipients);
    for (const { recipient, outcome } of answers) if (outcome === 'not-owner') hints.delete(recipient);
    return answers.filter(({ outcome }) => outcome !== 'not-owner');
  } catch {
    // Broken, late, or no answer that can be read: nothing is known, so it is tried again under the same key.
    return [];
  }
}

/** An answer without a body: every recipient has it. */
function allStored(outcomes: string, stream: ClientHttp2Stream, asked: readonly Address[]): DeliveryAnswer[] {
  discard(stream);
  const words = outcomes.split(',');
  if (words.length !== asked.length) throw new Fault('peer-protocol', 'not one outcome for each recipient');
  return asked.map((recipient, index) => {
    const outcome = words[index];
    if (outcome === 'stored' || outcome === 'already') return { recipient, outcome };
    throw new Fault('peer-protocol', 'an outcome there is not');
  });
}

/** Only the recipients that were asked about, each once, with an outcome there is. */
function readAnswers(raw: unknown, asked: readonly Address[]): DeliveryAnswer[] {
  const known = new Map<Address, DeliveryAnswer>();
  for (const entry of Array.isArray(raw) ? (raw as Partial<DeliveryAnswer>[]) : []) {
    const { recipient, outcome, detail } = entry ?? {};
    if (typeof recipient !== 'string' || !asked.includes(recipient)) continue;
    if (outcome === undefined || !outcomes.includes(outcome)) continue;
    known.set(recipient, { recipient, outcome, ...(typeof detail === 'string' ? { detail } : {}) });
  }
  return [...known.values()];
}

function refusalOf(recipient: Address, status: number): DeliveryAnswer {
  const detail = `status ${status}`;
  if (status === linkStatus.noSpace) return { recipient, outcome: 'no-space', detail };
  if (status === linkStatus.overQuota) return { recipient, outcome: 'over-quota', detail };
  return { recipient, outcome: 'failed', detail };
}
