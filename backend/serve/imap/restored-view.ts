/**
 * The numbers a session sees, rebuilt at another backend: the messages that are
 * there, and those that went since without the session having been told, from
 * the folder's history of expunges (the same that answers QRESYNC).
 */
import { isFault } from '../../../base/fault.ts';
import type { Folder, Store } from '../../store/store.ts';
import { rangesOf } from '../../store/uid-set.ts';
import { dirtyMax, lowerBound, type RestoredView } from './mailbox-view.ts';
import { Slice } from './session-clock.ts';
import type { SelectedState } from './session-state.ts';

/** The folder of a state, under whatever name it has now. */
export async function folderOf(store: Store, state: SelectedState): Promise<Folder | undefined> {
  const names = store
    .listFolders()
    .filter((info) => info.selectable)
    .map((info) => info.name);
  // It has its old name nearly always: the others are opened only when it has not.
  names.sort((a, b) => Number(b === state.name) - Number(a === state.name));
  for (const name of names) {
    const folder = await store.folder(name).catch((error: unknown) => {
      if (isFault(error, 'no-such-folder')) return undefined;
      throw error;
    });
    if (folder?.mailboxId === state.mailboxId)
      return folder.uidValidity === state.uidValidity ? folder : undefined;
  }
  return undefined;
}

/**
 * @returns `undefined` when the history does not reach back. It names exactly those that went (`expungesNoted`), or too
 *   many and never too few (`expungedSince`); either way as many as were there are the very same.
 */
export async function restoreView(folder: Folder, state: SelectedState): Promise<RestoredView | undefined> {
  const { modseq, uidLimit, untold, flagsModseq, keywords } = state;
  const seenModseq = folder.highestModseq;
  const uids = numbersOf(folder, state);
  if (uids === undefined) return undefined;
  return {
    seenModseq,
    uids,
    modseq,
    uidLimit,
    untold,
    flagsModseq,
    keywords,
    changed: await changedSince(folder, uids, flagsModseq),
  };
}

/** UIDs whose flags changed; stops when they are more than anybody counts. */
async function changedSince(folder: Folder, uids: Uint32Array, modseq: number): Promise<number[]> {
  const changed: number[] = [];
  if (folder.highestModseq <= modseq) return changed;
  const slice = new Slice();
  for (let at = 0; at < uids.length && changed.length <= dirtyMax; at++) {
    if ((folder.modseqOf(uids[at]!) ?? 0) > modseq) changed.push(uids[at]!);
    if ((at & 1023) !== 1023) continue;
    const rest = slice.used();
    if (rest !== undefined) await rest;
  }
  return changed;
}

/** UIDs by sequence number − 1. */
export function numbersOf(
  folder: Folder,
  state: Pick<SelectedState, 'modseq' | 'uidLimit' | 'count' | 'untold'>,
): Uint32Array | undefined {
  const now = folder.uids();
  const there = now.subarray(0, lowerBound(now, state.uidLimit));
  const missing = state.count - there.length;
  if (missing === 0) return there;
  if (missing < 0) return undefined;
  const gone = new Set<number>();
  const history = folder.expungesNoted(state.modseq) ?? folder.expungedSince(state.modseq) ?? [];
  const ranges = [...rangesOf(state.untold), ...history];
  for (const [first, last] of ranges) {
    for (let uid = first; uid <= last && uid < state.uidLimit; uid++) {
      if (there[lowerBound(there, uid)] !== uid) gone.add(uid);
      if (gone.size > missing) return undefined;
    }
  }
  if (gone.size !== missing) return undefined;
  const all = new Uint32Array(state.count);
  all.set(there);
  all.set([...gone], there.length);
  return all.sort();
}
