/** Work on a whole account while nobody has it open: check, adopt, convert, release, resume. */
import { Fault } from '../../base/fault.ts';
import type { MaintenanceTask } from '../../cluster-protocol/maintenance.ts';
import { checkAccount } from '../store/check/check-account.ts';
import { handBack } from '../store/dovecot/hand-back.ts';
import { isHandedBack, markHandedBack, unmarkHandedBack } from '../store/handed-back.ts';
import type { Guard, Store, StoreLimits } from '../store/store.ts';
import { adoptMaildir } from './adopt.ts';

export interface ClosedAccount {
  /** The storage root. */
  readonly root: string;
  readonly directory: string;
  readonly guard: Guard;
  readonly limits: StoreLimits;
  open(): Promise<Store>;
}

/** @returns what the command prints, as JSON. @throws {Fault} what the work throws. */
export async function maintain(account: ClosedAccount, task: MaintenanceTask): Promise<unknown> {
  const { root, directory, guard } = account;
  guard.assert();
  if (task.kind === 'resume') {
    if (!(await unmarkHandedBack(directory)))
      throw new Fault('bad-argument', 'the account is not released; nothing to resume');
    return summaryOf(account);
  }
  if (await isHandedBack(directory)) {
    throw new Fault(
      'bad-argument',
      'the account is released to another server; stop that, then use "account resume"',
    );
  }
  switch (task.kind) {
    case 'check':
      return checkAccount(account, task, new Date());
    case 'adopt':
      await adoptMaildir(root, directory, task.directory);
      return summaryOf(account);
    case 'convert':
      return convert(account, task);
    case 'release': {
      const report = await handBack(() => account.open(), guard);
      guard.assert();
      await markHandedBack(directory, new Date());
      return report;
    }
  }
}

/** Folder after folder: what was done stays done when one of them cannot be converted. */
async function convert(
  account: ClosedAccount,
  { folder, to }: Extract<MaintenanceTask, { kind: 'convert' }>,
): Promise<{ folders: readonly { name: string; messages: number; converted: boolean }[] }> {
  const store = await account.open();
  try {
    const names =
      folder === undefined ? store.listFolders().filter((one) => one.selectable) : [{ name: folder }];
    const done = [];
    for (const { name } of names) {
      const before = await store.folder(name);
      const known = store.listFolders().find((one) => one.name === before.name);
      const converted = known?.format !== to;
      if (converted) await store.convertFolder?.(name, to);
      done.push({ name: before.name, messages: (await store.folder(name)).count, converted });
    }
    return { folders: done };
  } finally {
    await store.close();
  }
}

/** Opens the account once, which takes over what is there. */
async function summaryOf(
  account: ClosedAccount,
): Promise<{ folders: number; messages: number; bytes: number }> {
  const store = await account.open();
  try {
    const folders = store.listFolders().filter((folder) => folder.selectable);
    // Indexes those that the journal vouched for: what is in them may be other mail than it knew.
    for (const { name } of folders) await (await store.folder(name)).refresh();
    return { folders: folders.length, ...store.usage };
  } finally {
    await store.close();
  }
}
