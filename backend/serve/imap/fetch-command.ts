/**
 * FETCH (RFC 9051 6.4.5). Items the index knows are written without opening a
 * message; for the others several messages are read ahead, bounded in number
 * and bytes, and answered in order.
 */
import { Fault, isFault } from '../../../base/fault.ts';
import {
  type BinaryItem,
  type FetchItem,
  parseFetchItems,
  parseFetchModifiers,
  type SectionItem,
} from '../../../mailwire/imap-fetch-items.ts';
import { bytesOf, imapDateTime, imapString } from '../../../mailwire/imap-reply.ts';
import { parseHeaderFields, selectFields } from '../../../mailwire/mime/header-fields.ts';
import { flagBit, type MessageFacts } from '../../store/store.ts';
import { writeBinary } from './binary-section.ts';
import { envelopeText, structureText } from './body-structure.ts';
import { someGone } from './change-commands.ts';
import type { ImapSession } from './imap-session.ts';
import type { IndexRanges, MailboxView } from './mailbox-view.ts';
import {
  type ContentNeed,
  fieldsOf,
  type MessageContent,
  openContent,
  type Range,
} from './message-content.ts';
import { previewText } from './preview-item.ts';
import { changedRanges, namedUids, tellVanished } from './resync.ts';
import { sectionPart } from './section.ts';
import { Slice } from './session-clock.ts';
import type { CommandCall } from './session-options.ts';

/** Messages opened ahead of the one being written, and their bytes together. */
const aheadMessagesMax = 16;
const aheadBytesMax = 1024 * 1024;
/** The same for all sessions of the process together; past it each reads the message it writes and no more. */
const aheadBytesOfAllMax = 64 * 1024 * 1024;
let aheadBytesOfAll = 0;
/** A large message is read and written in slices of this size. */
const sliceBytes = 256 * 1024;

export async function fetchMessages(session: ImapSession, { cursor, byUid }: CommandCall): Promise<string> {
  cursor.space();
  const set = cursor.sequenceSet();
  cursor.space();
  let items = parseFetchItems(cursor);
  const { changedSince, vanished } = parseFetchModifiers(cursor);
  if (vanished && !(byUid && session.qresync)) return 'BAD VANISHED needs UID FETCH and QRESYNC';
  const view = session.selected();
  let ranges = view.resolve(set, byUid, session.saved);
  if (changedSince !== undefined || items.some((item) => item.kind === 'modseq')) session.enableCondstore();
  if (changedSince !== undefined) {
    if (vanished) tellVanished(session, view, changedSince, namedUids(set, session.saved, view));
    ranges = await changedRanges(view, ranges, changedSince);
    if (!items.some((item) => item.kind === 'modseq')) items = [...items, { kind: 'modseq' }];
  }
  // RFC 9051 6.4.9: UID FETCH answers with the UID whether asked for or not.
  if (byUid && !items.some((item) => item.kind === 'uid')) items = [{ kind: 'uid' }, ...items];
  const needs = needsOf(items);
  const complete =
    needs === undefined
      ? await fetchKnown(session, view, ranges, items)
      : await fetchContents(session, view, ranges, items, needs);
  // Not all was told and nothing is marked: `OK` would say otherwise.
  if (session.stopping) return 'NO [UNAVAILABLE] Stopped';
  if (items.some((item) => 'peek' in item && !item.peek)) await markSeen(session, view, ranges, byUid);
  if (session.unknownEncoding) {
    session.unknownEncoding = false;
    return 'NO [UNKNOWN-CTE] A part has an encoding nobody knows';
  }
  return complete || byUid ? 'OK FETCH completed' : someGone;
}

/** What the items need of the message itself; `undefined`: nothing. */
function needsOf(items: readonly FetchItem[]): Set<ContentNeed> | undefined {
  const needs = new Set<ContentNeed>();
  let open = false;
  for (const item of items) {
    if (item.kind === 'envelope') needs.add('header');
    else if (item.kind === 'body' || item.kind === 'bodystructure') needs.add('part-headers');
    else if (item.kind === 'preview') needs.add('structure');
    else if (item.kind === 'binary' || item.kind === 'binary-size') {
      open = true;
      if (item.path.length > 0) needs.add('structure');
    } else if (item.kind === 'section') {
      open = true;
      if (item.path.length > 0) needs.add(item.fields === undefined ? 'structure' : 'part-headers');
      else if (item.part !== 'all') needs.add('header');
    }
  }
  return open || needs.size > 0 ? needs : undefined;
}

