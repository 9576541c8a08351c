/**
 * What SORT and THREAD need of message headers, kept in memory per folder so
 * that the second sorting of a mailbox reads no message. A cache with one bound
 * for the process; whatever is not in it is read again.
 */
import { isFault } from '../../../base/fault.ts';
import { type BaseSubject, baseSubject } from '../../../mailwire/base-subject.ts';
import type { AddressEntry } from '../../../mailwire/mime/address-list.ts';
import { decodeEncodedWords } from '../../../mailwire/mime/encoded-words.ts';
import { addressesOf } from '../../../mailwire/mime/envelope.ts';
import { fieldValue, type HeaderField, parseHeaderFields } from '../../../mailwire/mime/header-fields.ts';
import { parseMessageDate } from '../../../mailwire/mime/message-date.ts';
import { casemap } from '../../../mailwire/unicode-casemap.ts';
import type { Folder } from '../../store/store.ts';

export interface HeaderFacts {
  /** The Date field, ms since 1970; arrival where there is none that can be read. */
  readonly sentMs: number;
  /** Local parts of the first addresses, as they are compared. */
  readonly from: string;
  readonly to: string;
  readonly cc: string;
  /** RFC 5957 2. */
  readonly displayFrom: string;
  readonly displayTo: string;
  /** As it is compared. */
  readonly subject: string;
  readonly isReply: boolean;
  /** Without the angle brackets; `''`: none. */
  readonly messageId: string;
  /** From the first ancestor to the parent. */
  readonly references: readonly string[];
}

/** All folders together, by estimate. */
const cacheBytesMax = 64 * 1024 * 1024;
const factsBytes = 200;
const textCharsMax = 200;
const referencesMax = 100;
const referenceCharsMax = 500;
const firstReadBytes = 8 * 1024;
const headerReadMax = 256 * 1024;

/** Least recently used folder first. */
const cached = new Map<Folder, { facts: Map<number, HeaderFacts>; bytes: number }>();
let cachedBytes = 0;

/** For tests and figures. */
export function headerCacheBytes(): number {
  return cachedBytes;
}

/** `undefined`: the message is gone. */
export async function headerFacts(folder: Folder, uid: number): Promise<HeaderFacts | undefined> {
  const known = cached.get(folder)?.facts.get(uid);
  if (known !== undefined) return known;
  const arrivalMs = folder.facts(uid)?.internalDateMs;
  if (arrivalMs === undefined) return undefined;
  let header: Buffer;
  try {
    header = await readHeader(folder, uid);
  } catch (error) {
    if (isFault(error, 'gone')) return undefined;
    throw error;
  }
  const facts = factsOf(parseHeaderFields(header), arrivalMs);
  keep(folder, uid, facts);
  return facts;
}

function keep(folder: Folder, uid: number, facts: HeaderFacts): void {
  let own = cached.get(folder);
  if (own === undefined) own = { facts: new Map(), bytes: 0 };
  else cached.delete(folder);
  cached.set(folder, own);
  for (const [other, { bytes }] of cached) {
    if (cachedBytes < cacheBytesMax || other === folder) break;
    cached.delete(other);
    cachedBytes -= bytes;
  }
  // A folder larger than the cache, or one whose messages mostly went: begun anew.
  if (cachedBytes >= cacheBytesMax || own.facts.size > 2 * folder.count + 1000) {
    cachedBytes -= own.bytes;
    own.facts.clear();
    own.bytes = 0;
  }
  const bytes = bytesOf(facts);
  own.facts.set(uid, facts);
  own.bytes += bytes;
  cachedBytes += bytes;
}

function bytesOf(facts: HeaderFacts): number {
  let chars = facts.from.length + facts.to.length + facts.cc.length + facts.subject.length;
  chars += facts.displayFrom.length + facts.displayTo.length + facts.messageId.length;
  for (const id of facts.references) chars += id.length + 16;
  return factsBytes + 2 * chars;
}

async function readHeader(folder: Folder, uid: number): Promise<Buffer> {
  const message = await folder.open(uid);
  try {
    for (let bytes = firstReadBytes; ; bytes *= 4) {
      const head = await message.read(0, bytes);
      const end = head.indexOf('\r\n\r\n', 0, 'latin1');
      if (end >= 0) return head.subarray(0, end + 2);
      if (head.length >= message.size || bytes >= headerReadMax) return head;
    }
  } finally {
    await message.close();
  }
}

function factsOf(fields: readonly HeaderField[], arrivalMs: number): HeaderFacts {
  const date = fieldValue(fields, 'date');
  const from = addressesOf(fields, 'from');
  const to = addressesOf(fields, 'to');
  const subject: BaseSubject = baseSubject(decodeEncodedWords(fieldValue(fields, 'subject') ?? ''));
  return {
    sentMs: (date === undefined ? undefined : parseMessageDate(date)?.ms) ?? arrivalMs,
    from: localPart(from),
    to: localPart(to),
    cc: localPart(addressesOf(fields, 'cc')),
    displayFrom: displayName(from),
    displayTo: displayName(to),
    subject: flat(casemap(subject.base).slice(0, textCharsMax)),
    isReply: subject.isReply,
    messageId: messageIds(fieldValue(fields, 'message-id') ?? '')[0] ?? '',
    references: referencesOf(fields),
  };
}

/** RFC 5256 3: addr-mailbox of the first address of ENVELOPE, which for a group is its name. */
function localPart(entries: readonly AddressEntry[]): string {
  const first = entries[0];
  if (first === undefined || first.kind === 'group-end') return '';
  const bytes = Buffer.from(first.kind === 'group' ? first.name : first.local, 'latin1');
  return flat(casemap(bytes.toString('utf8')).slice(0, textCharsMax));
}

/** Display name, else the address, of the first entry, be it a group (RFC 5957 2). */
function displayName(entries: readonly AddressEntry[]): string {
  const first = entries[0];
  if (first === undefined || first.kind === 'group-end') return '';
  let name = decodeEncodedWords(first.name ?? '').trim();
  if (name === '' && first.kind === 'mailbox') {
    const written = first.domain === '' ? first.local : `${first.local}@${first.domain}`;
    name = Buffer.from(written, 'latin1').toString('utf8');
  }
  return flat(casemap(name).slice(0, textCharsMax));
}

/** RFC 5256 3, THREAD: References, or the first id of In-Reply-To. */
function referencesOf(fields: readonly HeaderField[]): readonly string[] {
  const ids = messageIds(fieldValue(fields, 'references') ?? '');
  if (ids.length > 0) {
    return ids.length <= referencesMax ? ids : [ids[0]!, ...ids.slice(-(referencesMax - 1))];
  }
  return messageIds(fieldValue(fields, 'in-reply-to') ?? '').slice(0, 1);
}

/** What stands in angle brackets, quoting and white space taken off. */
function messageIds(text: string): string[] {
  const ids: string[] = [];
  for (let at = text.indexOf('<'); at >= 0 && ids.length < 1000; ) {
    const end = text.indexOf('>', at);
    if (end < 0) break;
    const id = text.slice(at + 1, end).replace(/[\s"]+/g, '');
    if (id.includes('@') && id.length <= referenceCharsMax) ids.push(flat(id));
    at = text.indexOf('<', end);
  }
  return ids;
}

/** A string of its own: a slice would keep the whole header in memory. */
function flat(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8');
}
