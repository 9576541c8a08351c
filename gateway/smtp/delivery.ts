/** What the owners' answers mean for the sender: one reply for all recipients. */
import type { DeliveryAnswer } from '../../cluster-protocol/link.ts';
import { type Reply, replies } from './reply.ts';

/**
 * `250` only when every recipient has the message. Otherwise the sender comes again, and who has it already
 * is known by the delivery key (RFC 1047). A permanent reply only when no recipient has it and all fail for good.
 */
export function replyForAnswers(answers: readonly DeliveryAnswer[], recipientCount: number): Reply {
  const failed = answers.filter(({ outcome }) => outcome !== 'stored' && outcome !== 'already');
  if (answers.length < recipientCount) return replies.notStored;
  if (failed.length === 0) return replies.ok;
  const all = (outcome: DeliveryAnswer['outcome']) => failed.every((answer) => answer.outcome === outcome);
  if (all('over-quota')) return replies.overQuota;
  if (all('no-space')) return replies.noSpace;
  const nobodyHasIt = failed.length === answers.length;
  if (nobodyHasIt && all('too-big')) return replies.tooBig;
  if (nobodyHasIt && all('no-such-account')) return replies.noSuchUser;
  return replies.notStored;
}
