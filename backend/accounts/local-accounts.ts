/**
 * The accounts of this backend on its storage root. Every call looks at the
 * lease of the account's shard first; what changes an account is done under
 * its fence.
 */
import path from 'node:path';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type Address, canonicalAddress } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { BackendSettings } from '../settings.ts';
import { takeFence } from '../store/fence.ts';
import { openStore } from '../store/open-store.ts';
import type { Guard, StoreLimits } from '../store/store.ts';
import {
  type AccountFile,
  accountDirectory,
  createAccount,
  exists,
  listAddresses,
  removeAccount,
  writeAccountFile,
} from './account-files.ts';
import type { Account, AccountSummary, Accounts } from './accounts.ts';
import { KnownAccounts } from './known-accounts.ts';
import { OpenAccounts } from './open-accounts.ts';
import { checkPassword, hashPassword } from './password.ts';
import { VerifiedLogins } from './verified-logins.ts';

/** Refused above this, whatever the protocol let through before. */
const messageBytesMax = 2 * 1024 ** 3;
const folderNameBytesMax = 1000;
const listCountMax = 10_000;

export interface AccountsOptions {
  /** The storage root. */
  readonly root: string;
  readonly settings: BackendSettings;
  readonly log: Log;
  guardFor(address: Address): Guard;
  /** Is the account's shard ours now? */
  owns(address: Address): boolean;
}

export async function openAccounts(options: AccountsOptions): Promise<Accounts & { close(): Promise<void> }> {
  // A root that has lost its mark is not the storage any more (DESIGN section 2, invariant 7).
  const mark = path.join(options.root, 'cluster.json');
  const marked = await exists(mark);
  return new LocalAccounts(options, async () => {
    if (marked && !(await exists(mark))) {
      throw new Fault('storage-failed', 'the storage root is not there', { detail: { root: options.root } });
    }
  });
}

class LocalAccounts implements Accounts {
  readonly #options: AccountsOptions;
  readonly #known: KnownAccounts;
  readonly #open: OpenAccounts;
  readonly #verified: VerifiedLogins;