async function fetchKnown(
  session: ImapSession,
  view: MailboxView,
  ranges: IndexRanges,
  items: readonly FetchItem[],
): Promise<boolean> {
  const slice = new Slice();
  const uidsOnly = items.every((item) => item.kind === 'uid');
  let complete = true;
  for (const { from, to } of ranges) {
    for (let at = from; at < to; at++) {
      const facts = view.folder.facts(view.uids[at]!);
      if (facts === undefined) {
        // The client was not told yet that it went, and the view still knows this much (RFC 2180 4.1).
        if (uidsOnly) session.writer.text(`* ${at + 1} FETCH (UID ${view.uids[at]})\r\n`);
        else complete = false;
      } else {
        let line = `* ${at + 1} FETCH (`;
        for (let index = 0; index < items.length; index++) {
          if (index > 0) line += ' ';
          line += knownItem(items[index]!, facts, view, session.rev2);
        }
        session.writer.text(`${line})\r\n`);
      }
      if ((at & 31) !== 0) continue;
      if (session.writer.full) await session.writer.flush();
      const rest = slice.used();
      if (rest !== undefined) await rest;
      if (session.stopping) return complete;
    }
  }
  return complete;
}

/** An item the index can answer; `''` for the others. */
function knownItem(item: FetchItem, facts: MessageFacts, view: MailboxView, rev2: boolean): string {
  switch (item.kind) {
    case 'uid':
      return `UID ${facts.uid}`;
    case 'flags':
      return `FLAGS (${view.flagsWords(facts, rev2)})`;
    case 'internaldate':
      return `INTERNALDATE ${imapDateTime(facts.internalDateMs)}`;
    case 'size':
      return `RFC822.SIZE ${facts.size}`;
    case 'emailid':
      return `EMAILID (${facts.emailId})`;
    case 'savedate': {
      const savedMs = view.folder.savedDateMs(facts.uid);
      return `SAVEDATE ${savedMs === undefined ? 'NIL' : imapDateTime(savedMs)}`;
    }
    case 'modseq':
      return `MODSEQ (${facts.modseq})`;
    case 'threadid':
      return 'THREADID NIL';
    default:
      return '';
  }
}

interface Ahead {
  readonly sequence: number;
  readonly facts: MessageFacts;
  readonly content: Promise<MessageContent | undefined>;
}

async function fetchContents(
  session: ImapSession,
  view: MailboxView,
  ranges: IndexRanges,
  items: readonly FetchItem[],
  needs: ReadonlySet<ContentNeed>,
): Promise<boolean> {
  const ahead: Ahead[] = [];
  let aheadBytes = 0;
  let complete = true;
  const slice = new Slice();
  const indices = indicesOf(ranges);
  let next = indices.next();
  try {
    for (;;) {
      while (
        !next.done &&
        ahead.length < aheadMessagesMax &&
        (ahead.length === 0 || (aheadBytes < aheadBytesMax && aheadBytesOfAll < aheadBytesOfAllMax))
      ) {
        const facts = view.folder.facts(view.uids[next.value]!);
        if (facts === undefined) complete = false;
        else {
          aheadBytes += facts.size;
          aheadBytesOfAll += facts.size;
          ahead.push({ sequence: next.value + 1, facts, content: openOrGone(view, facts.uid, needs) });
        }
        next = indices.next();
      }
      const first = ahead.shift();
      if (first === undefined) return complete;
      aheadBytes -= first.facts.size;
      aheadBytesOfAll -= first.facts.size;
      const content = await first.content;
      if (content === undefined) complete = false;
      else {
        try {
          await writeMessage(session, view, first, content, items);
        } finally {
          await content.close();
        }
      }
      if (session.stopping) return complete;
      const rest = slice.used();
      if (rest !== undefined) await rest;
    }
  } finally {
    aheadBytesOfAll -= aheadBytes;
    for (const { content } of ahead) await closeQuietly(content);
  }
}

function* indicesOf(ranges: IndexRanges): Generator<number> {
  for (const { from, to } of ranges) for (let at = from; at < to; at++) yield at;
}

/** The message's content, or `undefined` when another session expunged it. */
async function openOrGone(
  view: MailboxView,
  uid: number,
  needs: ReadonlySet<ContentNeed>,
): Promise<MessageContent | undefined> {
  try {
    return await openContent(view.folder, uid, needs);
  } catch (error) {
    if (isFault(error, 'gone')) return undefined;
    throw error;
  }
}

async function closeQuietly(content: Promise<MessageContent | undefined>): Promise<void> {
  try {
    await (await content)?.close();
  } catch {
    // Its failure was told by the message before it, or nobody asks any more.
  }
}

async function writeMessage(
  session: ImapSession,
  view: MailboxView,
  { sequence, facts }: Ahead,
  content: MessageContent,
  items: readonly FetchItem[],
): Promise<void> {
  const { writer } = session;
  // Flags may have changed while the message was read; from here on they and their sequence are of one moment.
  const now = view.folder.facts(facts.uid) ?? facts;
  writer.text(`* ${sequence} FETCH (`);
  for (let index = 0; index < items.length; index++) {
    const item = items[index]!;
    if (index > 0) writer.text(' ');
    if (item.kind === 'envelope') {
      writer.text(`ENVELOPE ${envelopeText(parseHeaderFields(content.header()), session.utf8)}`);
    } else if (item.kind === 'body' || item.kind === 'bodystructure') {
      const extended = item.kind === 'bodystructure';
      const name = extended ? 'BODYSTRUCTURE' : 'BODY';
      writer.text(
        `${name} ${structureText(content.structure(), extended, session.utf8, (part) => fieldsOf(content, part))}`,
      );
    } else if (item.kind === 'section') {
      await writeSection(session, item, content);
    } else if (item.kind === 'preview') {
      const text = bytesOf(await previewText(content));
      writer.text(`PREVIEW ${imapString(text, session.utf8)}`);
    } else if (item.kind === 'binary' || item.kind === 'binary-size') {
      if (!(await writeBinaryOrEnd(session, item, content))) session.unknownEncoding = true;
    } else {
      writer.text(knownItem(item, now, view, session.rev2));
    }
  }
  writer.text(')\r\n');
  if (writer.full) await writer.flush();
}

