/**
 * COPY and MOVE between folders of which one is an mbox: bytes are written
 * anew. All or none, also across a crash: the journal says first which UIDs are
 * coming, and says last that they are there; what has only come goes again.
 */
import { randomBytes } from 'node:crypto';
import type { JournalRecord } from './journal-records.ts';
import { type MessageName, parseMessageName } from './message-name.ts';
import { type OperationId, stamp } from './operations.ts';
import type { Brought, StoredFolder } from './stored-folder.ts';
import { formatUidSet } from './uid-set.ts';

const sliceBytes = 256 * 1024;

/** Runs in the lane of the account. @param uids Existing, ascending. */
export async function copyAcross(
  source: StoredFolder,
  target: StoredFolder,
  uids: readonly number[],
  move: boolean,
  operation?: OperationId,
): Promise<readonly (readonly [number, number])[]> {
  if (uids.length === 0) return [];
  target.check();
  // Messages of other programs come first, so that the UIDs planned now stay the next ones.
  await target.settleForeign();
  if (source !== target) await source.settleForeign();
  const { host } = target;
  // A file that comes to be must not come after its message has left.
  await host.intake?.settle(source.pending.unsettled(uids));
  const { columns } = source.state;
  const bytes = uids.reduce((sum, uid) => sum + columns.size[columns.find(uid)]!, 0);
  if (!move) target.checkQuota(bytes, uids.length);
  await target.reserve(uids.length, uids.length + 2);
  if (move) await source.reserve(0, uids.length + 3);
  const savedSeconds = Math.floor(Date.now() / 1000);
  const names = uids.map((uid, index): MessageName => {
    const at = columns.find(uid);
    return {
      ...parseMessageName(columns.nameOf(at))!,
      uid: target.state.uidNext + index,
      modseq: target.state.highestModseq + 1 + index,
      savedSeconds,
      deliveryKey: undefined,
      size: columns.size[at]!,
      flags: columns.flags[at]!,
    };
  });
  const id = randomBytes(8).toString('hex');
  const first = names[0]!;
  const undoModseq = target.state.highestModseq + uids.length + 1;
  await target.commit({
    t: 'copying',
    id,
    g: target.mailboxId,
    n: first.uid,
    c: uids.length,
    m: undoModseq,
  });
  let texts: string[];
  try {
    texts = await target.bring(uids.map((uid, index) => brought(source, uid, names[index]!)));
  } catch (error) {
    await undo(target, names, id, undoModseq);
    throw error;
  }
  const set = formatUidSet(uids);
  const kept = move ? source.keysOf(uids) : [];
  // Within one folder the copies come first, then the sources go.
  const goneModseq =
    (source === target ? target.state.highestModseq + uids.length : source.state.highestModseq) + 1;
  source.unclean = true;
  const keywords = uids.map((uid) => spelled(target, source.state.keywordsAt(columns.find(uid))));
  await target.commit(...keywordRecords(target, names, keywords), {
    t: 'copy',
    id,
    f: source.mailboxId,
    u: set,
    g: target.mailboxId,
    n: first.uid,
    m: first.modseq,
    fl: names.map((name) => name.flags),
    d: savedSeconds,
    w: true,
    ...(move ? { mv: goneModseq } : {}),
    ...(kept.length > 0 ? { k: kept } : {}),
    ...stamp(operation),
  });
  for (const [index, { uid, size, seconds, flags, modseq }] of names.entries()) {
    target.state.add({ uid, size, seconds, flags, modseq, name: texts[index]! }, keywords[index]!);
    host.usage.bytes += size;
    host.usage.messages++;
  }
  target.emit({ kind: 'added', uids: names.map((name) => name.uid) });
  if (move) {
    const gone = source.dropMessages(uids, set, goneModseq, kept);
    source.late.purge(gone, goneModseq);
    source.emit({ kind: 'expunged', uids, modseq: goneModseq });
  }
  return uids.map((uid, index) => [uid, names[index]!.uid] as const);
}

function brought(source: StoredFolder, uid: number, name: MessageName): Brought {
  return {
    name,
    async *pieces() {
      const message = await source.open(uid, false);
      try {
        if (message.whole !== undefined) {
          yield message.whole;
          return;
        }
        for (let at = 0; at < message.size; at += sliceBytes) yield await message.read(at, at + sliceBytes);
      } finally {
        await message.close();
      }
    },
  };
}

function spelled(target: StoredFolder, keywords: readonly string[]): readonly string[] {
  return target.state.checkKeywords(keywords, target.host.limits.keywordsPerFolderMax);
}

function keywordRecords(
  target: StoredFolder,
  names: readonly MessageName[],
  keywords: readonly (readonly string[])[],
): JournalRecord[] {
  return names.flatMap(({ uid, modseq }, index): JournalRecord[] =>
    keywords[index]!.length === 0
      ? []
      : [
          {
            t: 'flags',
            f: target.mailboxId,
            u: String(uid),
            how: 'add',
            fl: 0,
            kw: keywords[index]!,
            m: modseq,
          },
        ],
  );
}

/** What has come goes again; the UIDs stay used. */
async function undo(
  target: StoredFolder,
  names: readonly MessageName[],
  id: string,
  modseq: number,
): Promise<void> {
  const set = formatUidSet(names.map((name) => name.uid));
  try {
    await target.commit({ t: 'gone', f: target.mailboxId, u: set, m: modseq }, { t: 'copy-undone', id });
    target.state.applyGone([], set, modseq);
    target.state.uidNext = Math.max(target.state.uidNext, names.at(-1)!.uid + 1);
    target.late.purge([], modseq);
  } catch (error) {
    target.host.breakOff(error);
  }
}
