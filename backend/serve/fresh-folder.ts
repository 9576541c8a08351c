/**
 * Looks at a folder's directory before a session opens it, but not for every
 * session of a burst: a mail client opens several at once, each look costs two
 * calls to the file system, and what another program put there a moment ago is
 * found by the next look, or by an idling session's own.
 */
import type { Folder } from '../store/store.ts';

/** A look is good for this long. NOOP's own limit (imap-session.ts) is longer. */
const goodForMs = 250;

/** When the last look that went well began. Folders are shared by the sessions of an account. */
const lookedAtMs = new WeakMap<Folder, number>();

/** @returns `undefined` when the last look is good enough. @throws {Fault} as `Folder.refresh`. */
export function freshFolder(folder: Folder, nowMs = performance.now()): Promise<void> | undefined {
  const last = lookedAtMs.get(folder);
  if (last !== undefined && nowMs - last < goodForMs) return undefined;
  return folder.refresh().then(() => {
    lookedAtMs.set(folder, nowMs);
  });
}
