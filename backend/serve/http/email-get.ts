/** Email/get (RFC 8621 4.2): what the index knows, the header, and the parts, each read only when asked for. */

import { isFault } from '../../../base/fault.ts';
import { type HeaderField, headerBytesMax, parseHeaderFields } from '../../../mailwire/mime/header-fields.ts';
import { parseStructure } from '../../../mailwire/mime/structure.ts';
import type { OpenMessage } from '../../store/store.ts';
import { blobId } from './blob-id.ts';
import { type BodyArguments, BodyReader, bodyArguments } from './email-body.ts';
import { allHeaders, convenient, headerProperty } from './email-header.ts';
import { keywordsOf, type Location } from './email-index.ts';
import { emailBodies } from './email-parts.ts';
import { type Arguments, idsIn, onlyKnown, textsIn } from './jmap-arguments.ts';
import { invalid, MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import type { JmapContext } from './jmap-methods.ts';

const indexed = ['id', 'blobId', 'threadId', 'mailboxIds', 'keywords', 'size', 'receivedAt'];
const ofBody = [
  'bodyStructure',
  'bodyValues',
  'textBody',
  'htmlBody',
  'attachments',
  'hasAttachment',
  'preview',
];
const defaultProperties = [
  ...indexed,
  ...Object.keys(convenient),
  'hasAttachment',
  'preview',
  'bodyValues',
  'textBody',
  'htmlBody',
  'attachments',
];

export async function emailGet(args: Arguments, context: JmapContext): Promise<Arguments> {
  onlyKnown(args, [
    'accountId',
    'ids',
    'properties',
    'bodyProperties',
    'fetchTextBodyValues',
    'fetchHTMLBodyValues',
    'fetchAllBodyValues',
    'maxBodyValueBytes',
  ]);
  const ids = idsIn(args, 'ids');
  // RFC 8620 5.1: all of them is more than is given at once.
  if (ids === undefined || ids.length > jmapLimits.maxObjectsInGet) {
    throw new MethodError('requestTooLarge', 'name fewer ids');
  }
  const properties = wantedProperties(args);
  const body = bodyArguments(args);
  const { index, accountId } = context;
  await index.update();
  const list: Arguments[] = [];
  const notFound: string[] = [];
  let bytes = 0;
  for (const id of ids) {
    const locations = index.locate(id);
    const email = locations.length === 0 ? undefined : await shown(locations, properties, body);
    if (email === undefined) notFound.push(id);
    else list.push(email);
    bytes += roughBytes(email);
    if (bytes > jmapLimits.answerBytesMax)
      throw new MethodError('requestTooLarge', 'the answer is too large');
  }
  return { accountId, state: index.state, list, notFound };
}

function wantedProperties(args: Arguments): readonly string[] {
  const names = textsIn(args, 'properties');
  if (names === undefined) return defaultProperties;
  if (names.length > 200) throw invalid('too many properties');
  for (const name of names) {
    if (!indexed.includes(name) && !ofBody.includes(name) && name !== 'headers') headerProperty(name, []);
  }
  return ['id', ...names.filter((name) => name !== 'id')];
}

/** `undefined`: it was expunged meanwhile. */
async function shown(
  locations: readonly Location[],
  properties: readonly string[],
  bodyArgs: BodyArguments,
): Promise<Arguments | undefined> {
  const [first] = locations as [Location];
  const email: Arguments = {};
  const rest: string[] = [];
  for (const name of properties) {
    if (indexed.includes(name)) email[name] = indexedProperty(name, locations);
    else rest.push(name);
  }
  if (rest.length === 0) return email;
  let message: OpenMessage;
  try {
    message = await first.folder.open(first.facts.uid);
  } catch (error) {
    if (isFault(error, 'gone')) return undefined;
    throw error;
  }
  try {
    const fields = await headerFields(message);
    const reader = rest.some((name) => ofBody.includes(name))
      ? new BodyReader(message, first.facts.emailId, emailBodies(await parseStructure(message)), bodyArgs)
      : undefined;
    for (const name of rest) {
      if (name === 'headers') email[name] = allHeaders(fields);
      else if (ofBody.includes(name)) email[name] = await reader?.property(name);
      else email[name] = headerProperty(name, fields);
    }
    return email;
  } finally {
    await message.close();
  }
}

function indexedProperty(name: string, locations: readonly Location[]): unknown {
  const [{ facts }] = locations as [Location];
  switch (name) {
    case 'id':
      return facts.emailId;
    case 'blobId':
      return blobId(facts.emailId, []);
    case 'threadId':
      return threadIdOf(facts.emailId);
    case 'mailboxIds':
      return Object.fromEntries(locations.map(({ folder }) => [folder.mailboxId, true]));
    case 'keywords':
      return Object.fromEntries([...keywordsOf(facts)].map((keyword) => [keyword, true]));
    case 'size':
      return facts.size;
    default:
      return `${new Date(facts.internalDateMs).toISOString().slice(0, 19)}Z`;
  }
}

/** Threads are not made yet: every email is one of its own (RFC 8621 3 leaves the rule to the server). */
export function threadIdOf(emailId: string): string {
  return `T${emailId}`;
}

async function headerFields(message: OpenMessage): Promise<HeaderField[]> {
  const near = await message.read(0, Math.min(message.size, 32 * 1024));
  if (near.length === message.size || near.includes('\r\n\r\n')) return parseHeaderFields(near);
  return parseHeaderFields(await message.read(0, Math.min(message.size, headerBytesMax)));
}

function roughBytes(value: unknown): number {
  if (typeof value === 'string') return value.length + 2;
  if (typeof value !== 'object' || value === null) return 8;
  let bytes = 2;
  for (const [key, entry] of Object.entries(value)) bytes += key.length + 4 + roughBytes(entry);
  return bytes;
}
