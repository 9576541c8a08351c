/** Opens an mbox folder: what is in the file and its part of the journal become a `FolderState`. */
import { closeLater, listDirectory, makeDirectory, openFile, unlinkFile } from '../files.ts';
import { settleLoaded } from '../folder-load.ts';
import type { FolderMeta } from '../folder-meta.ts';
import { FolderState, type ReplayFindings } from '../folder-state.ts';
import { isOldTemporary } from '../incoming.ts';
import type { JournalRecord } from '../journal-records.ts';
import type { StoreHost } from '../store-host.ts';
import { lockThread } from './kernel-lock.ts';
import { MboxFile, makeMbox } from './mbox-file.ts';
import { readMboxIndex } from './mbox-index.ts';
import { cutTorn, lastComing, lookAtMbox } from './mbox-look.ts';
import { Places } from './places.ts';
import { finishRewrite, rewriteName } from './rewrite-log.ts';
import { seenOf } from './seen-file.ts';
import { TakenNames } from './taken-names.ts';

export interface LoadedMbox {
  readonly file: MboxFile;
  readonly state: FolderState;
  readonly findings: ReplayFindings;
  readonly taken: TakenNames;
  /** Messages of other programs wait for their UIDs. */
  readonly hasForeign: boolean;
  /** Sequence the index shows, if it was read. */
  readonly indexed: number | undefined;
}

let locksMissed = false;

/** Without the kernel's locks an mbox is not used at all: other programs would not be held off. */
async function needLocks({ log }: StoreHost): Promise<void> {
  try {
    await lockThread.ready();
  } catch (error) {
    if (!locksMissed) log.error({ event: 'mbox-locks-missing', err: error }, 'mbox folders cannot be locked');
    locksMissed = true;
    throw error;
  }
}

/** @throws {Fault} `busy` when another program keeps it locked after a crash of ours; `unavailable`: no locks here. */
export async function loadMbox(
  directory: string,
  meta: FolderMeta,
  records: readonly JournalRecord[],
  journalWhole: boolean,
  host: StoreHost,
): Promise<LoadedMbox> {
  await needLocks(host);
  await makeMbox(directory);
  const names = await listDirectory(directory);
  if (!names.includes('tmp')) await makeDirectory(`${directory}/tmp`);
  for (const name of await listDirectory(`${directory}/tmp`)) {
    if (isOldTemporary(name)) await unlinkFile(`${directory}/tmp/${name}`).catch(() => {});
  }
  const file = new MboxFile(directory, host.guard.epoch);
  const mayAct = (): void => host.guard.assert();
  const coming = lastComing(records);
  if (names.includes(rewriteName) || coming) {
    await file.locked(async (fd) => {
      const finished = names.includes(rewriteName) && (await finishRewrite(directory, fd, mayAct));
      // What was being appended was before the rewriting, then.
      const torn = coming && !finished ? await cutTorn(fd, coming, mayAct) : 0;
      if (torn > 0) host.log.warn({ event: 'mbox-torn', directory, bytes: torn }, 'a torn end was cut off');
    });
  }
  const taken = TakenNames.of(records);
  const indexed = journalWhole ? await readMboxIndex(directory, meta, records) : undefined;
  if (indexed) {
    file.learn(indexed.places, indexed.seen);
    const { state, findings } = indexed;
    return { file, state, findings, taken, hasForeign: false, indexed: state.highestModseq };
  }
  const fd = await openFile(file.path, 'r');
  try {
    const seen = await seenOf(fd);
    const look = await lookAtMbox(fd, 0, seen.size, meta.uidReserved, taken.copy());
    const state = new FolderState();
    const now = Math.floor(Date.now() / 1000);
    const found = state.load(look.known, records, now, false);
    const findings = settleLoaded(state, found, look.known.length, records, meta, journalWhole);
    // A message that was expunged and stands there again is another program's doing: it gets a new UID.
    const back = new Set(findings.foreign);
    const hasForeign = look.foreign.length > 0 || back.size > 0;
    const known = look.known.filter(({ text }) => !back.has(text));
    file.learn(Places.of(known.map(({ place }) => place)), seen);
    taken.keepOnly((uid) => file.places.get(uid)?.named === false);
    // The whole of it is looked at once more then, under the lock.
    file.hasGaps = hasForeign;
    if (hasForeign) file.seen = undefined;
    return { file, state, findings, taken, hasForeign, indexed: undefined };
  } finally {
    closeLater(fd);
  }
}
