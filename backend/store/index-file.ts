/**
 * When a folder's index is written and when it is believed; what stands in it
 * is in `folder-index.ts`. It is written when an account is closed with nothing
 * pending, without a sync: what a power cut makes of it, its checksum tells.
 */
import {
  closeFile,
  listDirectory,
  openFile,
  readSmall,
  renameFile,
  statFile,
  unlinkFile,
  writeAt,
} from './files.ts';
import { type FolderIndex, formatIndex, indexName, readIndex } from './folder-index.ts';
import { clearTemporary, type LoadedFolder, stampMs } from './folder-load.ts';
import type { FolderMeta } from './folder-meta.ts';
import { keyKeptSeconds } from './folder-state.ts';
import type { JournalRecord } from './journal-records.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { addRange, inRanges, rangesOf } from './uid-set.ts';

/** Smaller folders are read from their names as fast. */
const indexedMin = 1000;
/** An index of several million messages; more is not ours. */
const indexBytesMax = 1024 * 1024 * 1024;

/**
 * A folder from its index, when that is of now.
 *
 * @param records  The folder's part of a journal that is whole.
 */
export async function loadIndexed(
  directory: string,
  meta: FolderMeta,
  records: readonly JournalRecord[],
): Promise<LoadedFolder | undefined> {
  const cleanAt = records.findLastIndex((record) => record.t === 'clean');
  const clean = records[cleanAt];
  if (clean?.t !== 'clean' || clean.c < indexedMin) return undefined;
  const after = records.slice(cleanAt + 1);
  if (after.some((record) => record.t !== 'settled' && record.t !== 'purged')) return undefined;
  const index = await readFile(`${directory}/${indexName}`, {
    mailboxId: meta.mailboxId,
    uidValidity: meta.uidValidity,
    uidNext: clean.n,
    modseq: clean.m,
    bytes: clean.b,
    count: clean.c,
  });
  if (index === undefined) return undefined;
  const [cur, fresh, foreign] = await Promise.all([
    statFile(`${directory}/cur`),
    statFile(`${directory}/new`),
    listDirectory(`${directory}/new`),
    clearTemporary(directory),
  ]);
  if (cur.mtimeMs !== index.curMs) return undefined;
  const { state } = index;
  for (const record of after) {
    if (record.t !== 'settled') continue;
    for (const range of rangesOf(record.u)) addRange(state.settled, ...range);
    state.uidNext = Math.max(state.uidNext, record.n);
  }
  const since = Math.floor(Date.now() / 1000) - keyKeptSeconds;
  return {
    state,
    findings: {
      unlink: [],
      foreign: [],
      purge: undefined,
      unclean: false,
      keys: index.keys.filter(([, uid, seconds]) => seconds > since && !inRanges(state.settled, uid)),
      unshown: [],
    },
    foreign: foreign.filter((text) => text[0] !== '.').map((text) => ({ directory: 'new' as const, text })),
    seen: {
      curMs: index.exact ? index.curMs : Number.NaN,
      newMs: fresh.mtimeMs < Date.now() - stampMs ? fresh.mtimeMs : Number.NaN,
    },
    indexed: { modseq: clean.m, exact: index.exact },
  };
}

async function readFile(
  file: string,
  expected: Parameters<typeof readIndex>[1],
): Promise<FolderIndex | undefined> {
  try {
    const { size } = await statFile(file);
    if (size > indexBytesMax) return undefined;
    return await readIndex(await readSmall(file, size), expected);
  } catch {
    // Missing or not readable: the names say it all.
    return undefined;
  }
}

/** Writes the index of a folder whose names show everything, durably, and whose journal says so. */
export async function saveIndex(folder: MaildirFolder): Promise<void> {
  const { state, host } = folder;
  if (state.columns.count < indexedMin || folder.unclean || folder.late.behind || folder.removed) return;
  const cur = `${folder.directory}/cur`;
  let { mtimeMs } = await statFile(cur);
  if (mtimeMs > Date.now() - stampMs) {
    // A change within the same stamp would not be seen.
    await new Promise((resolve) => setTimeout(resolve, stampMs + 5));
    ({ mtimeMs } = await statFile(cur));
    if (mtimeMs > Date.now() - stampMs) return;
  }
  const exact = folder.ownChanges === 0 && folder.seen.curMs === mtimeMs;
  if (folder.indexed?.modseq === state.highestModseq && (folder.indexed.exact || !exact)) return;
  const parts = await formatIndex(
    { state, keys: host.keys.of(folder.mailboxId), curMs: mtimeMs, exact },
    { mailboxId: folder.mailboxId, uidValidity: folder.uidValidity },
  );
  const file = `${folder.directory}/${indexName}`;
  try {
    const fd = await openFile(`${file}.tmp`, 'w');
    try {
      let at = 0;
      for (const part of parts) {
        await writeAt(fd, part, at);
        at += part.length;
      }
    } finally {
      await closeFile(fd);
    }
    host.mayFinish();
    await renameFile(`${file}.tmp`, file);
  } catch (error) {
    await unlinkFile(`${file}.tmp`).catch(() => {});
    host.log.info({ event: 'index-not-written', folder: folder.name, err: error }, 'index not written');
  }
}
