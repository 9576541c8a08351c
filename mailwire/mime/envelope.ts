/** The ENVELOPE of a message (RFC 9051 7.5.2): what its header says of people, subject and thread. */
import { type AddressEntry, addressesMax, parseAddressList } from './address-list.ts';
import { fieldValue, type HeaderField, unfold } from './header-fields.ts';

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

/** Addresses of all fields with this name (lower case): one written as several is read as one (RFC 5322 4.5). */
export function addressesOf(fields: readonly HeaderField[], name: string): AddressEntry[] {
  const found: AddressEntry[] = [];
  for (const field of fields) {
    if (field.name !== name || found.length >= addressesMax) continue;
    const value = unfold(field.raw);
    if (value === '') continue;
    for (const entry of parseAddressList(value)) found.push(entry);
  }
  return found;
}

export function envelopeOf(fields: readonly HeaderField[]): Envelope {
  const list = (name: string) => addressesOf(fields, name);
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
