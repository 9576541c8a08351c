/**
 * The accounts of this backend on its storage root. Every call looks at the
 * lease of the account's shard first; what changes an account is done under
 * its fence.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { DomainLimits } from '../../cluster-protocol/domains.ts';
import { type Address, addressParts, canonicalAddress } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { MaintenanceTask } from '../../cluster-protocol/maintenance.ts';
import type { BackendSettings } from '../settings.ts';
import { takeFence } from '../store/fence.ts';
import { isHandedBack } from '../store/handed-back.ts';
import { Lane } from '../store/lane.ts';
import { openStore } from '../store/open-store.ts';
import type { Guard, Store } from '../store/store.ts';
import {
  type AccountFile,
  accountDirectory,
  createAccount,
  exists,
  listAddresses,
  removeAccount,
  writeAccountFile,
} from './account-files.ts';
import {
  type Account,
  type AccountSummary,
  type Accounts,
  movingFault,
  type NewSecret,
  type QuotaChange,
} from './accounts.ts';
import { AccountsIntake } from './accounts-intake.ts';
import { isAliasName } from './aliases.ts';
import { readImportedHash, scramIn } from './imported-hash.ts';
import { KnownAccounts } from './known-accounts.ts';
import { Logins, type ScramCredentials } from './logins.ts';
import { maintain } from './maintenance.ts';
import { OpenAccounts } from './open-accounts.ts';
import { Quotas, quotaFields } from './quotas.ts';
import { ScramSalts, type ScramStart } from './scram-keys.ts';
import type { TokenVerifier } from './token-verifier.ts';

const listCountMax = 10_000;

export interface AccountsOptions {
  /** The storage root. */
  readonly root: string;
  readonly settings: BackendSettings;
  readonly log: Log;
  guardFor(address: Address): Guard;
  /** Is the account's shard ours now? */
  owns(address: Address): boolean;
  /** Are SCRAM keys made and served? No unless told. */
  readonly scram?: boolean;
  /** Of the cluster: salts of accounts that are none are made from it. One of this process unless told. */
  readonly loginSecret?: Buffer;
  /** What accounts of a domain may hold; without it only the site and the account itself have a say. */
  readonly domainLimits?: (domain: string) => DomainLimits;
  /** Judges OAuth tokens; without it none is good. */
  readonly tokens?: TokenVerifier | undefined;
}

export interface OwnAccounts extends Accounts {
  /** Open accounts of these domains get their quotas anew. */
  quotasChanged(domains: ReadonlySet<string>): Promise<void>;
  close(): Promise<void>;
}

export async function openAccounts(options: AccountsOptions): Promise<OwnAccounts> {
  // A root that has lost its mark is not the storage any more (DESIGN section 2, invariant 7).
  const mark = path.join(options.root, 'cluster.json');
  const marked = await exists(mark);
  const intake = await AccountsIntake.open(options.root, options.settings['storage.intake'], options.log);
  return new LocalAccounts(options, intake, async () => {
    if (marked && !(await exists(mark))) {
      throw new Fault('storage-failed', 'the storage root is not there', { detail: { root: options.root } });
    }
  });
}

class LocalAccounts implements OwnAccounts {
  readonly #options: AccountsOptions;
  readonly #intake: AccountsIntake;
  readonly #quotas: Quotas;
  readonly #known: KnownAccounts;
  readonly #open: OpenAccounts;
  readonly #logins: Logins;
  /** Changes of account files that are under way. */
  readonly #changes = new Map<Address, Lane>();

  constructor(options: AccountsOptions, intake: AccountsIntake, confirmAbsent: () => Promise<void>) {
    const { settings, log, root } = options;
    this.#options = options;
    this.#intake = intake;
    this.#quotas = new Quotas(settings, options.domainLimits);
    intake.keepTidy((address) => this.#visit(address));
    this.#known = new KnownAccounts(root, confirmAbsent);
    this.#logins = new Logins({
      rememberMs: settings['login.remember'],
      rememberedMax: settings['login.remembered_max'],
      scram: options.scram ?? false,
      salts: new ScramSalts(options.loginSecret ?? randomBytes(32)),
      tokens: options.tokens,
      log,
      read: (address) => this.#known.read(address, this.#guard(address).epoch),
      assertOwned: (address) => void this.#guard(address),
      change: (address, next) => this.#change(address, next),
    });
    this.#open = new OpenAccounts(
      async (address, onBroken) => {
        const guard = options.guardFor(address);
        return this.#openStore(address, guard, await this.#existing(address), onBroken);
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
    const { bytes, messages } = this.#quotas.of(file);
    if (bytes === 0 && messages === 0) return 'yes';
    if (bytes > 0 && sizeBytes > bytes) return 'over-quota';
    const account = await this.open(address);
    try {
      const { usage } = account.store;
      const over =
        (bytes > 0 && usage.bytes + sizeBytes > bytes) || (messages > 0 && usage.messages >= messages);
      return over ? 'over-quota' : 'yes';
    } finally {
      account.release();
    }
  }

  verify(credentials: Credentials): Promise<boolean> {
    return this.#logins.verify(credentials);
  }

  scramStart(address: Address): Promise<ScramStart> {
    return this.#logins.scramStart(address);
  }

  scramSignature(credentials: ScramCredentials): Promise<string | undefined> {
    return this.#logins.scramSignature(credentials);
  }

  async open(address: Address): Promise<Account> {
    const { epoch } = this.#guard(address);
    return this.#open.current(address, epoch) ?? (await this.#open.open(address, epoch));
  }

