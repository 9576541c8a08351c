/** Part numbers of BODY[1.2.3] (RFC 9051 6.4.5.1). */
import type { Part } from '../../../mailwire/mime/structure.ts';

/**
 * The part a path names: children of a multipart by number; 1 is the body of what is no multipart;
 * through `message/rfc822` the numbers go on inside. `undefined`: there is none.
 */
export function sectionPart(root: Part, path: readonly number[]): Part | undefined {
  let container: Part | undefined = root;
  let part: Part | undefined;
  for (const number of path) {
    if (container === undefined) return undefined;
    if (container.type === 'multipart') part = container.parts[number - 1];
    else part = number === 1 ? container : undefined;
    if (part === undefined) return undefined;
    container = part.message ?? (part.type === 'multipart' && part !== container ? part : undefined);
  }
  return part;
}
