/**
 * Which requests the HTTP door knows. The list is closed: a path that is not on
 * it never reaches a backend (CASES 82).
 */

export type Target =
  | { readonly kind: 'page' }
  /** Passed to the owner of the account, as `path`. */
  | { readonly kind: 'owner'; readonly path: string; readonly methods: readonly string[] }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'malformed' };

export const targetBytesMax = 4096;

const reading = ['GET', 'HEAD'] as const;
const exact: Readonly<Record<string, readonly string[]>> = {
  '/.well-known/jmap': reading, // RFC 8620 2.2
  '/jmap/session': reading,
  '/jmap/api': ['POST'],
};

const unknown: Target = { kind: 'unknown' };
const malformed: Target = { kind: 'malformed' };

/** @param target  Request target of HTTP/1.1 (origin or absolute form, RFC 9112 3.2) or `:path` of HTTP/2. */
export function targetOf(target: string): Target {
  if (target.length > targetBytesMax || !/^[\x21-\x7e]+$/.test(target) || target.includes('#'))
    return malformed;
  const absolute = /^https?:\/\/[A-Za-z0-9.:[\]-]{1,300}(?=[/?]|$)/i.exec(target);
  const local = absolute === null ? target : target.slice(absolute[0].length) || '/';
  if (!local.startsWith('/')) return malformed;
  const question = local.indexOf('?');
  const path = question < 0 ? local : local.slice(0, question);
  if (path === '/') return { kind: 'page' };
  const methods = Object.hasOwn(exact, path) ? exact[path] : undefined;
  if (methods !== undefined) return { kind: 'owner', path: local, methods };
  return isDownload(path) ? { kind: 'owner', path: local, methods: reading } : unknown;
}

/** `/jmap/download/{accountId}/{blobId}/{name}`: the ids as RFC 8620 1.2 has them, the name one harmless segment. */
function isDownload(path: string): boolean {
  const found = /^\/jmap\/download\/[A-Za-z0-9_-]{1,255}\/[A-Za-z0-9_-]{1,255}\/([^/]{1,1024})$/.exec(path);
  if (found === null) return false;
  try {
    const name = decodeURIComponent(found[1] as string);
    return name !== '.' && name !== '..' && !/[/\\\0-\x1f\x7f]/.test(name);
  } catch {
    return false;
  }
}
