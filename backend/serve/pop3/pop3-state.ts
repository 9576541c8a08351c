/**
 * What a checkpoint says of a POP3 session: which messages its maildrop is made
 * of, which of them are marked, which were read. Sizes are the folder's.
 */
import { Fault } from '../../../base/fault.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';

export interface Pop3State {
  readonly ticket: SessionTicket;
  readonly mailboxId: string;
  readonly uidValidity: number;
  /** Expunges up to this modification sequence are not in the maildrop, nor are messages from this UID on. */
  readonly modseq: number;
  readonly uidLimit: number;
  readonly count: number;
  /** Message numbers, as sets. */
  readonly deleted: string;
  readonly retrieved: string;
}

/** The form of the state; a backend that does not know it refuses to resume. */
const form = 'pop3-1';

export function encodePop3State(state: Pop3State): Buffer {
  return Buffer.from(JSON.stringify({ form, ...state }));
}

/** @throws {Fault} `peer-protocol` */
export function decodePop3State(bytes: Buffer): Pop3State {
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(bytes.toString()) as Record<string, unknown>;
  } catch (cause) {
    throw new Fault('peer-protocol', 'the state of a session is no JSON', { cause });
  }
  const ticket = (raw.ticket ?? {}) as Record<string, unknown>;
  const numbers = [ticket.untilMs, raw.uidValidity, raw.modseq, raw.uidLimit, raw.count];
  const texts = [ticket.session, ticket.mac, raw.mailboxId, raw.deleted, raw.retrieved];
  if (
    raw.form !== form ||
    !numbers.every((number) => Number.isSafeInteger(number) && (number as number) >= 0) ||
    !texts.every((text) => typeof text === 'string')
  )
    throw new Fault('peer-protocol', 'the state of a session is malformed');
  return raw as unknown as Pop3State;
}
