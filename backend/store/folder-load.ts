/**
 * Opens a folder: its directory, its meta file and its part of the journal
 * become a `FolderState`. Also tells what the directory still needs: files of
 * expunged messages to remove, files of other programs to take in.
 */
import path from 'node:path';
import { listDirectory, listInBatches, statFile, unlinkFile } from './files.ts';
import type { FolderMeta } from './folder-meta.ts';
import { FolderState, type NamedFile, type ReplayFindings } from './folder-state.ts';
import { isOldTemporary } from './incoming.ts';
import type { JournalRecord } from './journal-records.ts';
import { parseMessageName } from './message-name.ts';

/** A file in `cur/` or `new/` that has no UID of ours yet. */
export interface ForeignFile {
  readonly directory: 'cur' | 'new';
  readonly text: string;
}

export interface LoadedFolder {
  readonly state: FolderState;
  readonly findings: ReplayFindings;
  readonly foreign: readonly ForeignFile[];
  readonly seen: SeenTimes;
  /** It came from an index, which shows this. */
  readonly indexed?: { readonly modseq: number; readonly exact: boolean };
}

/** Directory times at the last look; NaN: too fresh to tell, look again. */
export interface SeenTimes {
  readonly curMs: number;
  readonly newMs: number;
}

/** A change within this of the look may share its time stamp with one before it. */
export const stampMs = 20;

export async function seenTimes(directory: string): Promise<SeenTimes> {
  const [cur, fresh] = await Promise.all([
    statFile(path.join(directory, 'cur')),
    statFile(path.join(directory, 'new')),
  ]);
  const settled = Date.now() - stampMs;
  return {
    curMs: cur.mtimeMs < settled ? cur.mtimeMs : Number.NaN,
    newMs: fresh.mtimeMs < settled ? fresh.mtimeMs : Number.NaN,
  };
}

/** Names in `cur/` and `new/` of files that are messages: not hidden ones, nothing that cannot be a name of ours. */
export async function listMessages(
  directory: string,
): Promise<{ named: NamedFile[]; foreign: ForeignFile[] }> {
  const named: NamedFile[] = [];
  const foreign: ForeignFile[] = [];
  const take = (texts: readonly string[]): void => {
    for (const text of texts) {
      const name = parseMessageName(text);
      if (name) named.push({ text, name });
      else if (text[0] !== '.') foreign.push({ directory: 'cur', text });
    }
  };
  const [fresh] = await Promise.all([
    listDirectory(path.join(directory, 'new')),
    listInBatches(path.join(directory, 'cur'), take),
  ]);
  for (const text of fresh) if (text[0] !== '.') foreign.push({ directory: 'new', text });
  return { named, foreign };
}

/** Longest stretch of loading during which nobody else is served. */
const sliceMs = 8;

async function inSlices<T>(work: Generator<void, T>): Promise<T> {
  for (let since = performance.now(); ; ) {
    const step = work.next();
    if (step.done) return step.value;
    if (performance.now() - since < sliceMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  }
}

/** Removes what earlier processes of ours had begun to write. */
export async function clearTemporary(directory: string): Promise<void> {
  for (const name of await listDirectory(path.join(directory, 'tmp'))) {
    if (isOldTemporary(name)) await unlinkFile(path.join(directory, 'tmp', name)).catch(() => {});
  }
}

export async function loadFolder(
  directory: string,
  meta: FolderMeta,
  records: readonly JournalRecord[],
  journalWhole: boolean,
): Promise<LoadedFolder> {
  const seen = await seenTimes(directory);
  const [{ named, foreign }] = await Promise.all([listMessages(directory), clearTemporary(directory)]);
  const state = new FolderState();
  const findings = await inSlices(state.loading(named, records, Math.floor(Date.now() / 1000)));
  const settled = settleLoaded(state, findings, named.length, records, meta, journalWhole);
  return {
    state,
    findings: settled,
    foreign: [...foreign, ...findings.foreign.map((text) => ({ directory: 'cur' as const, text }))],
    seen,
  };
}

/** Skips what may have been given since the last record, and says so when it is not known what went. @param count  Messages found. */
export function settleLoaded(
  state: FolderState,
  findings: ReplayFindings,
  count: number,
  records: readonly JournalRecord[],
  meta: FolderMeta,
  journalWhole: boolean,
): ReplayFindings {
  // A fresh folder has no records and used nothing of its first block.
  const untouched = records.length === 0 && count === 0 && journalWhole && state.uidNext === 1;
  if ((findings.unclean || !journalWhole) && !untouched) {
    // What was given after the last record is not known: the reserved block is skipped.
    state.uidNext = Math.max(state.uidNext, meta.uidReserved);
    state.highestModseq = Math.max(state.highestModseq, meta.modseqReserved);
  }
  const last = records.findLast((record) => record.t === 'clean');
  let differs = false;
  if (findings.unclean || !journalWhole || last?.t !== 'clean') {
    state.goneKnownFrom = state.highestModseq;
  } else if (last.c !== state.columns.count) {
    // Another program removed files while nobody looked: clients have to hear of it.
    state.highestModseq++;
    state.goneKnownFrom = state.highestModseq;
    differs = true;
  }
  return differs ? { ...findings, unclean: true } : findings;
}
