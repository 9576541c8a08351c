/** The ENVELOPE of a message (RFC 9051 7.5.2): what its header says of people, subject and thread. */
import { type AddressEntry, parseAddressList } from './address-list.ts';
import { fieldValue, type HeaderField } from './header-fields.ts';

/** Texts are unfolded, one char per byte, encoded words left alone. */
export interface Envelope {
  readonly date: string | undefined;
  readonly subject: string | undefined;
  readonly from: readonly AddressEntry[];
  /** `from` when the message names none. */
  readonly sender: readonly AddressEntry[];
  readonly replyTo: readonly AddressEntry[];
  readonly to: readonly AddressEntry[];
  readonly cc: readonly AddressEntry[];
  readonly bcc: readonly AddressEntry[];
  readonly inReplyTo: string | undefined;
  readonly messageId: string | undefined;
}

export function envelopeOf(fields: readonly HeaderField[]): Envelope {
  const list = (name: string) => {
    const value = fieldValue(fields, name);
    return value === undefined || value === '' ? [] : parseAddressList(value);
  };
  const from = list('from');
  const sender = list('sender');
  const replyTo = list('reply-to');
  return {
    date: fieldValue(fields, 'date'),
    subject: fieldValue(fields, 'subject'),
    from,
    sender: sender.length > 0 ? sender : from,
    replyTo: replyTo.length > 0 ? replyTo : from,
    to: list('to'),
    cc: list('cc'),
    bcc: list('bcc'),
    inReplyTo: fieldValue(fields, 'in-reply-to'),
    messageId: fieldValue(fields, 'message-id'),
  };
}