  async add(address: Address, secret: NewSecret, quota: QuotaChange = {}): Promise<AccountSummary> {
    const canonical = canonicalAddress(address);
    const guard = this.#guard(canonical);
    if (await isAliasName(this.#options.root, canonical))
      throw new Fault('already-exists', `${canonical} is an alias; remove it first`);
    const file: AccountFile = {
      address: canonical,
      createdAt: new Date().toISOString(),
      ...(typeof secret === 'string'
        ? await this.#logins.newCredentials(canonical, secret)
        : importedCredentials(secret.hash)),
      ...quotaFields({}, quota),
    };
    await createAccount(this.#options.root, file, () => this.#guard(canonical));
    this.#known.forget(canonical);
    guard.assert();
    this.#options.log.info({ event: 'account-added', account: canonical }, 'account added');
    return {
      address: canonical,
      createdAt: file.createdAt,
      ...this.#quotas.said(file),
      usedBytes: 0,
      messages: 0,
    };
  }

  async setQuota(address: Address, quota: QuotaChange): Promise<AccountSummary> {
    await this.#change(address, (file) => ({ ...file, ...quotaFields(file, quota) }));
    const account = await this.open(address);
    try {
      const { quotaBytes, quotaMessages } = this.#quotas.said(await this.#existing(address));
      account.store.setQuota(quotaBytes, quotaMessages);
      this.#options.log.info(
        { event: 'quota-set', account: address, quotaBytes, quotaMessages },
        'quota set',
      );
    } finally {
      account.release();
    }
    return this.show(address);
  }

  async quotasChanged(domains: ReadonlySet<string>): Promise<void> {
    for (const { address, store } of this.#open.opened()) {
      if (!domains.has(addressParts(address).domain)) continue;
      try {
        const { bytes, messages } = this.#quotas.of(await this.#existing(address));
        store.setQuota(bytes, messages);
      } catch (error) {
        // It is being left: whoever opens it next reads its limits anew.
        this.#options.log.debug(
          { event: 'quota-not-changed', account: address, err: error },
          'quota not changed',
        );
      }
    }
  }

  async setPassword(address: Address, secret: NewSecret): Promise<void> {
    const { credentials, scram } =
      typeof secret === 'string'
        ? await this.#logins.changedCredentials(secret)
        : importedCredentials(secret.hash);
    await this.#change(address, (file) => ({ ...file, credentials, scram }));
    this.#options.log.info({ event: 'password-set', account: address }, 'password set');
  }

  /** One change of an account's file at a time, under its fence. */
  async #change(address: Address, next: (file: AccountFile) => AccountFile | undefined): Promise<void> {
    const lane = this.#changes.get(address) ?? new Lane();
    this.#changes.set(address, lane);
    try {
      await lane.run(async () => {
        const guard = this.#guard(address);
        const file = next(await this.#existing(address));
        if (file === undefined) return;
        const directory = accountDirectory(this.#options.root, address);
        await takeFence(directory, guard, this.#options.log);
        await writeAccountFile(directory, file);
        this.#known.forget(address);
        guard.assert();
      });
    } finally {
      if (lane.idle && this.#changes.get(address) === lane) this.#changes.delete(address);
    }
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
    this.#guard(address);
    if (await isHandedBack(accountDirectory(this.#options.root, address))) {
      throw new Fault('bad-argument', 'the account is released; "postern account resume" takes it back');
    }
    const account = await this.open(address);
    try {
      const file = await this.#existing(address);
      return {
        address,
        createdAt: file.createdAt,
        ...this.#quotas.said(file),
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

  async maintain(address: Address, task: MaintenanceTask): Promise<unknown> {
    const guard = this.#guard(address);
    const file = await this.#existing(address);
    const reason = new Fault('unavailable', 'the account is being worked on');
    return this.#open.alone(address, reason, (signal) => {
      // Work that takes minutes must not keep the account from moving.
      const leaving: Guard = {
        epoch: guard.epoch,
        assert: () => {
          signal.throwIfAborted();
          guard.assert();
        },
      };
      return maintain(
        {
          root: this.#options.root,
          directory: accountDirectory(this.#options.root, address),
          guard: leaving,
          limits: this.#quotas.limits(file),
          open: () => this.#openStore(address, leaving, file),
        },
        task,
      );
    });
  }

  async leave(leaving: (address: Address) => boolean, reason: string): Promise<void> {
    this.#known.forgetAll(leaving);
    await this.#open.leave(leaving, movingFault(reason));
    this.#known.forgetAll(leaving);
  }

  async close(): Promise<void> {
    await this.leave(() => true, 'this server is going down');
    await this.#intake.close();
  }

  /** Opening an account takes what an intake log still has of it. @returns false when it has to wait. */
  async #visit(address: Address): Promise<boolean> {
    if (!this.#options.owns(address)) return false;
    try {
      (await this.open(address)).release();
      return true;
    } catch (error) {
      return isFault(error, 'no-such-account');
    }
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

  #openStore(
    address: Address,
    guard: Guard,
    file: AccountFile,
    onBroken?: (fault: Fault) => void,
  ): Promise<Store> {
    const { root, log, settings } = this.#options;
    return openStore({
      directory: accountDirectory(root, address),
      guard,
      limits: this.#quotas.limits(file),
      log: log.child({ account: address }),
      dirsync: settings['storage.dirsync'],
      format: settings['storage.format'],
      intake: this.#intake.of(address),
      ...(settings['search.index']
        ? { search: { indexBytesMax: settings['search.index_bytes_max'] || Number.POSITIVE_INFINITY } }
        : {}),
      ...(onBroken === undefined ? {} : { onBroken }),
    });
  }
}

/** @throws {Fault} `bad-argument` */
function importedCredentials(hash: string): Pick<AccountFile, 'credentials' | 'scram'> {
  const credentials = readImportedHash(hash);
  return { credentials, scram: scramIn(credentials) };
}
