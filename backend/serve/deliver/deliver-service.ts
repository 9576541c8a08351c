/**
 * Takes messages from gateways. The body is read once and written to every
 * recipient's INBOX side by side; the answer comes when each recipient is
 * settled, and `stored` means: on stable storage.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { Fault, isFault } from '../../../base/fault.ts';
import { linkHeader, linkStatus } from '../../../cluster-protocol/link.ts';
import { answer, answerJson, factsOf } from '../answers.ts';
import type { Opening, Service, ServiceContext } from '../service.ts';
import { type DeliveryOpening, deliveryOpening, settledOf, sizeOf } from './envelope.ts';
import { messageBody, pieceBytes, smallBody } from './message-body.ts';
import { inboxName, RecipientDelivery } from './recipient-delivery.ts';

/**
 * `/deliver`: the body is the message; answers 200 with a header when all have it, else with JSON `DeliveryAnswer[]`;
 * 400 when the opening is malformed.
 * A body shorter than announced, or a reset stream, leaves nothing anywhere.
 */
export const deliverService: Service = async (stream, opening, context) => {
  const startedAtMs = performance.now();
  // A reset while nobody reads must not end the process.
  stream.on('error', () => {});
  let delivery: DeliveryOpening;
  try {
    delivery = deliveryOpening(opening.headers);
  } catch (error) {
    context.log.warn({ trace: opening.trace, ...factsOf(error) }, 'delivery refused');
    return answer(stream, linkStatus.badRequest);
  }
  const slots = await Promise.all(
    delivery.recipients.map(async (recipient) => {
      const slot = new RecipientDelivery(recipient);
      const standing = context.owns(recipient);
      if (!standing.ok) await slot.settle('not-owner', `${standing.owner} ${standing.epoch}`);
      return slot;
    }),
  );
  try {
    await receive(stream, delivery, slots, context);
  } catch (error) {
    await Promise.all(slots.map((slot) => slot.settle('failed', 'broken off')));
    context.log.warn(
      { trace: opening.trace, key: delivery.deliveryKey, ...factsOf(error) },
      'delivery broken off',
    );
    if (isFault(error) && !stream.destroyed) return answer(stream, linkStatus.badRequest);
    if (!isFault(error)) throw error;
    return;
  }
  logOutcomes(slots, delivery, opening, context, startedAtMs);
  if (slots.every(({ outcome }) => outcome === 'stored' || outcome === 'already')) {
    const outcomes = slots.map(({ outcome }) => outcome).join(',');
    return answer(stream, linkStatus.accepted, { [linkHeader.outcomes]: outcomes });
  }
  answerJson(
    stream,
    linkStatus.accepted,
    slots.map((slot) => slot.answer()),
  );
};

async function receive(
  stream: ServerHttp2Stream,
  delivery: DeliveryOpening,
  slots: readonly RecipientDelivery[],
  context: ServiceContext,
): Promise<void> {
  const facts = { ...delivery, nowMs: Date.now() };
  const begin = (): Promise<unknown> => Promise.all(slots.map((slot) => slot.begin(context.accounts, facts)));
  if (delivery.size <= pieceBytes) {
    // Nothing is opened before the whole message is here: a broken delivery costs the store nothing.
    const whole = await smallBody(stream, delivery.size);
    await begin();
    if (whole.length > 0) await Promise.all(slots.map((slot) => slot.write(whole)));
  } else {
    await begin();
    for await (const piece of messageBody(stream, delivery.size)) {
      await Promise.all(slots.map((slot) => slot.write(piece)));
      // Nobody is left to take it: the rest is not worth reading.
      if (slots.every((slot) => !slot.isOpen)) return;
    }
  }
  if (stream.aborted) throw new Fault('peer-protocol', 'the gateway gave up');
  await Promise.all(slots.map((slot) => slot.commit()));
}

function logOutcomes(
  slots: readonly RecipientDelivery[],
  delivery: DeliveryOpening,
  opening: Opening,
  context: ServiceContext,
  startedAtMs: number,
): void {
  const ms = Math.round(performance.now() - startedAtMs);
  for (const slot of slots) {
    const { recipient, outcome, detail, uid } = slot;
    const facts = { trace: opening.trace, account: recipient, outcome, size: delivery.size, ms };
    if (outcome === 'stored' || outcome === 'already') {
      context.log.info({ ...facts, folder: inboxName, uid, from: delivery.reversePath }, 'message stored');
    } else {
      context.log.warn({ ...facts, detail, from: delivery.reversePath }, 'message not stored');
    }
  }
}

/** `/settle`: senders have seen their 250s, so these delivery keys need not be remembered. Best effort. */
export const settleService: Service = async (stream, opening, context) => {
  stream.on('error', () => {});
  let settled: ReadonlyMap<string, readonly string[]>;
  try {
    settled = settledOf(opening.headers);
  } catch {
    return answer(stream, linkStatus.badRequest);
  }
  await Promise.all(
    [...settled].map(async ([address, keys]) => {
      if (!context.owns(address).ok) return;
      try {
        const account = await context.accounts.open(address);
        try {
          for (const key of keys) await account.store.settle(key);
        } finally {
          account.release();
        }
      } catch (error) {
        context.log.debug({ trace: opening.trace, account: address, ...factsOf(error) }, 'not settled');
      }
    }),
  );
  answer(stream, linkStatus.accepted);
};

/** `/recipient`: 200 may receive, or an alias and where it leads, 404 no such account, 413 over quota. */
export const recipientService: Service = async (stream, opening, context) => {
  stream.on('error', () => {});
  let size: number;
  try {
    size = sizeOf(opening.headers);
  } catch {
    return answer(stream, linkStatus.badRequest);
  }
  const may = await context.accounts.mayReceive(opening.account, size);
  const targets = may === 'no-such-account' ? await context.aliases?.targets(opening.account) : undefined;
  if (targets !== undefined && targets.length > 0)
    return answer(stream, linkStatus.accepted, {
      [linkHeader.alias]: targets.map(encodeURIComponent).join(','),
    });
  answer(
    stream,
    may === 'yes'
      ? linkStatus.accepted
      : may === 'over-quota'
        ? linkStatus.overQuota
        : linkStatus.noSuchAccount,
  );
};
