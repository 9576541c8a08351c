/**
 * Takes over, in place, a Maildir folder that Dovecot wrote: every UID, flag,
 * keyword and date is kept, by giving each file a name that says its UID. Done
 * when a folder is read that has Dovecot's list of UIDs and is not ours yet, or
 * was handed back to Dovecot meanwhile.
 *
 * Safe against a crash at any point: until the journal has it all and the list
 * is put aside, everything is done again with the same outcome.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import {
  closeLater,
  eachAtOnce,
  listDirectory,
  openFile,
  renameFile,
  statFile,
  syncDirectory,
  unlinkFile,
} from '../files.ts';
import { type FolderMeta, modseqBlock, newMeta, writeMeta } from '../folder-meta.ts';
import { FolderState, type NamedFile } from '../folder-state.ts';
import type { JournalRecord } from '../journal-records.ts';
import { formatMessageName, hostOfNames, lettersIn, parseMessageName } from '../message-name.ts';
import { measureFile } from '../open-message.ts';
import type { StoreHost } from '../store-host.ts';
import { formatUidSet } from '../uid-set.ts';
import { readKeywordLetters } from './keyword-letters.ts';
import { type PlannedRename, planTakeOver } from './take-over-plan.ts';
import { baseOf, readUidList, takenUidListName, type UidList, uidListName } from './uid-list.ts';

const recordsPerAppend = 50;
/** Renames between two looks at the lease. */
const renamesPerLook = 500;

export interface FolderToTake {
  /** Path of the folder. */
  readonly directory: string;
  /** The same below `Maildir/`; empty for INBOX. */
  readonly relative: string;
  /** What is known of it; `undefined` when it is not ours yet. */
  readonly meta: FolderMeta | undefined;
  /** Journal records of `meta`. */
  readonly records: readonly JournalRecord[];
  readonly host: Pick<StoreHost, 'guard' | 'journal' | 'log'>;
}

/**
 * @returns the folder's meta file and journal records from now on; `undefined` when there is nothing of Dovecot's.
 * @throws {Fault} `lease-lost`, `not-owner`; errors of the file system.
 */
export async function takeOverDovecot(
  folder: FolderToTake,
  nowMs: number,
): Promise<{ meta: FolderMeta; records: readonly JournalRecord[] } | undefined> {
  const { directory, host } = folder;
  const list = await readUidList(path.join(directory, uidListName));
  if (!list) {
    if (!folder.meta) return undefined;
    // Everything was done but for this; or Dovecot's list was thrown away, and our names are all there is.
    const meta = withoutTakeOver(folder.meta);
    await writeMeta(directory, meta);
    return { meta, records: folder.records };
  }
  const meta = metaFor(folder, list, nowMs);
  const { modseq } = meta.takeOver!;
  await writeMeta(directory, meta);
  const plan = await rename(folder, list, modseq);
  const prior = meta.mailboxId === folder.meta?.mailboxId ? folder.records : [];
  const state = await readState(directory, prior, modseq, nowMs);
  state.uidNext = Math.max(state.uidNext, plan.uidNext);
  state.highestModseq = Math.max(state.highestModseq, modseq);
  const gaps = gapsOf(state);
  if (gaps !== '') state.gone.push([gaps, modseq]);
  const records = recordsOf(state, folder.relative, meta, plan.unseen > 0);
  for (let at = 0; at < records.length; at += recordsPerAppend) {
    host.guard.assert();
    await host.journal.append(...records.slice(at, at + recordsPerAppend));
  }
  host.guard.assert();
  await renameFile(path.join(directory, uidListName), path.join(directory, takenUidListName));
  await syncDirectory(directory);
  const done = withoutTakeOver({ ...meta, uidReserved: Math.max(meta.uidReserved, state.uidNext) });
  await writeMeta(directory, done);
  host.guard.assert();
  host.log.info(
    {
      event: 'dovecot-taken-over',
      directory: folder.relative,
      messages: state.columns.count,
      uidValidity: meta.uidValidity,
      uidNext: state.uidNext,
      unseen: plan.unseen,
      badLines: list.badLines,
    },
    'folder of Dovecot taken over',
  );
  return { meta: done, records: records.filter((record) => record.t !== 'dir') };
}

function withoutTakeOver(meta: FolderMeta): FolderMeta {
  const { takeOver: _, ...rest } = meta;
  return rest;
}

/**
 * Modification sequences start above any that Dovecot can have given (it counts changes; these are milliseconds
 * since 1970): a client that remembers one of Dovecot's is told about every message once, and misses nothing.
 */
function metaFor({ meta, directory: _ }: FolderToTake, list: UidList, nowMs: number): FolderMeta {
  const begun = meta?.takeOver?.modseq ?? 1;
  const modseq = begun > 1 ? begun : Math.max(Math.floor(nowMs), meta?.modseqReserved ?? 1);
  const known = meta?.uidValidity === list.uidValidity ? meta : undefined;
  const base = known ?? newMeta(list.uidValidity, meta?.specialUse);
  return {
    ...base,
    // Of what Dovecot has not given nothing was given by us, if this is the first time.
    uidReserved: Math.max(known?.uidReserved ?? 1, list.uidNext),
    modseqReserved: Math.max(base.modseqReserved, modseq + modseqBlock),
    takeOver: { modseq },
  };
}

