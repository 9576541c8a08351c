/**
 * The account that a new cluster starts with, so that there is something to log
 * in to. Made once: an admin who removes it does not get it back.
 */
import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeDurably } from '../base/durable-file.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { AdminRequest } from '../cluster-protocol/link.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';

export const firstDomain = 'postern.test';
export const firstAddress = `demo@${firstDomain}`;
const triesMax = 5;
const retryMs = 500;
/** Present in the registry once the account was made. */
const doneKey = 'first-account';

export interface FirstAccount {
  readonly address: string;
  readonly file: string;
  /** Only on the start that made the account. */
  readonly password: string | undefined;
}

/** Adds a domain to the registry. @returns false when it was there. */
export async function addDomain(registry: Registry, name: string): Promise<boolean> {
  const key = registryKey.domain(name);
  const { done } = await registry.transact(
    [{ key, is: 'absent' }],
    [{ put: key, value: JSON.stringify({ name }) }],
  );
  return done;
}

/** The domain of the first account, in a cluster that has not had it yet. */
export async function ensureFirstDomain(registry: Registry): Promise<void> {
  if ((await registry.get(doneKey)) === undefined) await addDomain(registry, firstDomain);
}

/**
 * Makes the first account unless this cluster has had it. The password is on disk before the account is
 * made, so that a start that is cut short in between leaves an account somebody can use.
 */
export async function ensureFirstAccount(options: {
  registry: Registry;
  file: string;
  admin(request: AdminRequest): Promise<unknown>;
}): Promise<FirstAccount> {
  const { registry, file, admin } = options;
  if ((await registry.get(doneKey)) !== undefined)
    return { address: firstAddress, file, password: undefined };
  const noted = /^password: (\S{8,})$/m.exec(await readFile(file, 'utf8').catch(() => ''))?.[1];
  const password = noted ?? readablePassword();
  if (noted === undefined)
    await writeDurably(file, `account:  ${firstAddress}\npassword: ${password}\n`, 0o600);
  for (let tried = 1; ; tried++) {
    try {
      await addOrSet(admin, password);
      break;
    } catch (error) {
      // The backend was lost in mid-request, which says nothing of the next one.
      if (Fault.from(error).whose !== 'peer' || tried === triesMax) throw error;
      await sleep(retryMs);
    }
  }
  await registry.transact([], [{ put: doneKey, value: firstAddress }]);
  return { address: firstAddress, file, password };
}

async function addOrSet(admin: (request: AdminRequest) => Promise<unknown>, password: string): Promise<void> {
  try {
    await admin({ op: 'account-add', address: firstAddress, password });
  } catch (error) {
    if (!isFault(error, 'already-exists')) throw error;
    await admin({ op: 'account-passwd', address: firstAddress, password });
  }
}

/** Four speakable words without meaning, `kotam-bewil-…`: 66 bits, and no letter that looks like another. */
export function readablePassword(): string {
  const consonants = 'bdfghjkmnprstvwz';
  const vowels = 'aeiou';
  const word = (): string =>
    Array.from({ length: 5 }, (_, place) => {
      const letters = place % 2 === 0 ? consonants : vowels;
      return letters[randomInt(letters.length)];
    }).join('');
  return [word(), word(), word(), word()].join('-');
}
