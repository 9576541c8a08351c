/** What a FETCH command asks for (RFC 9051 6.4.5, RFC 3501 6.4.5), read from its arguments. */
import { Fault } from '../base/fault.ts';
import { imapAstring } from './imap-reply.ts';
import type { ImapCursor } from './imap-tokens.ts';

export type SectionPart = 'all' | 'header' | 'fields' | 'fields-not' | 'text' | 'mime';

export interface SectionItem {
  readonly kind: 'section';
  /** The item's name in the answer: `BODY[1.MIME]<0>`, `RFC822.TEXT`. */
  readonly label: string;
  /** Part numbers, `[]` for the message itself. */
  readonly path: readonly number[];
  readonly part: SectionPart;
  /** Lower case. */
  readonly fields: ReadonlySet<string> | undefined;
  readonly partial: { readonly start: number; readonly count: number } | undefined;
  /** Does not set `\Seen`. */
  readonly peek: boolean;
}

/** A part decoded (RFC 3516). */
export interface BinaryItem {
  readonly kind: 'binary' | 'binary-size';
  readonly label: string;
  readonly path: readonly number[];
  readonly partial: { readonly start: number; readonly count: number } | undefined;
  readonly peek: boolean;
}

export type FetchItem =
  | {
      readonly kind:
        | 'uid'
        | 'flags'
        | 'internaldate'
        | 'size'
        | 'envelope'
        | 'body'
        | 'bodystructure'
        | 'emailid'
        | 'threadid'
        | 'modseq'
        | 'savedate'
        | 'preview';
    }
  | SectionItem
  | BinaryItem;

/** Every item may cost a whole message: their number is bounded. */
export const fetchItemsMax = 100;
const fieldsMax = 1000;

const simple: Readonly<Record<string, readonly FetchItem[]>> = {
  UID: [{ kind: 'uid' }],
  FLAGS: [{ kind: 'flags' }],
  INTERNALDATE: [{ kind: 'internaldate' }],
  'RFC822.SIZE': [{ kind: 'size' }],
  ENVELOPE: [{ kind: 'envelope' }],
  BODYSTRUCTURE: [{ kind: 'bodystructure' }],
  EMAILID: [{ kind: 'emailid' }],
  THREADID: [{ kind: 'threadid' }],
  MODSEQ: [{ kind: 'modseq' }],
  SAVEDATE: [{ kind: 'savedate' }],
  RFC822: [section('RFC822', 'all', false)],
  'RFC822.HEADER': [section('RFC822.HEADER', 'header', true)],
  'RFC822.TEXT': [section('RFC822.TEXT', 'text', false)],
};

const fast: readonly FetchItem[] = [{ kind: 'flags' }, { kind: 'internaldate' }, { kind: 'size' }];
const macros: Readonly<Record<string, readonly FetchItem[]>> = {
  FAST: fast,
  ALL: [...fast, { kind: 'envelope' }],
  FULL: [...fast, { kind: 'envelope' }, { kind: 'body' }],
};

function section(label: string, part: SectionPart, peek: boolean): SectionItem {
  return { kind: 'section', label, path: [], part, fields: undefined, partial: undefined, peek };
}

/** Items or a macro, up to the end of them. @throws {Fault} `bad-syntax`, `limit-reached` */
export function parseFetchItems(cursor: ImapCursor): readonly FetchItem[] {
  if (!cursor.takeIf('(')) return item(cursor, true);
  const items: FetchItem[] = [];
  do {
    items.push(...item(cursor, false));
    if (items.length > fetchItemsMax) throw new Fault('limit-reached', 'Too many items');
  } while (cursor.takeIf(' '));
  cursor.expect(')');
  return distinct(items);
}

/** What is asked for twice is told once. */
function distinct(items: readonly FetchItem[]): readonly FetchItem[] {
  const seen = new Set<string>();
  return items.filter((item) => {
    const name = `${item.kind} ${'label' in item ? `${item.label}${item.peek}${item.partial?.count}` : ''}`;
    return !seen.has(name) && seen.add(name);
  });
}

export interface FetchModifiers {
  /** RFC 7162 3.1.4.1. */
  readonly changedSince: number | undefined;
  /** RFC 7162 3.2.6: tell what was expunged since. */
  readonly vanished: boolean;
}

