/** How a fault is worded to an IMAP client: its condition, response code (RFC 5530) and text. */
import type { Fault, FaultCode } from '../../../base/fault.ts';
import { imapText } from '../../../mailwire/imap-reply.ts';

const conditions: Partial<Record<FaultCode, string>> = {
  'bad-syntax': 'BAD',
  'line-too-long': 'BAD',
  'bare-newline': 'BAD',
  'nul-byte': 'BAD',
  'literal-too-big': 'BAD',
  'command-too-big': 'BAD',
  'bad-name': 'NO [CANNOT]',
  'no-such-folder': 'NO [NONEXISTENT]',
  'already-exists': 'NO [ALREADYEXISTS]',
  'over-quota': 'NO [OVERQUOTA]',
  'message-too-big': 'NO [TOOBIG]',
  'limit-reached': 'NO [LIMIT]',
  'not-allowed': 'NO [CANNOT]',
  gone: 'NO [EXPUNGEISSUED]',
  busy: 'NO [INUSE]',
  unavailable: 'NO [UNAVAILABLE]',
  'no-space': 'NO [UNAVAILABLE]',
  'storage-failed': 'NO [UNAVAILABLE]',
  'storage-damaged': 'NO [UNAVAILABLE]',
  bug: 'NO [SERVERBUG]',
};

/** What a client is told of faults that are not its own: little. */
const texts: Partial<Record<FaultCode, string>> = {
  'no-space': 'No space for that now, try again later',
  'storage-failed': 'Storage is not available, try again later',
  'storage-damaged': 'Storage is not available, try again later',
  unavailable: 'Not available, try again later',
  busy: 'Busy, try again later',
  'no-such-folder': 'No such mailbox',
  'already-exists': 'Mailbox exists already',
  'over-quota': 'Not enough space left in the account',
  'message-too-big': 'Message is too large',
  bug: 'Internal error',
};

/** `NO [TRYCREATE] No such mailbox`: a completion without its tag. */
export function answerOf(fault: Fault): string {
  if (fault.detail.unknownCte === true) return `NO [UNKNOWN-CTE] ${imapText(fault.message)}`;
  if (fault.detail.badCharset === true) return 'NO [BADCHARSET (UTF-8 US-ASCII)] Unknown charset';
  const ours = fault.whose === 'client' ? fault.message : 'Not available, try again later';
  return `${conditions[fault.code] ?? 'NO'} ${texts[fault.code] ?? imapText(ours)}`;
}

/** For COPY, MOVE and APPEND: a missing target may be created (RFC 9051 7.1). */
export function answerTryCreate(fault: Fault): string {
  return fault.code === 'no-such-folder' ? 'NO [TRYCREATE] No such mailbox' : answerOf(fault);
}
