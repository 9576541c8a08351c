/**
 * COPY and MOVE: all or none, also across a crash. The journal says first what
 * is to be; then files are linked (or renamed); a crash in between is finished
 * from the journal when the account is opened again.
 */
import { randomBytes } from 'node:crypto';
import { errnoOf, Fault } from '../../base/fault.ts';
import {
  closeLater,
  copyBytes,
  dataSync,
  eachAtOnce,
  linkFile,
  openFile,
  renameFile,
  syncDirectory,
  unlinkFile,
} from './files.ts';
import { temporaryName } from './incoming.ts';
import type { JournalRecord } from './journal-records.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { formatMessageName, type MessageName, parseMessageName } from './message-name.ts';
import { type OperationId, stamp } from './operations.ts';
import { formatUidSet } from './uid-set.ts';

interface Plan {
  readonly uid: number;
  readonly newUid: number;
  readonly modseq: number;
  readonly from: string;
  readonly to: string;
  readonly name: MessageName;
}

/** Runs in the lane of the account. @param uids Existing, ascending. */
export async function copyMessages(
  source: MaildirFolder,
  target: MaildirFolder,
  uids: readonly number[],
  move: boolean,
  operation?: OperationId,
): Promise<readonly (readonly [number, number])[]> {
  if (uids.length === 0) return [];
  target.check();
  // A link is as durable as the file it leads to.
  await source.host.intake?.settle(source.pending.unsettled(uids));
  const { columns } = source.state;
  const bytes = uids.reduce((sum, uid) => sum + columns.size[columns.find(uid)]!, 0);
  if (!move) target.checkQuota(bytes, uids.length);
  await target.reserve(uids.length, uids.length + 1);
  if (move) await source.reserve(0, uids.length + 2);
  const keywordRecords = keywordsOf(source, target, uids);
  const savedSeconds = Math.floor(Date.now() / 1000);
  const plans = uids.map((uid, index) => planOne(source, target, uid, index, savedSeconds));
  const id = randomBytes(8).toString('hex');
  const set = formatUidSet(uids);
  const kept = move ? source.keysOf(uids) : [];
  // Within one folder the copies come first, then the sources go.
  const goneModseq =
    (source === target ? target.state.highestModseq + uids.length : source.state.highestModseq) + 1;
  await target.commit(...keywordRecords, {
    t: 'copy',
    id,
    f: source.mailboxId,
    u: set,
    g: target.mailboxId,
    n: plans[0]!.newUid,
    m: plans[0]!.modseq,
    fl: plans.map((plan) => plan.name.flags),
    d: savedSeconds,
    ...(move ? { mv: goneModseq } : {}),
    ...(kept.length > 0 ? { k: kept } : {}),
    ...stamp(operation),
  });
  source.unclean = true;
  source.ownChanges++;
  target.ownChanges++;
  const made: Plan[] = [];
  try {
    await eachAtOnce(plans, async (plan) => {
      await bringOver(source, target, plan);
      made.push(plan);
    });
    await syncDirectory(`${target.directory}/cur`);
  } catch (error) {
    if (operation !== undefined) target.host.operations.forget(operation);
    await undo(target, made, id);
    throw error;
  }
  try {
    source.host.guard.assert();
  } catch (error) {
    source.host.breakOff(error);
    throw error;
  }
  show(source, target, plans);
  source.host.journal.note({ t: 'copied', id });
  target.emit({ kind: 'added', uids: plans.map((plan) => plan.newUid) });
  if (move) {
    const names = source.dropMessages(uids, set, goneModseq, kept);
    source.late.purge(names, goneModseq);
    source.emit({ kind: 'expunged', uids, modseq: goneModseq });
  }
  return plans.map((plan) => [plan.uid, plan.newUid] as const);
}

function planOne(
  source: MaildirFolder,
  target: MaildirFolder,
  uid: number,
  index: number,
  savedSeconds: number,
): Plan {
  const { columns } = source.state;
  const at = columns.find(uid);
  const from = columns.nameOf(at);
  const parsed = parseMessageName(from);
  if (!parsed) throw new Fault('bug', 'a message has a name this store did not give');
  const name: MessageName = {
    ...parsed,
    uid: target.state.uidNext + index,
    modseq: target.state.highestModseq + 1 + index,
    savedSeconds,
    deliveryKey: undefined,
    flags: columns.flags[at]!,
  };
  return { uid, newUid: name.uid, modseq: name.modseq, from, to: formatMessageName(name), name };
}

/** Keywords do not stand in names: the target's journal gets them before the files come. */
function keywordsOf(source: MaildirFolder, target: MaildirFolder, uids: readonly number[]): JournalRecord[] {
  const records: JournalRecord[] = [];
  const { columns } = source.state;
  for (const [index, uid] of uids.entries()) {
    const keywords = source.state.keywordsAt(columns.find(uid));
    if (keywords.length === 0) continue;
    const spelled = target.state.checkKeywords(keywords, target.host.limits.keywordsPerFolderMax);
    records.push({
      t: 'flags',
      f: target.mailboxId,
      u: String(target.state.uidNext + index),
      how: 'add',
      fl: 0,
      kw: spelled,
      m: target.state.highestModseq + 1 + index,
    });
  }
  return records;
}

async function bringOver(source: MaildirFolder, target: MaildirFolder, plan: Plan): Promise<void> {
  const to = target.file(plan.to);
  for (let attempt = 0; ; attempt++) {
    // The name may have changed since the plan: flags are shown in the background.
    const at = source.state.columns.find(plan.uid);
    const from = source.file(at < 0 ? plan.from : source.state.columns.nameOf(at));
    try {
      await linkFile(from, to);
      return;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' && attempt < 3) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      if (errno === 'ENOENT') throw new Fault('gone', 'a message is gone', { cause: error });
      if (!['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP'].includes(errno)) throw error;
      await copyFile(from, target, to);
      return;
    }
  }
}

async function copyFile(from: string, target: MaildirFolder, to: string): Promise<void> {
  const temporary = `${target.directory}/tmp/${temporaryName()}`;
  try {
    await copyBytes(from, temporary);
    const fd = await openFile(temporary, 'r+');
    try {
      await dataSync(fd);
    } finally {
      closeLater(fd);
    }
    await renameFile(temporary, to);
  } catch (error) {
    await unlinkFile(temporary).catch(() => {});
    throw error;
  }
}

async function undo(target: MaildirFolder, made: readonly Plan[], id: string): Promise<void> {
  try {
    for (const plan of made) await unlinkFile(target.file(plan.to));
    await syncDirectory(`${target.directory}/cur`);
    await target.host.journal.append({ t: 'copy-undone', id });
    // The UIDs stay used: a session of another program may have seen the files.
    const last = made.reduce((most, plan) => Math.max(most, plan.newUid), 0);
    target.state.uidNext = Math.max(target.state.uidNext, last + 1);
  } catch (error) {
    target.host.breakOff(error);
  }
}

function show(source: MaildirFolder, target: MaildirFolder, plans: readonly Plan[]): void {
  const { host } = target;
  for (const plan of plans) {
    const at = source.state.columns.find(plan.uid);
    const keywords = at < 0 ? [] : source.state.keywordsAt(at);
    target.state.add(
      {
        uid: plan.newUid,
        size: plan.name.size,
        seconds: plan.name.seconds,
        flags: plan.name.flags,
        modseq: plan.modseq,
        name: plan.to,
      },
      keywords,
    );
    host.usage.bytes += plan.name.size;
    host.usage.messages++;
  }
}