async function rename(folder: FolderToTake, list: UidList, modseq: number) {
  const { directory, host } = folder;
  for (let attempt = 0; ; attempt++) {
    const plan = planTakeOver(list, await namesIn(directory, 'cur'), await namesIn(directory, 'new'));
    let missed = 0;
    for (let at = 0; at < plan.renames.length; at += renamesPerLook) {
      host.guard.assert();
      await eachAtOnce(plan.renames.slice(at, at + renamesPerLook), async (one) => {
        if (!(await renameOne(folder, one, modseq))) missed++;
      });
    }
    if (plan.renames.length > 0) await syncDirectory(path.join(directory, 'cur'));
    // Another program renames too: looked at again, and then what is still in its way is left to be taken in.
    if (missed === 0 || attempt === 2) return plan;
  }
}

async function namesIn(directory: string, part: 'cur' | 'new'): Promise<string[]> {
  return listDirectory(path.join(directory, part)).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
}

/** false: the file is not there under this name any more, or cannot be read. */
async function renameOne(folder: FolderToTake, one: PlannedRename, modseq: number): Promise<boolean> {
  const from = path.join(folder.directory, one.from, one.text);
  try {
    const name = one.ours
      ? { ...one.ours, uid: one.uid, modseq, deliveryKey: undefined }
      : await nameOf(from, one, modseq, folder);
    if (!name) return true;
    await renameFile(from, path.join(folder.directory, 'cur', formatMessageName(name)));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    if (errnoOf(error) !== 'EACCES') throw error;
    const facts = { event: 'foreign-unreadable', directory: folder.relative, file: one.text };
    folder.host.log.warn(facts, 'cannot read a file');
    return true;
  }
}

async function nameOf(from: string, one: PlannedRename, modseq: number, folder: FolderToTake) {
  const stats = await statFile(from);
  if (!stats.isFile()) return undefined;
  const base = baseOf(one.text);
  const said = sizesSaid(base, one.fields);
  let size = said.file === stats.size ? said.converted : undefined;
  if (size === undefined) {
    const fd = await openFile(from, 'r');
    try {
      size = (await measureFile(fd)).size;
    } finally {
      closeLater(fd);
    }
    if (said.file !== undefined && said.file !== stats.size) {
      folder.host.log.warn(
        { event: 'dovecot-size', directory: folder.relative, file: one.text, bytes: stats.size },
        'a message is not as long as Dovecot said; is it compressed?',
      );
    }
  }
  const { flags, otherLetters } = lettersIn(one.text);
  return {
    seconds: Math.min(Math.max(0, Math.floor(stats.mtimeMs / 1000)), 0xffffffff),
    uid: one.uid,
    // The same after every crash, whoever does it.
    emailId: createHash('sha256').update(base, 'latin1').digest('hex').slice(0, 16),
    modseq,
    deliveryKey: undefined,
    host: hostOfNames,
    fileBytes: stats.size,
    size,
    flags,
    otherLetters,
  };
}

/** Sizes as Dovecot noted them: of the file, and with CRLF line ends. */
function sizesSaid(
  base: string,
  fields: string,
): { file: number | undefined; converted: number | undefined } {
  const find = (letter: 'S' | 'W'): number | undefined => {
    const found =
      new RegExp(`,${letter}=(\\d{1,15})(?=,|$)`).exec(base) ??
      new RegExp(`(?:^| )${letter}(\\d{1,15})(?= |$)`).exec(fields);
    return found ? Number(found[1]) : undefined;
  };
  return { file: find('S'), converted: find('W') };
}

/** The folder as its names, Dovecot's keyword letters and our own earlier records say. */
async function readState(
  directory: string,
  prior: readonly JournalRecord[],
  modseq: number,
  nowMs: number,
): Promise<FolderState> {
  const letters = await readKeywordLetters(directory);
  const named: NamedFile[] = [];
  for (const text of await namesIn(directory, 'cur')) {
    const name = parseMessageName(text);
    if (name) named.push({ text, name });
  }
  const state = new FolderState();
  const findings = state.load(named, prior, Math.floor(nowMs / 1000));
  for (const text of findings.unlink) await unlinkFile(path.join(directory, 'cur', text)).catch(() => {});
  const shown = new Set([...letters.values()].map((keyword) => keyword.toLowerCase()));
  const { columns } = state;
  for (let at = 0; at < columns.count; at++) {
    const { flags, otherLetters } = lettersIn(columns.nameOf(at));
    const kept = state.keywordsAt(at).filter((keyword) => !shown.has(keyword.toLowerCase()));
    const keywords = [...kept];
    for (const letter of otherLetters) {
      const keyword = letters.get(letter);
      if (keyword !== undefined) keywords.push(keyword);
    }
    state.applyFlags(at, { how: 'set', flags, keywords }, modseq);
  }
  return state;
}

/** UIDs below the next one that no message has: a client that knew them is told that they went. */
function gapsOf(state: FolderState): string {
  function* gaps(): Generator<string> {
    let next = 1;
    for (const uid of state.columns.uids()) {
      if (uid > next) yield uid - 1 === next ? `${next}` : `${next}:${uid - 1}`;
      next = uid + 1;
    }
    if (state.uidNext > next)
      yield formatUidSet([next]).concat(state.uidNext - 1 > next ? `:${state.uidNext - 1}` : '');
  }
  return [...gaps()].join(',');
}

function recordsOf(
  state: FolderState,
  relative: string,
  { mailboxId, uidValidity }: FolderMeta,
  loadNow: boolean,
): JournalRecord[] {
  const records: JournalRecord[] = [...state.snapshot(mailboxId)];
  records.push({ t: 'dir', f: mailboxId, d: relative, uv: uidValidity });
  records.push({
    t: 'clean',
    f: mailboxId,
    n: state.uidNext,
    m: state.highestModseq,
    b: state.sizeBytes,
    c: state.columns.count,
  });
  // A folder whose records end otherwise is indexed when the account is opened, and takes in what is new.
  if (loadNow) records.push({ t: 'settled', f: mailboxId, u: '', n: state.uidNext });
  return records;
}
