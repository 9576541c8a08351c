/** Header fields as JMAP shows them: raw, or parsed into one of the forms of RFC 8621 4.1.2. */
import { type AddressEntry, parseAddressList } from '../../../mailwire/mime/address-list.ts';
import { decodeEncodedWords } from '../../../mailwire/mime/encoded-words.ts';
import { type HeaderField, unfold } from '../../../mailwire/mime/header-fields.ts';
import { parseMessageDate } from '../../../mailwire/mime/message-date.ts';
import { invalid } from './jmap-errors.ts';

type Form = 'asRaw' | 'asText' | 'asAddresses' | 'asGroupedAddresses' | 'asMessageIds' | 'asDate' | 'asURLs';

const forms: Readonly<Record<Form, (raw: string) => unknown>> = {
  asRaw: rawText,
  asText: text,
  asAddresses: addresses,
  asGroupedAddresses: groupedAddresses,
  asMessageIds: messageIds,
  asDate: date,
  asURLs: urls,
};

/** RFC 8621 4.1.3: properties that are a header field in a form. */
export const convenient: Readonly<Record<string, readonly [field: string, form: Form]>> = {
  messageId: ['message-id', 'asMessageIds'],
  inReplyTo: ['in-reply-to', 'asMessageIds'],
  references: ['references', 'asMessageIds'],
  sender: ['sender', 'asAddresses'],
  from: ['from', 'asAddresses'],
  to: ['to', 'asAddresses'],
  cc: ['cc', 'asAddresses'],
  bcc: ['bcc', 'asAddresses'],
  replyTo: ['reply-to', 'asAddresses'],
  subject: ['subject', 'asText'],
  sentAt: ['date', 'asDate'],
};

/**
 * The value of `messageId`, `subject` … or of `header:Name`, `header:Name:asText`, `header:Name:asText:all`.
 * @throws {MethodError} `invalidArguments`: no such property or form. Call with no fields to check a name.
 */
export function headerProperty(property: string, fields: readonly HeaderField[]): unknown {
  const known = Object.hasOwn(convenient, property) ? convenient[property] : undefined;
  if (known !== undefined) return lastOf(fields, known[0], known[1]);
  const found = /^header:([\x21-\x39\x3b-\x7e]{1,200}?)(?::(as[A-Za-z]{3,20}))?(:all)?$/.exec(property);
  if (found === null) throw invalid('an email has no such property');
  const name = (found[1] as string).toLowerCase();
  const form = (found[2] ?? 'asRaw') as Form;
  if (!Object.hasOwn(forms, form)) throw invalid('a header field has no such form');
  if (found[3] === undefined) return lastOf(fields, name, form);
  return fields.filter((field) => field.name === name).map((field) => forms[form](field.raw));
}

/** RFC 8621 4.1.3: the last field with the name counts. */
function lastOf(fields: readonly HeaderField[], name: string, form: Form): unknown {
  const field = fields.findLast((each) => each.name === name);
  return field === undefined ? null : forms[form](field.raw);
}

/** `headers`: every field, in order. */
export function allHeaders(fields: readonly HeaderField[]): { name: string; value: string }[] {
  return fields.map(({ writtenName, raw }) => ({ name: writtenName, value: rawText(raw) }));
}

function rawText(raw: string): string {
  return Buffer.from(raw, 'latin1').toString('utf8').replaceAll('\0', '');
}

function text(raw: string): string {
  return decodeEncodedWords(unfold(raw)).normalize('NFC');
}

interface EmailAddress {
  readonly name: string | null;
  readonly email: string;
}

function shown(entry: AddressEntry & { kind: 'mailbox' }): EmailAddress {
  const { name, local, domain } = entry;
  const email = Buffer.from(domain === '' ? local : `${local}@${domain}`, 'latin1').toString('utf8');
  return { name: name === undefined || name === '' ? null : text(name), email };
}

function addresses(raw: string): EmailAddress[] {
  const list: EmailAddress[] = [];
  for (const entry of parseAddressList(unfold(raw))) if (entry.kind === 'mailbox') list.push(shown(entry));
  return list;
}

function groupedAddresses(raw: string): { name: string | null; addresses: EmailAddress[] }[] {
  const groups: { name: string | null; addresses: EmailAddress[] }[] = [];
  let open = false;
  for (const entry of parseAddressList(unfold(raw))) {
    if (entry.kind === 'group') {
      groups.push({ name: text(entry.name), addresses: [] });
      open = true;
    } else if (entry.kind === 'group-end') {
      open = false;
    } else {
      const last = groups.at(-1);
      // Addresses outside of groups stand together under no name.
      if (last !== undefined && (open || last.name === null)) last.addresses.push(shown(entry));
      else groups.push({ name: null, addresses: [shown(entry)] });
    }
  }
  return groups;
}

function messageIds(raw: string): string[] | null {
  const found = unfold(raw)
    .slice(0, 64 * 1024)
    .matchAll(/<([^<>\s]{1,998})>/g);
  const ids = Array.from(found, (each) => each[1] as string);
  return ids.length === 0 ? null : ids.slice(0, 1000);
}

function urls(raw: string): string[] | null {
  const found = unfold(raw)
    .slice(0, 64 * 1024)
    .matchAll(/<([^<>\s]{1,2000})>/g);
  const list = Array.from(found, (each) => each[1] as string);
  return list.length === 0 ? null : list.slice(0, 100);
}

/** RFC 8620 1.4 Date: with the offset the sender wrote. */
function date(raw: string): string | null {
  const value = unfold(raw).slice(0, 200);
  const parsed = parseMessageDate(value);
  if (parsed === undefined || Math.abs(parsed.ms) > 8e15) return null;
  const zone = /([+-])(\d\d)(\d\d)(?:\s*\(|\s*$)/.exec(value);
  const offsetMinutes =
    zone === null ? 0 : (zone[1] === '-' ? -1 : 1) * (Number(zone[2]) * 60 + Number(zone[3]));
  const local = new Date(parsed.ms + offsetMinutes * 60_000);
  if (Number.isNaN(local.getTime())) return null;
  const stamp = local.toISOString().slice(0, 19);
  return offsetMinutes === 0 || zone === null ? `${stamp}Z` : `${stamp}${zone[1]}${zone[2]}:${zone[3]}`;
}
