/**
 * The parts of a message as JMAP sees them (RFC 8621 4.1.4): numbered leaves,
 * and which of them are the text, the HTML and the attachments.
 */

import { decodedParameter, parameter } from '../../../mailwire/mime/parameters.ts';
import type { Part } from '../../../mailwire/mime/structure.ts';

export interface EmailPart {
  readonly part: Part;
  /** Numbers from the outside in; `[1]` for the body of a message that is no multipart. */
  readonly path: readonly number[];
  readonly type: string;
  readonly name: string | null;
  /** Of a multipart; else empty. */
  readonly subParts: readonly EmailPart[];
  readonly isMultipart: boolean;
}

export interface EmailBodies {
  readonly root: EmailPart;
  readonly text: readonly EmailPart[];
  readonly html: readonly EmailPart[];
  readonly attachments: readonly EmailPart[];
}

export function emailBodies(root: Part): EmailBodies {
  const whole = numbered(root, root.type === 'multipart' ? [] : [1]);
  const text: EmailPart[] = [];
  const html: EmailPart[] = [];
  const attachments: EmailPart[] = [];
  sort([whole], 'mixed', false, html, text, attachments);
  return { root: whole, text, html, attachments };
}

/** The part of a blob's path; `undefined`: there is none, or it is a multipart. */
export function leafAt(root: Part, path: readonly number[]): Part | undefined {
  if (root.type !== 'multipart') return path.length === 1 && path[0] === 1 ? root : undefined;
  let at: Part | undefined = root;
  for (const number of path) at = at?.parts[number - 1];
  return at === root || at?.type === 'multipart' ? undefined : at;
}

export function partIdOf(part: EmailPart): string | null {
  return part.isMultipart ? null : part.path.join('.');
}

function numbered(part: Part, path: readonly number[]): EmailPart {
  const isMultipart = part.type === 'multipart';
  return {
    part,
    path,
    type: `${part.type}/${part.subtype}`,
    name: nameOf(part),
    isMultipart,
    subParts: isMultipart ? part.parts.map((sub, at) => numbered(sub, [...path, at + 1])) : [],
  };
}

function nameOf({ disposition, params }: Part): string | null {
  const name =
    (disposition === undefined ? undefined : decodedParameter(disposition.params, 'filename')) ??
    decodedParameter(params, 'name');
  return name ?? null;
}

export function charsetOf(part: Part): string | null {
  if (part.type !== 'text') return null;
  return parameter(part.params, 'charset') ?? 'us-ascii';
}

function isMedia(part: Part): boolean {
  return part.type === 'image' || part.type === 'audio' || part.type === 'video';
}

/** May the part be shown where it stands? Its place among its siblings decides as well as its type. */
function isInline({ part, type, name }: EmailPart, at: number, around: string): boolean {
  const shown = type === 'text/plain' || type === 'text/html' || isMedia(part);
  if (!shown || part.disposition?.type === 'attachment') return false;
  return at === 0 || (around !== 'related' && (isMedia(part) || name === null));
}

/**
 * Sorts leaves into the three lists. `html` or `text` is undefined below a branch that is an alternative of the
 * other kind: what stands there belongs to that kind alone.
 */
function sort(
  parts: readonly EmailPart[],
  around: string,
  inAlternative: boolean,
  htmlList: EmailPart[] | undefined,
  textList: EmailPart[] | undefined,
  attachments: EmailPart[],
): void {
  let html = htmlList;
  let text = textList;
  const htmlBefore = html?.length ?? 0;
  const textBefore = text?.length ?? 0;
  for (const [at, each] of parts.entries()) {
    if (each.isMultipart) {
      const { subtype } = each.part;
      sort(each.subParts, subtype, inAlternative || subtype === 'alternative', html, text, attachments);
    } else if (!isInline(each, at, around)) {
      attachments.push(each);
    } else if (around === 'alternative') {
      if (each.type === 'text/plain') text?.push(each);
      else if (each.type === 'text/html') html?.push(each);
      else attachments.push(each);
    } else {
      if (inAlternative && each.type === 'text/plain') html = undefined;
      if (inAlternative && each.type === 'text/html') text = undefined;
      text?.push(each);
      html?.push(each);
      if ((text === undefined || html === undefined) && isMedia(each.part)) attachments.push(each);
    }
  }
  if (around !== 'alternative' || text === undefined || html === undefined) return;
  // An alternative with only one of the two kinds serves both.
  if (text.length === textBefore && html.length !== htmlBefore) text.push(...html.slice(htmlBefore));
  else if (html.length === htmlBefore && text.length !== textBefore) html.push(...text.slice(textBefore));
}
