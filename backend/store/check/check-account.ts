/**
 * Checks an account that nobody has open: fence, journal, folders, messages,
 * and then the index against the files. Repairing mends what it can and moves
 * what it cannot into quarantine; it deletes nothing (CASES 95).
 */
import path from 'node:path';
import { Fault } from '../../../base/fault.ts';
import { listDirectory, readWhole, renameFile, storageFault, syncDirectory } from '../files.ts';
import { isFolder, listFolders } from '../folder-entry.ts';
import { directoryOf, folderOfDirectory, spelledAnew } from '../folder-name.ts';
import { readRecords } from '../journal-records.ts';
import { type AccountReplay, sortRecords } from '../journal-replay.ts';
import { MaildirFolder } from '../maildir-folder.ts';
import { MboxFolder } from '../mbox/mbox-folder.ts';
import type { Guard, Store, StoreLimits } from '../store.ts';
import { checkFolder } from './check-folder.ts';
import { checkMbox } from './check-mbox.ts';
import type { CheckWays } from './check-message.ts';
import { type Finding, Findings } from './finding.ts';
import { Quarantine } from './quarantine.ts';

export interface AccountToCheck {
  readonly directory: string;
  readonly guard: Guard;
  readonly limits: StoreLimits;
  /** Opens the store; nobody else may have it open meanwhile. */
  open(): Promise<Store>;
}

export interface CheckReport {
  readonly folders: number;
  readonly messages: number;
  readonly damage: number;
  readonly repaired: number;
  readonly findings: readonly Finding[];
  /** Findings beyond those listed. */
  readonly more: number;
}

/** @throws {Fault} `lease-lost`, `not-owner`, `storage-failed`, `no-space`, `unavailable` */
export async function checkAccount(
  account: AccountToCheck,
  how: { readonly deep: boolean; readonly repair: boolean },
  now: Date,
): Promise<CheckReport> {
  const findings = new Findings();
  const quarantine = how.repair ? new Quarantine(account.directory, now) : undefined;
  const ways: CheckWays = { deep: how.deep, quarantine };
  try {
    await checkOwner(account.directory, ways, findings);
    const replay = await checkJournal(account.directory, ways, findings);
    const { folders, messages } = await checkFolders(account, replay, ways, findings);
    await checkIndex(account, findings);
    return {
      folders,
      messages,
      damage: findings.damage,
      repaired: findings.repaired,
      findings: findings.list,
      more: findings.more,
    };
  } catch (error) {
    throw storageFault(error, 'account-check');
  }
}

async function checkOwner(account: string, ways: CheckWays, findings: Findings): Promise<void> {
  const text = (await readWhole(path.join(account, 'owner')))?.toString();
  if (text === undefined || /^\{.*"epoch":\d+.*"owner":".*\}\s*$/s.test(text)) return;
  const repaired = ways.quarantine && `copied to ${await ways.quarantine.copy('owner')}, written anew`;
  findings.add('fence-damaged', '', 'the owner file is not readable', { file: 'owner', repaired });
}

async function checkJournal(account: string, ways: CheckWays, findings: Findings): Promise<AccountReplay> {
  const journals = (await listDirectory(account))
    .filter((name) => /^journal\.\d{1,15}$/.test(name))
    .sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)));
  const file = journals.at(-1);
  const data = file && (await readWhole(path.join(account, file)));
  if (!file || !data) {
    const used = (await readWhole(path.join(account, 'owner'))) !== undefined;
    if (used) findings.add('journal-missing', '', 'there is no journal: keywords and recent flags are lost');
    return sortRecords([]);
  }
  const read = readRecords(data);
  if (read.damagedLines > 0) {
    const repaired = ways.quarantine && `copied to ${await ways.quarantine.copy(file)}, good lines kept`;
    findings.add('journal-damaged', '', `${read.damagedLines} lines are not what was written`, {
      file,
      repaired,
    });
  }
  if (read.torn) findings.add('journal-torn', '', 'the last line is torn, as a crash does', { file });
  const replay = sortRecords(read.records);
  for (const id of replay.intakes.keys()) {
    findings.add(
      'intake-open',
      '',
      `messages may be in the intake log ${id}; they get files when it is opened`,
    );
  }
  return replay;
}

async function checkFolders(
  account: AccountToCheck,
  replay: AccountReplay,
  ways: CheckWays,
  findings: Findings,
): Promise<{ folders: number; messages: number }> {
  const { directory, guard, limits } = account;
  const maildir = path.join(directory, 'Maildir');
  const names = (await listDirectory(maildir)).filter((name) => name[0] === '.').sort();
  let folders = 0;
  let messages = 0;
  const { mboxes } = await listFolders(directory);
  for (const relative of mboxes) {
    guard.assert();
    const folder = relative === '' ? 'INBOX' : folderOfDirectory(relative, limits.folderNameBytesMax);
    if (folder === undefined) {
      const file = path.join('mbox', relative);
      findings.add('not-a-folder', relative, 'is spelled as no folder name of this store', { file });
      continue;
    }
    folders++;
    messages += await checkMbox({ account: directory, folder, relative, replay, guard }, ways, findings);
  }
  for (let relative of ['', ...names]) {
    guard.assert();
    if (mboxes.includes(relative)) continue;
    let folder = relative === '' ? 'INBOX' : folderOfDirectory(relative, limits.folderNameBytesMax);
    if (relative !== '' && !(await isFolder(path.join(maildir, relative), 'maildir'))) continue;
    if (folder === undefined) {
      folder = spelledAnew(relative, limits.folderNameBytesMax, (name) => names.includes(directoryOf(name)));
      let repaired: string | undefined;
      if (ways.quarantine) {
        const spelled = directoryOf(folder);
        await renameFile(path.join(maildir, relative), path.join(maildir, spelled));
        await syncDirectory(maildir);
        names.push(spelled);
        repaired = `is the folder "${folder}" now`;
      }
      const file = path.join('Maildir', relative);
      findings.add('not-a-folder', relative, 'is spelled as no folder name of this store', {
        file,
        repaired,
      });
      if (!ways.quarantine) continue;
      relative = directoryOf(folder);
    }
    folders++;
    messages += await checkFolder({ account: directory, folder, relative, replay, guard }, ways, findings);
  }
  return { folders, messages };
}

/** Opens the account as a session would, and compares what it shows with what is there. */
async function checkIndex(account: AccountToCheck, findings: Findings): Promise<void> {
  const store = await account.open();
  try {
    for (const { name, selectable } of store.listFolders()) {
      if (!selectable) continue;
      account.guard.assert();
      const folder = await store.folder(name);
      if (folder instanceof MboxFolder) await folder.look();
      if (!(folder instanceof MaildirFolder)) continue;
      await folder.look();
      await folder.late.settled();
      const there = new Set(await listDirectory(path.join(folder.directory, 'cur')));
      const { columns } = folder.state;
      let missing = 0;
      for (let at = 0; at < columns.count; at++) if (!there.has(columns.nameOf(at))) missing++;
      if (missing > 0) {
        findings.add('index-differs', name, `${missing} messages are in the index and not in the directory`);
      }
    }
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'storage-damaged') throw error;
    findings.add('index-differs', '', error.message);
  } finally {
    await store.close();
  }
}
