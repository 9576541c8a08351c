/**
 * What whoever searches knows of an index of texts. It names messages that may
 * hold a text and never leaves one out; whether they do is for the caller to
 * see. Without an answer every message has to be looked at.
 */
import type { Folder } from '../store.ts';

export interface Candidates {
  /** UIDs up to this one are judged; greater ones may hold anything. */
  readonly through: number;
  /** May a message with a UID up to `through` hold the text? */
  has(uid: number): boolean;
}

export interface TextIndex {
  /**
   * Messages of a folder whose header lines or text may hold `needle`. Asking also sets the index on its way: a
   * folder is indexed once somebody searches it.
   *
   * @param needle  Folded as `foldText` does.
   * @returns `undefined`: the index cannot tell; look at all.
   */
  candidates(folder: Folder, needle: string): Promise<Candidates | undefined>;
  /** Ends background work and leaves the index behind as whole. */
  close(): Promise<void>;
}