  constructor(options: AccountsOptions, confirmAbsent: () => Promise<void>) {
    const { settings, log, root } = options;
    this.#options = options;
    this.#known = new KnownAccounts(root, confirmAbsent);
    this.#verified = new VerifiedLogins(settings['login.remember'], settings['login.remembered_max']);
    this.#open = new OpenAccounts(
      async (address, onBroken) => {
        const guard = options.guardFor(address);
        const file = await this.#existing(address);
        return openStore({
          directory: accountDirectory(root, address),
          guard,
          limits: this.#limitsOf(file),
          log: log.child({ account: address }),
          dirsync: settings['storage.dirsync'],
          onBroken,
        });
      },
      settings['account.open_max'],
      log,
    );
  }

  get openCount(): number {
    return this.#open.count;
  }

  async mayReceive(address: Address, sizeBytes: number): Promise<'yes' | 'no-such-account' | 'over-quota'> {
    const file = await this.#known.read(address, this.#guard(address).epoch);
    this.#guard(address);
    if (!file) return 'no-such-account';
    const quotaBytes = this.#quotaOf(file);
    if (quotaBytes === 0) return 'yes';
    if (sizeBytes > quotaBytes) return 'over-quota';
    const account = await this.open(address);
    try {
      return account.store.usage.bytes + sizeBytes > quotaBytes ? 'over-quota' : 'yes';
    } finally {
      account.release();
    }
  }

  async verify(credentials: Credentials): Promise<boolean> {
    const { user, password } = credentials;
    const file = await this.#known.read(user, this.#guard(user).epoch);
    const version = file?.credentials.salt ?? '';
    const digest = this.#verified.digestOf(user, password, version);
    const recalled = this.#verified.recall(digest, performance.now());
    if (recalled !== undefined) return recalled;
    const right = await checkPassword(file?.credentials, password);
    this.#guard(user);
    this.#verified.remember(digest, right, performance.now());
    return right;
  }

  async open(address: Address): Promise<Account> {
    const { epoch } = this.#guard(address);
    return this.#open.current(address, epoch) ?? (await this.#open.open(address, epoch));
  }

  async add(address: Address, password: string, quotaBytes?: number): Promise<AccountSummary> {
    const canonical = canonicalAddress(address);
    const guard = this.#guard(canonical);
    const file: AccountFile = {
      address: canonical,
      createdAt: new Date().toISOString(),
      credentials: await hashPassword(password),
      ...(quotaBytes === undefined ? {} : { quotaBytes: checkedQuota(quotaBytes) }),
    };
    await createAccount(this.#options.root, file, () => this.#guard(canonical));
    this.#known.forget(canonical);
    guard.assert();
    this.#options.log.info({ event: 'account-added', account: canonical }, 'account added');
    return {
      address: canonical,
      createdAt: file.createdAt,
      quotaBytes: this.#quotaOf(file),
      usedBytes: 0,
      messages: 0,
    };
  }

  async setPassword(address: Address, password: string): Promise<void> {
    const guard = this.#guard(address);
    const credentials = await hashPassword(password);
    const file = await this.#existing(address);
    const directory = accountDirectory(this.#options.root, address);
    await takeFence(directory, guard, this.#options.log);
    await writeAccountFile(directory, { ...file, credentials });
    this.#known.forget(address);
    guard.assert();
    this.#options.log.info({ event: 'password-set', account: address }, 'password set');
  }

  async remove(address: Address): Promise<void> {
    const guard = this.#guard(address);
    await this.#existing(address);
    await this.#open.leave(
      (open) => open === address,
      new Fault('no-such-account', 'the account was removed'),
    );
    await takeFence(accountDirectory(this.#options.root, address), guard, this.#options.log);
    await removeAccount(this.#options.root, address);
    this.#known.forget(address);
    guard.assert();
    this.#options.log.info({ event: 'account-removed', account: address }, 'account removed');
  }

  async show(address: Address): Promise<AccountSummary> {
    const account = await this.open(address);
    try {
      const file = await this.#existing(address);
      return {
        address,
        createdAt: file.createdAt,
        quotaBytes: this.#quotaOf(file),
        usedBytes: account.store.usage.bytes,
        messages: account.store.usage.messages,
      };
    } finally {
      account.release();
    }
  }

  list(domain: string, after: string | undefined, countMax: number): Promise<readonly Address[]> {
    const count = Math.min(countMax, listCountMax);
    return listAddresses(this.#options.root, domain, after, count, (address) => this.#options.owns(address));
  }

  async leave(leaving: (address: Address) => boolean, reason: string): Promise<void> {
    this.#known.forgetAll(leaving);
    await this.#open.leave(leaving, new Fault('unavailable', reason));
    this.#known.forgetAll(leaving);
  }

  close(): Promise<void> {
    return this.leave(() => true, 'this server is going down');
  }

  /** @throws {Fault} `not-owner`, `lease-lost` */
  #guard(address: Address): Guard {
    if (!this.#options.owns(address)) throw new Fault('not-owner', 'another backend owns this account');
    const guard = this.#options.guardFor(address);
    guard.assert();
    return guard;
  }

  async #existing(address: Address): Promise<AccountFile> {
    const file = await this.#known.read(address, this.#guard(address).epoch);
    if (!file) throw new Fault('no-such-account', 'there is no such account');
    return file;
  }

  #quotaOf(file: AccountFile): number {
    return file.quotaBytes ?? this.#options.settings['account.quota'];
  }

  #limitsOf(file: AccountFile): StoreLimits {
    const { settings } = this.#options;
    return {
      messageBytesMax,
      foldersMax: settings['account.folders_max'],
      folderNameBytesMax,
      keywordsPerFolderMax: settings['account.keywords_max'],
      quotaBytes: this.#quotaOf(file),
      quotaMessages: 0,
    };
  }
}

function checkedQuota(quotaBytes: number): number {
  if (Number.isSafeInteger(quotaBytes) && quotaBytes >= 0) return quotaBytes;
  throw new Fault('bad-argument', 'a quota is a whole number of bytes; 0 for no limit');
}
