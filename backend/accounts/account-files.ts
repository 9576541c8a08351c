/**
 * Where accounts are on the storage root, and the one small file that makes a
 * directory an account. An account is made aside and renamed into place, so
 * there is never half of one; removed, it is moved aside, never deleted.
 */
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import { type Address, addressParts, canonicalAddress, canonicalDomain } from '../../cluster-protocol/ids.ts';
import {
  listDirectory,
  makeDirectories,
  readWhole,
  removeTree,
  renameFile,
  replaceDurably,
  statFile,
  storageFault,
  syncDirectory,
} from '../store/files.ts';
import type { StoredPassword } from './password.ts';
import { isStoredScram, type StoredScram } from './scram-keys.ts';

export interface AccountFile {
  readonly address: Address;
  /** ISO 8601. */
  readonly createdAt: string;
  readonly credentials: StoredPassword;
  /** Absent: the password was set without them, and its next login by PLAIN makes them. */
  readonly scram?: StoredScram | undefined;
  /** Bytes; absent: the site's default; 0: no limit. */
  readonly quotaBytes?: number | undefined;
  /** Messages, likewise. */
  readonly quotaMessages?: number | undefined;
}

/** @throws {Fault} `no-such-account` for what is not a canonical address: nothing else becomes a path. */
export function accountDirectory(root: string, address: Address): string {
  if (!isCanonical(address)) throw new Fault('no-such-account', 'there is no such account');
  const { local, domain } = addressParts(address);
  const fan = createHash('sha256').update(local).digest('hex').slice(0, 2);
  return path.join(root, 'domains', domain, fan, local);
}

function isCanonical(address: string): boolean {
  try {
    return canonicalAddress(address) === address;
  } catch {
    return false;
  }
}

/** `undefined`: there is no such account. @throws {Fault} `storage-failed`, `storage-damaged` */
export async function readAccountFile(directory: string): Promise<AccountFile | undefined> {
  let text: string | undefined;
  try {
    text = (await readWhole(path.join(directory, 'account.json')))?.toString();
  } catch (error) {
    throw storageFault(error, 'account-read');
  }
  if (text === undefined) return undefined;
  const file = parseAccountFile(text);
  if (!file)
    throw new Fault('storage-damaged', 'the account file is not readable', { detail: { directory } });
  return file;
}

function parseAccountFile(text: string): AccountFile | undefined {
  try {
    const raw = JSON.parse(text) as Record<string, unknown>;
    const { format, address, createdAt, credentials, scram, quotaBytes, quotaMessages } = raw;
    const good =
      format === 1 &&
      typeof address === 'string' &&
      typeof createdAt === 'string' &&
      typeof credentials === 'object' &&
      credentials !== null &&
      [quotaBytes, quotaMessages].every(
        (quota) => quota === undefined || (typeof quota === 'number' && quota >= 0),
      );
    if (!good) return undefined;
    return {
      address,
      createdAt,
      credentials: credentials as StoredPassword,
      ...(isStoredScram(scram) ? { scram } : {}),
      ...(typeof quotaBytes === 'number' ? { quotaBytes } : {}),
      ...(typeof quotaMessages === 'number' ? { quotaMessages } : {}),
    };
  } catch {
    return undefined;
  }
}

export function writeAccountFile(directory: string, file: AccountFile): Promise<void> {
  return replaceDurably(
    path.join(directory, 'account.json'),
    `${JSON.stringify({ format: 1, ...file }, undefined, 2)}\n`,
  );
}

/**
 * @param assertLease  Called right before the account appears.
 * @throws {Fault} `already-exists`, `no-space`, `storage-failed`
 */
export async function createAccount(root: string, file: AccountFile, assertLease: () => void): Promise<void> {
  const directory = accountDirectory(root, file.address);
  const aside = path.join(root, 'new', randomBytes(12).toString('hex'));
  try {
    if (await exists(directory)) throw new Fault('already-exists', 'there is such an account already');
    await makeDirectoriesDurably(root, path.dirname(path.relative(root, directory)));
    for (const name of ['cur', 'new', 'tmp']) await makeDirectories(path.join(aside, 'Maildir', name));
    await syncDirectory(path.join(aside, 'Maildir'));
    await writeAccountFile(aside, file);
    assertLease();
    await renameFile(aside, directory);
    await syncDirectory(path.dirname(directory));
  } catch (error) {
    await removeTree(aside).catch(() => {});
    if (['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error))) {
      throw new Fault('already-exists', 'there is such an account already', { cause: error });
    }
    throw storageFault(error, 'account-create');
  }
}

/** Moves the account's directory to `<root>/removed/<domain>/`. */
export async function removeAccount(root: string, address: Address): Promise<void> {
  const directory = accountDirectory(root, address);
  const { local, domain } = addressParts(address);
  const stamp = new Date().toISOString().replace(/[:.]/g, '-');
  try {
    await makeDirectoriesDurably(root, path.join('removed', domain));
    const aside = path.join(root, 'removed', domain, `${local} ${stamp} ${randomBytes(4).toString('hex')}`);
    await renameFile(directory, aside);
    await syncDirectory(path.dirname(aside));
    await syncDirectory(path.dirname(directory));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new Fault('no-such-account', 'there is no such account', { cause: error });
    }
    throw storageFault(error, 'account-remove');
  }
}

/** Creates the directories of a relative path below `root`, each durable in its parent. */
export async function makeDirectoriesDurably(root: string, relative: string): Promise<void> {
  let here = root;
  for (const part of relative.split(path.sep)) {
    const parent = here;
    here = path.join(here, part);
    if (await exists(here)) continue;
    await makeDirectories(here);
    await syncDirectory(parent);
  }
}

export async function exists(name: string): Promise<boolean> {
  try {
    await statFile(name);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Addresses of a domain after `after`, sorted, at most `countMax`.
 * @param wanted  Which of them to give.
 * @throws {Fault} `bad-name`, `storage-failed`
 */
export async function listAddresses(
  root: string,
  domain: string,
  after: string | undefined,
  countMax: number,
  wanted: (address: Address) => boolean,
): Promise<readonly Address[]> {
  const top = path.join(root, 'domains', canonicalDomain(domain));
  let found: Address[] = [];
  const cut = (): void => {
    found = found.sort(byCodeUnits).slice(0, countMax);
  };
  for (const fan of await namesIn(top)) {
    if (!/^[0-9a-f]{2}$/.test(fan)) continue;
    for (const local of await namesIn(path.join(top, fan))) {
      const address = `${local}@${canonicalDomain(domain)}`;
      if (after !== undefined && address <= after) continue;
      if (isCanonical(address) && wanted(address)) found.push(address);
    }
    // A domain of a million accounts must not be held in memory for a page of it.
    if (found.length > 4 * countMax) cut();
  }
  cut();
  return found;
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await listDirectory(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw storageFault(error, 'account-list');
  }
}
