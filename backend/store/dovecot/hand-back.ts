/**
 * Leaves an account's Maildir as Dovecot would have left it: a list of UIDs,
 * letters for keywords in the names, file times that are the internal dates.
 * The folders are marked, so that Postern, should it come back, first takes
 * over what Dovecot did meanwhile.
 */
import path from 'node:path';
import { Fault } from '../../../base/fault.ts';
import { closeLater, eachAtOnce, openFile, renameFile, setTimes, statFile, syncDirectory } from '../files.ts';
import { writeMeta } from '../folder-meta.ts';
import { MaildirFolder } from '../maildir-folder.ts';
import { withLetters } from '../message-name.ts';
import type { Guard, Store } from '../store.ts';
import { letterOf, lettersMax, writeKeywordLetters } from './keyword-letters.ts';
import { baseOf, readUidList, takenUidListName, type UidListEntry, writeUidList } from './uid-list.ts';

/** Messages between two looks at the lease. */
const messagesPerLook = 500;

export interface HandBackReport {
  readonly folders: number;
  readonly messages: number;
  /** Folder and keyword, for keywords that no letter was left for: Dovecot will not know them. */
  readonly keywordsLost: readonly string[];
}

/**
 * @param open  Opens the account's store; nobody else may have it open, before and after.
 * @throws {Fault} `storage-failed` when names cannot be made to show all flags; what the store throws.
 */
export async function handBack(open: () => Promise<Store>, guard: Guard): Promise<HandBackReport> {
  const store = await open();
  const folders: MaildirFolder[] = [];
  try {
    for (const { name, selectable } of store.listFolders()) {
      if (!selectable) continue;
      const folder = await store.folder(name);
      if (!(folder instanceof MaildirFolder)) {
        throw new Fault('bad-argument', `"${name}" is an mbox; use "account convert --to maildir" first`);
      }
      await folder.refresh();
      folder.late.showFlags([]);
      await folder.late.settled();
      if (folder.late.behind) throw new Fault('storage-failed', `names in "${name}" cannot be changed`);
      folders.push(folder);
    }
  } finally {
    await store.close();
  }
  let messages = 0;
  const keywordsLost: string[] = [];
  for (const folder of folders) {
    const lost = await handBackFolder(folder, guard);
    messages += folder.count;
    for (const keyword of lost) keywordsLost.push(`${folder.name}: ${keyword}`);
  }
  return { folders: folders.length, messages, keywordsLost };
}

/** @returns keywords that Dovecot cannot be told of. */
async function handBackFolder(folder: MaildirFolder, guard: Guard): Promise<readonly string[]> {
  const { directory, state, meta } = folder;
  const { columns } = state;
  const keywords = mostUsed(folder);
  const letters = new Map(keywords.slice(0, lettersMax).map((keyword, index) => [keyword, letterOf(index)]));
  await writeKeywordLetters(directory, keywords);
  const rows = Array.from(columns.uids(), (_, at) => at);
  for (let from = 0; from < rows.length; from += messagesPerLook) {
    guard.assert();
    await eachAtOnce(rows.slice(from, from + messagesPerLook), async (at) => {
      const before = columns.nameOf(at);
      const shown = state.keywordsAt(at).map((keyword) => letters.get(keyword) ?? '');
      const after = withLetters(before, columns.flags[at]!, shown.join(''));
      if (after !== before) await renameFile(folder.file(before), folder.file(after));
      columns.setName(at, after);
      await showDate(folder.file(after), columns.seconds[at]!);
    });
  }
  await syncDirectory(path.join(directory, 'cur'));
  const old = await readUidList(path.join(directory, takenUidListName));
  const fields = new Map(old?.entries.map((entry) => [entry.uid, lasting(entry.fields)]));
  function* entries(): Generator<UidListEntry> {
    for (const at of rows) {
      const uid = columns.uid[at]!;
      yield { uid, base: baseOf(columns.nameOf(at)), fields: fields.get(uid) ?? '' };
    }
  }
  guard.assert();
  const header = { uidValidity: meta.uidValidity, uidNext: state.uidNext, guid: old?.guid };
  await writeUidList(directory, header, entries());
  await writeMeta(directory, { ...folder.meta, takeOver: { modseq: 1 } });
  return keywords.slice(lettersMax);
}

/** Keywords that messages have, most used first. */
function mostUsed({ state }: MaildirFolder): string[] {
  const uses = new Map<string, number>();
  for (let at = 0; at < state.columns.count; at++) {
    for (const keyword of state.keywordsAt(at)) uses.set(keyword, (uses.get(keyword) ?? 0) + 1);
  }
  return [...uses].sort((a, b) => b[1] - a[1]).map(([keyword]) => keyword);
}

/** Fields that are not about the file: POP3 ids and GUIDs, not sizes, which stand in the new names. */
function lasting(fields: string): string {
  return fields
    .split(' ')
    .filter((field) => field !== '' && !/^[SW]/.test(field))
    .join(' ');
}

async function showDate(file: string, seconds: number): Promise<void> {
  const stats = await statFile(file);
  if (Math.floor(stats.mtimeMs / 1000) === seconds) return;
  const fd = await openFile(file, 'r');
  try {
    await setTimes(fd, seconds);
  } finally {
    closeLater(fd);
  }
}
