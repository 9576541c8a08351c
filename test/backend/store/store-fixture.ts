/** Opens stores in a directory of their own, and says what a store holds in one comparable value. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Intake } from '../../../backend/store/intake/intake.ts';
import type { IntakeLimits } from '../../../backend/store/intake/intake-entry.ts';
import { IntakeReader } from '../../../backend/store/intake/intake-reader.ts';
import type { MaildirFolder } from '../../../backend/store/maildir-folder.ts';
import { openStore, type StoreOptions } from '../../../backend/store/open-store.ts';
import type { Folder, FolderFormat, Guard, Store, StoreLimits } from '../../../backend/store/store.ts';
import { silentLog } from '../../../base/log.ts';

export const limits: StoreLimits = {
  messageBytesMax: 64 * 1024 * 1024,
  foldersMax: 50,
  folderNameBytesMax: 400,
  keywordsPerFolderMax: 30,
  quotaBytes: 0,
  quotaMessages: 0,
};

/** Of the log of a test: small segments, so that they are used again and again. */
export const intakeLimits: IntakeLimits = {
  segmentBytes: 64 * 1024,
  segmentsMax: 3,
  messageBytesMax: 32 * 1024,
  heldBytesMax: 1024 * 1024,
};

/** `false`: every message goes to its file at once. */
export const usesIntake = process.env.POSTERN_TEST_INTAKE !== 'off';

/** Opens a store with an intake of its own, as a backend process has one; closing the store closes it. */
export async function openWithIntake(
  options: Omit<StoreOptions, 'intake'>,
  how: { readonly root?: string; readonly account?: string; readonly live?: boolean } = {},
): Promise<Store> {
  const root = how.root ?? path.join(options.directory, 'intake');
  const live = (how.live ?? usesIntake) ? await Intake.open(root, options.log, intakeLimits) : undefined;
  const reader = new IntakeReader(root, options.log);
  try {
    const store = await openStore({
      ...options,
      intake: { reader, live, account: how.account ?? 'user@example.org' },
    });
    const close = store.close.bind(store);
    store.close = async () => {
      await close();
      await live?.close();
    };
    return store;
  } catch (error) {
    await live?.close();
    throw error;
  }
}

export interface Bench {
  readonly directory: string;
  /** The next opening is by a new owner, unless told the epoch. */
  open(options?: {
    epoch?: number;
    guard?: Guard;
    limits?: Partial<StoreLimits>;
    format?: FolderFormat;
  }): Promise<Store>;
  remove(): Promise<void>;
}

/** @param format  Of folders that are created. */
export async function makeBench(format: FolderFormat = 'maildir'): Promise<Bench> {
  const directory = await mkdtemp(path.join(tmpdir(), 'postern-store-'));
  let epoch = 0;
  return {
    directory,
    open: (options = {}) =>
      openWithIntake({
        directory,
        guard: options.guard ?? { epoch: options.epoch ?? ++epoch, assert: () => {} },
        limits: { ...limits, ...options.limits },
        log: silentLog,
        dirsync: true,
        format: options.format ?? format,
      }),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

export async function put(
  folder: Folder,
  text: string | Buffer,
  facts: { flags?: number; keywords?: readonly string[]; key?: string; internalDateMs?: number } = {},
): Promise<{ uid: number; already: boolean }> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const incoming = await folder.append(
    {
      flags: facts.flags ?? 0,
      keywords: facts.keywords ?? [],
      internalDateMs: facts.internalDateMs ?? 1_700_000_000_000,
      ...(facts.key === undefined ? {} : { deliveryKey: facts.key }),
    },
    bytes.length,
  );
  await incoming.write(bytes);
  return incoming.commit();
}

/** Settles when the folder's messages have files: they come a little after the answer. */
export async function filesMade(folder: Folder): Promise<void> {
  await (folder as MaildirFolder).pending.made();
}

export async function textOf(folder: Folder, uid: number): Promise<string> {
  const message = await folder.open(uid);
  try {
    return (await message.read(0, message.size)).toString('latin1');
  } finally {
    await message.close();
  }
}

/** Everything a session can see of a folder. */
export async function contentsOf(folder: Folder): Promise<unknown> {
  const messages = [];
  for (const uid of folder.uids()) messages.push({ ...folder.facts(uid), text: await textOf(folder, uid) });
  return {
    mailboxId: folder.mailboxId,
    uidValidity: folder.uidValidity,
    uidNext: folder.uidNext,
    highestModseq: folder.highestModseq,
    count: folder.count,
    unseenCount: folder.unseenCount,
    sizeBytes: folder.sizeBytes,
    messages,
  };
}

export function keyOf(number: number): string {
  return number.toString(16).padStart(32, '0');
}