async function writeSection(session: ImapSession, item: SectionItem, content: MessageContent): Promise<void> {
  const { writer } = session;
  let range = sectionRange(item, content);
  if (range === undefined) {
    writer.text(`${item.label} NIL`);
    return;
  }
  if (item.partial !== undefined) range = cut(range, item.partial.start, item.partial.count);
  if (Buffer.isBuffer(range)) {
    writer.text(`${item.label} {${range.length}}\r\n`);
    writer.bytes(range);
    return;
  }
  writer.text(`${item.label} {${range.end - range.start}}\r\n`);
  try {
    await copyRange(session, content, range.start, range.end);
  } catch (error) {
    // The literal's size is out: the answer cannot be made right any more, only the connection can end.
    throw new Fault('storage-failed', 'a message broke off in the middle of its answer', {
      cause: error,
      detail: { closeConnection: true },
    });
  }
}

/** As a section: once its size is out, all of it has to come. */
async function writeBinaryOrEnd(
  session: ImapSession,
  item: BinaryItem,
  content: MessageContent,
): Promise<boolean> {
  try {
    return await writeBinary(session.writer, item, content);
  } catch (error) {
    throw new Fault('storage-failed', 'a message broke off in the middle of its answer', {
      cause: error,
      detail: { closeConnection: true },
    });
  }
}

async function copyRange(
  session: ImapSession,
  content: MessageContent,
  start: number,
  end: number,
): Promise<void> {
  let at = start;
  while (at < end) {
    const bytes = await content.read(at, Math.min(end, at + sliceBytes));
    if (bytes.length === 0 || session.stopping) throw new Fault('unavailable', 'stopped');
    session.writer.bytes(bytes);
    at += bytes.length;
    await session.writer.flush();
  }
}

function cut(range: Range, start: number, count: number): Range {
  if (Buffer.isBuffer(range))
    return range.subarray(Math.min(start, range.length), Math.min(start + count, range.length));
  const from = Math.min(range.end, range.start + start);
  return { start: from, end: Math.min(range.end, from + count) };
}

/** Bytes of a section; `undefined`: the message has no such part. */
function sectionRange(item: SectionItem, content: MessageContent): Range | undefined {
  if (item.path.length === 0) {
    if (item.part === 'all') return content.range(0, content.size);
    const header = content.header();
    if (item.part === 'header') return header;
    if (item.part === 'text') return content.range(header.length, content.size);
    return selectFields(header, item.fields!, item.part === 'fields-not');
  }
  const part = sectionPart(content.structure(), item.path);
  if (part === undefined) return undefined;
  if (item.part === 'all') return content.range(part.bodyStart, part.bodyEnd);
  if (item.part === 'mime') return content.range(part.headerStart, part.bodyStart);
  const message = part.message;
  if (message === undefined) return undefined;
  if (item.part === 'header') return content.range(message.headerStart, message.bodyStart);
  if (item.part === 'text') return content.range(message.bodyStart, message.bodyEnd);
  return selectFields(content.headerOf(message), item.fields!, item.part === 'fields-not');
}

/** Reading a body marks it read (RFC 9051 6.4.5): once for all messages of the command, told when it is durable. */
async function markSeen(
  session: ImapSession,
  view: MailboxView,
  ranges: IndexRanges,
  byUid: boolean,
): Promise<void> {
  if (view.readOnly) return;
  const unseen = view.uidsOf(ranges).filter((uid) => {
    const flags = view.folder.flagsOf(uid);
    return flags !== undefined && (flags & flagBit.seen) === 0;
  });
  if (unseen.length === 0) return;
  const changed = await view.folder.changeFlags(unseen, { how: 'add', flags: flagBit.seen, keywords: [] });
  view.told(changed, true);
  for (const uid of changed) {
    const facts = view.folder.facts(uid);
    if (facts === undefined) continue;
    const flags = view.flagsWords(facts, session.rev2);
    const modseq = session.condstore ? `MODSEQ (${facts.modseq}) ` : '';
    session.untagged(
      `* ${view.sequenceOf(uid)} FETCH (${byUid || session.qresync ? `UID ${uid} ` : ''}${modseq}FLAGS (${flags}))`,
    );
    if (session.writer.full) await session.writer.flush();
  }
}
