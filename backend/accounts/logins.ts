/**
 * Who may act for an account: passwords, SCRAM proofs and tokens, judged by its
 * owner alone. What verified is remembered for a while; what was stored by an
 * older release or another server is replaced when its password comes by.
 */
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Address } from '../../cluster-protocol/ids.ts';
import type { Credentials } from '../../cluster-protocol/link.ts';
import type { AccountFile } from './account-files.ts';
import { scramIn } from './imported-hash.ts';
import { checkPassword, hashPassword, passwordVersion, type StoredPassword } from './password.ts';
import {
  checkScram,
  makeScram,
  newScramSalt,
  type ScramSalts,
  type ScramStart,
  type StoredScram,
  scramIterations,
} from './scram-keys.ts';
import type { TokenVerifier } from './token-verifier.ts';
import { VerifiedLogins } from './verified-logins.ts';

/** Passwords being stored anew at once; further ones wait for a later login. */
const upgradesMax = 4;
/** After a failure an account is left alone this long. */
const upgradeAgainMs = 60_000;

export type ScramCredentials = Credentials & { readonly mechanism: 'scram' };

export interface LoginsOptions {
  readonly rememberMs: number;
  readonly rememberedMax: number;
  /** Are SCRAM keys made and served? */
  readonly scram: boolean;
  readonly salts: ScramSalts;
  /** `undefined`: no token is good here. */
  readonly tokens: TokenVerifier | undefined;
  readonly log: Log;
  /** The account's file, under the lease. @throws {Fault} `not-owner`, `lease-lost`, `storage-failed` */
  read(address: Address): Promise<AccountFile | undefined>;
  /** Throws unless the account is (still) ours. */
  assertOwned(address: Address): void;
  /** Writes what `next` makes of the file; `undefined` leaves it. */
  change(address: Address, next: (file: AccountFile) => AccountFile | undefined): Promise<void>;
}

export class Logins {
  readonly #options: LoginsOptions;
  readonly #verified: VerifiedLogins;
  readonly #upgrading = new Set<Address>();

  constructor(options: LoginsOptions) {
    this.#options = options;
    this.#verified = new VerifiedLogins(options.rememberMs, options.rememberedMax);
  }

  /** @throws {Fault} `not-owner`, `lease-lost`, `storage-failed`, `busy`, `unavailable` when it cannot be judged now */
  async verify(credentials: Credentials): Promise<boolean> {
    const file = await this.#options.read(credentials.user);
    switch (credentials.mechanism) {
      case 'password':
        return await this.#verifyPassword(credentials.user, credentials.password, file);
      case 'scram':
        return checkScram(this.#scramOf(file), credentials.authMessage, credentials.proof) !== undefined;
      case 'token': {
        const user = await this.#options.tokens?.userOf(credentials.token);
        this.#options.assertOwned(credentials.user);
        return file !== undefined && user === credentials.user;
      }
    }
  }

  /** For any name, whether there is such an account or not. */
  async scramStart(address: Address): Promise<ScramStart> {
    const scram = this.#scramOf(await this.#options.read(address));
    if (scram === undefined) return { salt: this.#options.salts.of(address), iterations: scramIterations };
    return { salt: Buffer.from(scram.salt, 'base64'), iterations: scram.iterations };
  }

  /** Base64; `undefined` when the proof is wrong. */
  async scramSignature({ user, authMessage, proof }: ScramCredentials): Promise<string | undefined> {
    return checkScram(this.#scramOf(await this.#options.read(user)), authMessage, proof);
  }

  /**
   * What a new account keeps of its password: SCRAM keys with the salt that was shown for its name before.
   * @throws {Fault} `bad-argument`, `busy`
   */
  newCredentials(address: Address, password: string): Promise<Pick<AccountFile, 'credentials' | 'scram'>> {
    return this.#stored(password, this.#options.salts.of(address));
  }

  /** The same for a changed password, with a new salt. */
  changedCredentials(password: string): Promise<Pick<AccountFile, 'credentials' | 'scram'>> {
    return this.#stored(password, newScramSalt());
  }

  async #stored(password: string, salt: Buffer): Promise<Pick<AccountFile, 'credentials' | 'scram'>> {
    const credentials = await hashPassword(password);
    return this.#options.scram ? { credentials, scram: await makeScram(password, salt) } : { credentials };
  }

  #scramOf(file: AccountFile | undefined): StoredScram | undefined {
    return this.#options.scram ? file?.scram : undefined;
  }

  async #verifyPassword(user: Address, password: string, file: AccountFile | undefined): Promise<boolean> {
    const version = file === undefined ? '' : passwordVersion(file.credentials);
    const digest = this.#verified.digestOf(user, password, version);
    let right = this.#verified.recall(digest, performance.now());
    if (right === undefined) {
      right = await checkPassword(file?.credentials, password);
      this.#options.assertOwned(user);
      this.#verified.remember(digest, right, performance.now());
    }
    if (right && file !== undefined && this.#isOld(file)) this.#startUpgrade(file, password);
    return right;
  }

  #isOld(file: AccountFile): boolean {
    return file.credentials.scheme === 'imported' || (this.#options.scram && file.scram === undefined);
  }

  #startUpgrade(file: AccountFile, password: string): void {
    const { address } = file;
    if (this.#upgrading.has(address) || this.#upgrading.size >= upgradesMax) return;
    this.#upgrading.add(address);
    this.#upgrade(file, password).then(
      (done) => {
        // A password that has no SASLprep form would be tried again at every login.
        if (done) this.#upgrading.delete(address);
        else this.#retryLater(address);
      },
      (error: unknown) => {
        this.#options.log.warn(
          { event: 'password-not-stored', account: address, error: Fault.from(error).message },
          'password not stored anew',
        );
        this.#retryLater(address);
      },
    );
  }

  #retryLater(address: Address): void {
    setTimeout(() => this.#upgrading.delete(address), upgradeAgainMs).unref();
  }

  /** @returns False when there was nothing to gain. */
  async #upgrade(file: AccountFile, password: string): Promise<boolean> {
    const { address, credentials: old } = file;
    const credentials = old.scheme === 'imported' ? await hashPassword(password) : old;
    const imported = old.scheme === 'imported' ? scramIn(old) : undefined;
    const scram = this.#options.scram
      ? (file.scram ?? imported ?? (await makeScram(password, this.#options.salts.of(address))))
      : file.scram;
    if (credentials === old && scram === undefined) return false;
    await this.#options.change(address, (current) =>
      sameStored(current.credentials, old) ? { ...current, credentials, scram } : undefined,
    );
    const digest = this.#verified.digestOf(address, password, passwordVersion(credentials));
    this.#verified.remember(digest, true, performance.now());
    this.#options.log.info({ event: 'password-stored-anew', account: address }, 'password stored anew');
    return true;
  }
}

function sameStored(one: StoredPassword, other: StoredPassword): boolean {
  return passwordVersion(one) === passwordVersion(other);
}
