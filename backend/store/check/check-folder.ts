/** Checks one folder: its directories, its meta file, its files, and the journal's word about them. */
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import { uidListName } from '../dovecot/uid-list.ts';
import { eachAtOnce, listDirectory, makeDirectory, statFile, syncDirectory } from '../files.ts';
import { metaName, readMeta, writeMeta } from '../folder-meta.ts';
import { FolderState, type NamedFile } from '../folder-state.ts';
import { isOldTemporary } from '../incoming.ts';
import type { AccountReplay } from '../journal-replay.ts';
import { parseMessageName } from '../message-name.ts';
import type { Guard } from '../store.ts';
import { type CheckWays, checkMessage } from './check-message.ts';
import type { Findings } from './finding.ts';

const filesPerLook = 500;

export interface FolderToCheck {
  /** The account's directory. */
  readonly account: string;
  /** Folder name. */
  readonly folder: string;
  /** Directory below `Maildir/`; empty for INBOX. */
  readonly relative: string;
  readonly replay: AccountReplay;
  readonly guard: Guard;
}

/** @returns messages that were looked at. */
export async function checkFolder(
  { account, folder, relative, replay, guard }: FolderToCheck,
  ways: CheckWays,
  findings: Findings,
): Promise<number> {
  const place = path.join('Maildir', relative);
  const full = path.join(account, place);
  for (const part of ['cur', 'new', 'tmp']) {
    if (await there(path.join(full, part))) continue;
    let repaired: string | undefined;
    if (ways.quarantine) {
      await makeDirectory(path.join(full, part));
      await syncDirectory(full);
      repaired = 'made';
    }
    findings.add('directory-missing', folder, `has no directory "${part}"`, { repaired });
    if (!ways.quarantine && part !== 'tmp') return 0;
  }
  const meta = await readMeta(full);
  if (!meta && (await there(path.join(full, metaName)))) {
    const before = replay.directories.get(relative);
    const file = path.join(place, metaName);
    const then = before
      ? 'the journal knows its UIDVALIDITY'
      : 'its UIDVALIDITY is lost and will be a new one';
    // Out of the way, so that what the account is opened with next is written in its place.
    const repaired = ways.quarantine && `moved to ${await ways.quarantine.take(file)}`;
    findings.add('meta-damaged', folder, `is not readable; ${then}`, { file, repaired });
  } else if (!meta && !(await there(path.join(full, uidListName)))) {
    findings.add('folder-new', folder, 'was never opened; its messages get UIDs when it is');
  }
  if ((!meta || meta.takeOver) && (await there(path.join(full, uidListName)))) {
    findings.add('folder-of-dovecot', folder, 'is taken over from Dovecot when the account is next opened');
    return 0;
  }
  const { named, strange, unseen } = await listed(full);
  for (const text of strange) {
    const file = path.join(place, 'cur', text);
    const repaired = ways.quarantine && `moved to ${await ways.quarantine.take(file)}`;
    findings.add('not-a-file', folder, 'is no regular file', { file, repaired });
  }
  if (unseen > 0) {
    findings.add('messages-new', folder, `${unseen} files have no UID yet and get one when it is opened`);
  }
  if (meta) {
    const before = replay.directories.get(relative);
    if (before?.mailboxId === meta.mailboxId && before.uidValidity !== meta.uidValidity) {
      const said = `UIDVALIDITY is ${meta.uidValidity} and was ${before.uidValidity} by the journal`;
      findings.add('uidvalidity-differs', folder, said);
    }
    const records = replay.folders.get(meta.mailboxId) ?? [];
    const state = new FolderState();
    const found = state.load(named, records, 0);
    for (const text of found.foreign) {
      const file = path.join(place, 'cur', text);
      const repaired = ways.quarantine && 'gets a new UID';
      findings.add('uid-twice', folder, 'bears the UID of another or an expunged message', {
        file,
        repaired,
      });
    }
    if (found.unlink.length > 0) {
      findings.add(
        'removal-pending',
        folder,
        `${found.unlink.length} expunged messages are removed when it is opened`,
      );
    }
    const last = records.at(-1);
    if (last?.t === 'clean' && last.c > state.columns.count) {
      const said = `${last.c - state.columns.count} of ${last.c} messages are gone since it was last closed`;
      findings.add('messages-missing', folder, said);
    }
    const greatest = state.columns.count === 0 ? 0 : state.columns.uid[state.columns.count - 1]!;
    if (greatest >= meta.uidReserved) {
      const repaired = ways.quarantine && `the reserve begins at ${greatest + 1}`;
      if (ways.quarantine) await writeMeta(full, { ...meta, uidReserved: greatest + 1 });
      const said = `UID ${greatest} was given, and only those below ${meta.uidReserved} were reserved`;
      findings.add('uid-beyond', folder, said, { file: path.join(place, metaName), repaired });
    }
  }
  const directory = path.join(place, 'cur');
  for (let at = 0; at < named.length; at += filesPerLook) {
    guard.assert();
    await eachAtOnce(named.slice(at, at + filesPerLook), async ({ text, name }) => {
      await checkMessage({ account, folder, directory, text, name }, ways, findings);
    });
  }
  if (ways.quarantine) await syncDirectory(path.join(full, 'cur'));
  const old = (await listDirectory(path.join(full, 'tmp')).catch(() => [])).filter(isOldTemporary);
  if (old.length > 0)
    findings.add('leftover', folder, `${old.length} unfinished deliveries, removed when it is opened`);
  return named.length;
}

/** Names in `cur/`; those that are not files are told apart, since no program can read them as messages. */
async function listed(full: string): Promise<{ named: NamedFile[]; strange: string[]; unseen: number }> {
  const named: NamedFile[] = [];
  const strange: string[] = [];
  let unseen = 0;
  for (const text of await listDirectory(path.join(full, 'cur'))) {
    const name = parseMessageName(text);
    if (name) named.push({ text, name });
    else if (text[0] !== '.') {
      const stats = await statFile(path.join(full, 'cur', text)).catch(() => undefined);
      if (stats?.isFile()) unseen++;
      else strange.push(text);
    }
  }
  for (const text of await listDirectory(path.join(full, 'new'))) if (text[0] !== '.') unseen++;
  return { named, strange, unseen };
}

async function there(name: string): Promise<boolean> {
  try {
    await statFile(name);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
