/** Checks one mbox folder: its meta file, its messages against their names, and the journal's word about them. */
import path from 'node:path';
import { closeLater, listDirectory, openFile, readAt } from '../files.ts';
import { metaName, readMeta } from '../folder-meta.ts';
import { FolderState } from '../folder-state.ts';
import { mboxName } from '../mbox/mbox-file.ts';
import { type KnownMessage, lookAtMbox, shownOpenEnd } from '../mbox/mbox-look.ts';
import { hidesStateAt } from '../mbox/mbox-message.ts';
import { rewriteName } from '../mbox/rewrite-log.ts';
import { measureMessage } from '../mbox/scan-mbox.ts';
import { sizeOf } from '../mbox/seen-file.ts';
import { TakenNames } from '../mbox/taken-names.ts';
import type { FolderToCheck } from './check-folder.ts';
import type { CheckWays } from './check-message.ts';
import type { Findings } from './finding.ts';

/** A message that begins with so many NULs was never written, or lost what was. */
const zeroedBytes = 512;

/** @returns messages that were looked at. */
export async function checkMbox(
  { account, folder, relative, replay, guard }: FolderToCheck,
  ways: CheckWays,
  findings: Findings,
): Promise<number> {
  const place = path.join('mbox', relative || 'INBOX');
  const full = path.join(account, place);
  const names = await listDirectory(full);
  const file = path.join(place, mboxName);
  if (names.includes(rewriteName)) {
    findings.add('rewrite-pending', folder, 'is rewritten to its end when the account is opened', { file });
    return 0;
  }
  const meta = await readMeta(full);
  if (!meta && names.includes(metaName)) {
    const then = replay.directories.get(relative)
      ? 'the journal knows its UIDVALIDITY'
      : 'its UIDVALIDITY is lost and will be a new one';
    const damaged = path.join(place, metaName);
    const repaired = ways.quarantine && `moved to ${await ways.quarantine.take(damaged)}`;
    findings.add('meta-damaged', folder, `is not readable; ${then}`, { file: damaged, repaired });
  } else if (!meta) findings.add('folder-new', folder, 'was never opened; its messages get UIDs when it is');
  if (!names.includes(mboxName)) {
    findings.add('directory-missing', folder, 'has no file "mbox"; an empty one is made when it is opened');
    return 0;
  }
  if (!meta) return 0;
  const records = replay.folders.get(meta.mailboxId) ?? [];
  const fd = await openFile(path.join(full, mboxName), 'r');
  try {
    const taken = TakenNames.of(records);
    const look = await lookAtMbox(fd, 0, await sizeOf(fd), meta.uidReserved, taken);
    if (look.foreign.length > 0) {
      const said = `${look.foreign.length} messages have no UID yet and get one when it is opened`;
      findings.add('messages-new', folder, said);
    }
    const state = new FolderState();
    const found = state.load(look.known, records, 0, false);
    if (found.unlink.length > 0) {
      const said = `${found.unlink.length} expunged messages are cut out when it is opened`;
      findings.add('removal-pending', folder, said);
    }
    const last = records.at(-1);
    if (last?.t === 'clean' && last.c > state.columns.count) {
      const said = `${last.c - state.columns.count} of ${last.c} messages are gone since it was last closed`;
      findings.add('messages-missing', folder, said);
    }
    for (const one of look.known) {
      guard.assert();
      await checkMessage(fd, one, { folder, file, deep: ways.deep }, findings);
    }
    return look.known.length;
  } finally {
    closeLater(fd);
  }
}

async function checkMessage(
  fd: number,
  { name, place }: KnownMessage,
  { folder, file, deep }: { readonly folder: string; readonly file: string; readonly deep: boolean },
  findings: Findings,
): Promise<void> {
  const stored = place.end - place.start;
  const begin = await readAt(fd, place.start, Math.min(zeroedBytes, stored));
  if (begin.length > 0 && begin.every((byte) => byte === 0)) {
    findings.add('message-zeroed', folder, `message ${name.uid} holds NULs where its header should be`, {
      file,
    });
    return;
  }
  if (!deep) return;
  const { size } = await measureMessage(fd, place, place.form, hidesStateAt(place, name.fileBytes));
  const shown = size - shownOpenEnd(place.form);
  if (shown !== name.size) {
    const said = `message ${name.uid} has ${shown} bytes and should have ${name.size}`;
    findings.add('size-differs', folder, said, { file });
  }
}