/** What may follow the items, to the end of the command. @throws {Fault} `bad-syntax` */
export function parseFetchModifiers(cursor: ImapCursor): FetchModifiers {
  let changedSince: number | undefined;
  let vanished = false;
  if (cursor.takeIf(' ')) {
    cursor.expect('(');
    do {
      const name = cursor.keyword();
      if (name === 'CHANGEDSINCE' && changedSince === undefined) {
        cursor.space();
        changedSince = cursor.number64();
        if (changedSince === 0) throw new Fault('bad-syntax', '0 is not allowed here');
      } else if (name === 'VANISHED' && !vanished) vanished = true;
      else throw new Fault('bad-syntax', 'Unknown FETCH modifier');
    } while (cursor.takeIf(' '));
    cursor.expect(')');
  }
  cursor.end();
  if (vanished && changedSince === undefined) throw new Fault('bad-syntax', 'VANISHED needs CHANGEDSINCE');
  return { changedSince, vanished };
}

function item(cursor: ImapCursor, alone: boolean): readonly FetchItem[] {
  const name = cursor.itemName();
  if (alone && Object.hasOwn(macros, name)) return macros[name]!;
  if ((name === 'BODY' || name === 'BODY.PEEK') && cursor.takeIf('[')) {
    return [bodySection(cursor, name === 'BODY.PEEK')];
  }
  if (name === 'BINARY' || name === 'BINARY.PEEK' || name === 'BINARY.SIZE') {
    cursor.expect('[');
    return [binarySection(cursor, name)];
  }
  if (name === 'PREVIEW') {
    // LAZY allows to say "not yet"; here it is always made at once (RFC 8970 3.1).
    cursor.takeText(' (LAZY)');
    return [{ kind: 'preview' }];
  }
  if (name === 'BODY') return [{ kind: 'body' }];
  if (Object.hasOwn(simple, name)) return simple[name]!;
  throw new Fault('bad-syntax', 'Unknown FETCH item');
}

/** After `BODY[`. */
function bodySection(cursor: ImapCursor, peek: boolean): SectionItem {
  const path = cursor.partNumbers();
  let part: SectionPart = 'all';
  let label = path.join('.');
  let fields: Set<string> | undefined;
  const dotted = path.length > 0 && cursor.takeIf('.');
  if (dotted || (path.length === 0 && !cursor.isAt(']'))) {
    const name = cursor.itemName();
    label += (dotted ? '.' : '') + name;
    if (name === 'HEADER') part = 'header';
    else if (name === 'TEXT') part = 'text';
    else if (name === 'MIME' && path.length > 0) part = 'mime';
    else if (name === 'HEADER.FIELDS' || name === 'HEADER.FIELDS.NOT') {
      part = name === 'HEADER.FIELDS' ? 'fields' : 'fields-not';
      const written = fieldNames(cursor);
      label += ` (${written.map((field) => imapAstring(field)).join(' ')})`;
      fields = new Set(written.map((field) => field.toLowerCase()));
    } else throw new Fault('bad-syntax', 'Unknown section');
  }
  cursor.expect(']');
  const partial = partialOf(cursor);
  label = `BODY[${label}]${partial === undefined ? '' : `<${partial.start}>`}`;
  return { kind: 'section', label, path, part, fields, partial, peek };
}

/** After `BINARY[`. */
function binarySection(cursor: ImapCursor, name: 'BINARY' | 'BINARY.PEEK' | 'BINARY.SIZE'): BinaryItem {
  const path = cursor.partNumbers();
  cursor.expect(']');
  if (name === 'BINARY.SIZE') {
    return {
      kind: 'binary-size',
      label: `BINARY.SIZE[${path.join('.')}]`,
      path,
      partial: undefined,
      peek: true,
    };
  }
  const partial = partialOf(cursor);
  const label = `BINARY[${path.join('.')}]${partial === undefined ? '' : `<${partial.start}>`}`;
  return { kind: 'binary', label, path, partial, peek: name === 'BINARY.PEEK' };
}

/** `<start.count>` */
function partialOf(cursor: ImapCursor): SectionItem['partial'] {
  if (!cursor.takeIf('<')) return undefined;
  const start = cursor.number64();
  cursor.expect('.');
  const count = cursor.number64();
  if (count === 0) throw new Fault('bad-syntax', '0 is not allowed here');
  cursor.expect('>');
  return { start, count };
}

function fieldNames(cursor: ImapCursor): string[] {
  cursor.space();
  cursor.expect('(');
  const names: string[] = [];
  do {
    names.push(cursor.astring());
    if (names.length > fieldsMax) throw new Fault('limit-reached', 'Too many header fields');
  } while (cursor.takeIf(' '));
  cursor.expect(')');
  return names;
}
