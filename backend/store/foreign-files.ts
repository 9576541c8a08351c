/**
 * Other programs in the Maildir: files they put in, flags they changed, files
 * they removed. Looked for when a directory's time has changed; each file they
 * bring gets the next UID and a name of ours, and appears once (CASES 96).
 */
import { randomBytes } from 'node:crypto';
import { errnoOf, isFault } from '../../base/fault.ts';
import { closeLater, openFile, renameFile, statFile, syncDirectory } from './files.ts';
import { type ForeignFile, listMessages, type SeenTimes, seenTimes } from './folder-load.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { formatMessageName, hostOfNames, lettersIn } from './message-name.ts';
import { measureFile } from './open-message.ts';
import { formatUidSet } from './uid-set.ts';

/** Looking may take this part of the time while only our own changes are known of. */
const lookShare = 50;
const takeInAtOnceMax = 1000;
/** Names compared in one go: a few milliseconds. */
const comparedAtOnce = 4000;

/** @param always  Looks although the times say that nothing changed. */
export async function rescan(folder: MaildirFolder, always: boolean): Promise<void> {
  folder.check();
  try {
    if (!always && !(await worthLooking(folder))) return;
    await folder.host.lane.run(async () => {
      folder.check();
      // Renames of our own must not be taken for those of another program.
      // On a full disk files come later, and so does the look.
      if (!(await filesMade(folder))) return;
      await folder.late.settled();
      const started = performance.now();
      folder.ownChanges = 0;
      const seen = await seenTimes(folder.directory);
      const { named, foreign } = await listMessages(folder.directory);
      folder.seen = seen;
      const strange = await compare(folder, named);
      await takeIn(folder, [...foreign, ...strange]);
      // Now that the names are known again, those that could not be changed may be.
      folder.late.showFlags([]);
      folder.lookedAtMs = performance.now();
      folder.lookMs = folder.lookedAtMs - started;
    });
  } catch (error) {
    throw folder.host.failed(error, 'refresh');
  }
}

async function filesMade(folder: MaildirFolder): Promise<boolean> {
  try {
    await folder.pending.made();
    return true;
  } catch (error) {
    if (isFault(error, 'no-space')) return false;
    throw error;
  }
}

async function worthLooking(folder: MaildirFolder): Promise<boolean> {
  let now: SeenTimes;
  try {
    now = await seenTimes(folder.directory);
  } catch (error) {
    // Being renamed or deleted at this moment: in the lane it will be known which.
    if (errnoOf(error) === 'ENOENT') return true;
    throw error;
  }
  if (now.newMs !== folder.seen.newMs) return true;
  if (now.curMs === folder.seen.curMs) return false;
  // Our own renames move the time of cur/: then looking is worth little, and is done by its cost.
  return folder.ownChanges === 0 || performance.now() - folder.lookedAtMs > folder.lookMs * lookShare;
}

/** Flags that changed and files that went are taken over; files that bear a UID we do not know are returned. */
async function compare(
  folder: MaildirFolder,
  named: readonly { readonly text: string; readonly name: { readonly uid: number } }[],
): Promise<ForeignFile[]> {
  const { state } = folder;
  const { columns } = state;
  const strange: ForeignFile[] = [];
  const present = new Set<number>();
  const flagged: { uid: number; text: string; flags: number }[] = [];
  for (const [index, { text, name }] of named.entries()) {
    // In the lane nothing of ours changes meanwhile.
    if (index % comparedAtOnce === comparedAtOnce - 1) await new Promise((resolve) => setImmediate(resolve));
    const at = columns.find(name.uid);
    if (at < 0) {
      // Not ours any more (its removal is under way) or brought back from a backup; the latter is seen by age.
      if (!folder.late.isLeaving(text)) strange.push({ directory: 'cur', text });
      continue;
    }
    const known = columns.nameOf(at);
    if (known === text) {
      present.add(name.uid);
      continue;
    }
    if (sameBase(known, text)) {
      present.add(name.uid);
      const shown = lettersIn(known).flags;
      const now = lettersIn(text).flags;
      const flags = (columns.flags[at]! & ~(shown ^ now)) | (now & (shown ^ now));
      columns.setName(at, text);
      if (flags !== columns.flags[at]) flagged.push({ uid: name.uid, text, flags });
    } else strange.push({ directory: 'cur', text });
  }
  await takeFlags(folder, flagged);
  const missing: number[] = [];
  for (const uid of columns.uids()) if (!present.has(uid)) missing.push(uid);
  await dropMissing(folder, missing);
  return strange;
}

