/** ENVELOPE, BODY and BODYSTRUCTURE as IMAP writes them (RFC 9051 7.5.2). Depth is bounded by the MIME parser. */
import { imapNstring as nstring, imapString as string } from '../../../mailwire/imap-reply.ts';
import type { AddressEntry } from '../../../mailwire/mime/address-list.ts';
import { envelopeOf } from '../../../mailwire/mime/envelope.ts';
import type { HeaderField } from '../../../mailwire/mime/header-fields.ts';
import type { Parameters } from '../../../mailwire/mime/parameters.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';

/** @param utf8  8-bit may stand in quoted strings. */
export function envelopeText(fields: readonly HeaderField[], utf8: boolean): string {
  const addressesText = (entries: readonly AddressEntry[]) => addressList(entries, utf8);
  const imapNstring = (text: string | undefined) => nstring(text, utf8);
  const envelope = envelopeOf(fields);
  return `(${[
    imapNstring(envelope.date),
    imapNstring(envelope.subject),
    addressesText(envelope.from),
    addressesText(envelope.sender),
    addressesText(envelope.replyTo),
    addressesText(envelope.to),
    addressesText(envelope.cc),
    addressesText(envelope.bcc),
    imapNstring(envelope.inReplyTo),
    imapNstring(envelope.messageId),
  ].join(' ')})`;
}

function addressList(entries: readonly AddressEntry[], utf8: boolean): string {
  const imapNstring = (text: string | undefined) => nstring(text, utf8);
  const imapString = (text: string) => string(text, utf8);
  if (entries.length === 0) return 'NIL';
  let out = '(';
  for (const entry of entries) {
    if (entry.kind === 'group') out += `(NIL NIL ${imapString(entry.name)} NIL)`;
    else if (entry.kind === 'group-end') out += '(NIL NIL NIL NIL)';
    else {
      // NIL instead of a mailbox or host would say "group" (RFC 9051 7.5.2): empty ones are empty strings.
      out += `(${imapNstring(entry.name)} ${imapNstring(entry.route)} ${imapString(entry.local)} ${imapString(entry.domain)})`;
    }
  }
  return `${out})`;
}

/** Where the grammar wants a body and there is none. */
function emptyText(extended: boolean): string {
  return `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0${extended ? ' NIL NIL NIL NIL' : ''})`;
}

/**
 * @param extended  BODYSTRUCTURE; false: BODY, without extension data.
 * @param utf8  8-bit may stand in quoted strings.
 * @param fieldsOf  Header fields of a message inside.
 */
export function structureText(
  part: Part,
  extended: boolean,
  utf8: boolean,
  fieldsOf: (message: Part) => readonly HeaderField[],
): string {
  const imapNstring = (text: string | undefined) => nstring(text, utf8);
  const imapString = (text: string) => string(text, utf8);
  if (part.type === 'multipart') {
    let children = '';
    for (const child of part.parts) children += structureText(child, extended, utf8, fieldsOf);
    // The grammar wants at least one part.
    if (children === '') children = emptyText(extended);
    const extension = extended ? ` ${parametersText(part.params, utf8)}${dispositionText(part, utf8)}` : '';
    return `(${children} ${imapString(part.subtype)}${extension})`;
  }
  let out = `(${imapString(part.type)} ${imapString(part.subtype)} ${parametersText(bodyParams(part), utf8)}`;
  out += ` ${imapNstring(part.id)} ${imapNstring(part.description)} ${imapString(part.encoding)}`;
  out += ` ${part.bodyEnd - part.bodyStart}`;
  if (part.message !== undefined) {
    out += ` ${envelopeText(fieldsOf(part.message), utf8)} ${structureText(part.message, extended, utf8, fieldsOf)} ${part.lines}`;
  } else if (part.type === 'text') {
    out += ` ${part.lines}`;
  } else if (part.type === 'message' && (part.subtype === 'rfc822' || part.subtype === 'global')) {
    // Encoded, so that nobody can look inside: the grammar still wants envelope and body.
    out += ` (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ${emptyText(extended)} ${part.lines}`;
  }
  if (extended) out += ` ${imapNstring(part.md5)}${dispositionText(part, utf8)}`;
  return `${out})`;
}

/** RFC 2045 5.2: text is US-ASCII unless it says otherwise, and BODY tells so (RFC 9051 7.5.2). */
function bodyParams({ type, params }: Part): Parameters {
  if (type !== 'text' || params.some(([name]) => name === 'charset' || name.startsWith('charset*')))
    return params;
  return [...params, ['charset', 'us-ascii']];
}

/** ` disposition language location`. */
function dispositionText(part: Part, utf8: boolean): string {
  const imapNstring = (text: string | undefined) => nstring(text, utf8);
  const imapString = (text: string) => string(text, utf8);
  const { disposition, language } = part;
  const written =
    disposition === undefined
      ? 'NIL'
      : `(${imapString(disposition.type)} ${parametersText(disposition.params, utf8)})`;
  const languages =
    language.length === 0
      ? 'NIL'
      : language.length === 1
        ? imapString(language[0]!)
        : `(${language.map((tag) => imapString(tag)).join(' ')})`;
  return ` ${written} ${languages} ${imapNstring(part.location)}`;
}

function parametersText(params: Parameters, utf8: boolean): string {
  if (params.length === 0) return 'NIL';
  const imapString = (text: string) => string(text, utf8);
  return `(${params.map(([name, value]) => `${imapString(name)} ${imapString(value)}`).join(' ')})`;
}