async function takeFlags(
  folder: MaildirFolder,
  flagged: readonly { uid: number; flags: number }[],
): Promise<void> {
  const byFlags = new Map<number, number[]>();
  for (const { uid, flags } of flagged) {
    const list = byFlags.get(flags);
    if (list) list.push(uid);
    else byFlags.set(flags, [uid]);
  }
  for (const [flags, uids] of byFlags) {
    uids.sort((a, b) => a - b);
    await folder.reserve(0, 1);
    const modseq = folder.state.highestModseq + 1;
    await folder.commit(
      { t: 'flags', f: folder.mailboxId, u: formatUidSet(uids), how: 'add', fl: flags, m: modseq },
      { t: 'flags', f: folder.mailboxId, u: formatUidSet(uids), how: 'remove', fl: 31 & ~flags, m: modseq },
    );
    for (const uid of uids) {
      const at = folder.state.columns.find(uid);
      folder.state.applyFlags(at, { how: 'add', flags, keywords: [] }, modseq);
      folder.state.applyFlags(at, { how: 'remove', flags: 31 & ~flags, keywords: [] }, modseq);
    }
    folder.emit({ kind: 'flags', uids, modseq });
  }
}

async function dropMissing(folder: MaildirFolder, candidates: readonly number[]): Promise<void> {
  const missing: number[] = [];
  for (const uid of candidates) {
    // Renamed by ourselves while the directory was read: still there under the name of now.
    const name = folder.state.columns.nameOf(folder.state.columns.find(uid));
    const there = await statFile(folder.file(name)).then(
      () => true,
      (error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return false;
        throw error;
      },
    );
    if (!there) missing.push(uid);
  }
  if (missing.length === 0) return;
  await folder.reserve(0, 1);
  const modseq = folder.state.highestModseq + 1;
  const set = formatUidSet(missing);
  const kept = folder.keysOf(missing);
  await folder.commit(
    { t: 'gone', f: folder.mailboxId, u: set, m: modseq, ...(kept.length > 0 ? { k: kept } : {}) },
    { t: 'purged', f: folder.mailboxId, m: modseq },
  );
  folder.dropMessages(missing, set, modseq, kept);
  folder.emit({ kind: 'expunged', uids: missing, modseq });
}

function sameBase(a: string, b: string): boolean {
  const cut = (text: string): string => text.slice(0, text.lastIndexOf(':2,'));
  return cut(a) === cut(b);
}

/** Gives files of other programs UIDs and names. In the lane. */
export async function takeIn(folder: MaildirFolder, files: readonly ForeignFile[]): Promise<void> {
  const sorted = files.toSorted((a, b) => (a.text < b.text ? -1 : 1));
  for (let at = 0; at < sorted.length; at += takeInAtOnceMax) {
    await takeInSome(folder, sorted.slice(at, at + takeInAtOnceMax));
  }
}

async function takeInSome(folder: MaildirFolder, files: readonly ForeignFile[]): Promise<void> {
  folder.check();
  await folder.reserve(files.length, files.length);
  folder.unclean = true;
  const { state, host } = folder;
  const rows: Parameters<typeof state.add>[0][] = [];
  let uid = state.uidNext;
  let modseq = state.highestModseq;
  for (const { directory, text } of files) {
    const from = `${folder.directory}/${directory}/${text}`;
    try {
      const stats = await statFile(from);
      if (!stats.isFile()) continue;
      const fd = await openFile(from, 'r');
      const { fileBytes, size } = await measureFile(fd).finally(() => closeLater(fd));
      const { flags, otherLetters } = lettersIn(text);
      const name = formatMessageName({
        seconds: Math.max(0, Math.floor(stats.mtimeMs / 1000)),
        uid,
        emailId: randomBytes(8).toString('hex'),
        modseq: modseq + 1,
        deliveryKey: undefined,
        host: hostOfNames,
        fileBytes,
        size,
        flags,
        otherLetters,
      });
      await renameFile(from, folder.file(name));
      rows.push({
        uid: uid++,
        size,
        seconds: Math.max(0, Math.floor(stats.mtimeMs / 1000)),
        flags,
        modseq: ++modseq,
        name,
      });
    } catch (error) {
      // Taken away again meanwhile, or not readable for us: it stays where it is.
      if (errnoOf(error) === 'ENOENT') continue;
      if (errnoOf(error) !== 'EACCES') throw error;
      host.log.warn({ event: 'foreign-unreadable', folder: folder.name, file: text }, 'cannot read a file');
    }
  }
  if (rows.length === 0) return;
  await syncDirectory(`${folder.directory}/cur`);
  host.guard.assert();
  for (const row of rows) {
    state.add(row);
    host.usage.bytes += row.size;
    host.usage.messages++;
  }
  host.log.info({ event: 'foreign-taken-in', folder: folder.name, count: rows.length }, 'messages taken in');
  folder.emit({ kind: 'added', uids: rows.map((row) => row.uid) });
}
