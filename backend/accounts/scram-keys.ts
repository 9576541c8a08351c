/**
 * What an account keeps for SCRAM-SHA-256, beside the hash of its password: keys
 * that check a proof, from which nobody can make one without trying passwords.
 */
import { createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { saslPrep } from '../../mailwire/sasl-prep.ts';
import { checkProof, iterationsMax, iterationsMin, type ScramKeys, scramKeys } from '../../mailwire/scram.ts';
import { hashInTurn } from './hash-turns.ts';

export interface StoredScram {
  readonly iterations: number;
  /** base64, all three */
  readonly salt: string;
  readonly storedKey: string;
  readonly serverKey: string;
}

/** What is told to a client before it proves anything. */
export interface ScramStart {
  readonly salt: Buffer;
  readonly iterations: number;
}

/**
 * Clients compute them at every login, telephones too; the scrypt hash beside these keys is the stronger, and
 * somebody who has stolen the file tries the weaker.
 */
export const scramIterations = 20_000;
const saltBytes = 16;
const keyBytes = 32;

/** Salts for accounts that have none (yet, or at all): always the same for a name, and unlike any other's (CASES 69). */
export class ScramSalts {
  readonly #secret: Buffer;

  /** @param secret  Of the cluster: every backend must give the same answer, today and tomorrow. */
  constructor(secret: Buffer) {
    this.#secret = secret;
  }

  of(address: string): Buffer {
    return createHmac('sha256', this.#secret)
      .update(`scram salt\0${address}`)
      .digest()
      .subarray(0, saltBytes);
  }
}

export function newScramSalt(): Buffer {
  return randomBytes(saltBytes);
}

/** @returns `undefined` for a password that has no SASLprep form: its owner logs in without SCRAM. @throws {Fault} `busy` */
export async function makeScram(
  password: string,
  salt: Buffer,
  iterations = scramIterations,
): Promise<StoredScram | undefined> {
  const prepared = saslPrep(password);
  if (prepared === undefined) return undefined;
  const { storedKey, serverKey } = await derive(prepared, salt, iterations);
  return {
    iterations,
    salt: salt.toString('base64'),
    storedKey: storedKey.toString('base64'),
    serverKey: serverKey.toString('base64'),
  };
}

/** Is it a record that can be used? @param raw  From an account's file, or imported. */
export function isStoredScram(raw: unknown): raw is StoredScram {
  if (typeof raw !== 'object' || raw === null) return false;
  const { iterations, salt, storedKey, serverKey } = raw as Record<string, unknown>;
  const bytes = (value: unknown): number =>
    typeof value === 'string' && value.length <= 200 ? Buffer.from(value, 'base64').length : -1;
  return (
    typeof iterations === 'number' &&
    Number.isSafeInteger(iterations) &&
    iterations >= iterationsMin &&
    iterations <= iterationsMax &&
    bytes(salt) >= 8 &&
    bytes(storedKey) === keyBytes &&
    bytes(serverKey) === keyBytes
  );
}

/** Does a proof fit? @returns The server's signature in base64, or `undefined`. */
export function checkScram(
  stored: StoredScram | undefined,
  authMessage: string,
  proof: string,
): string | undefined {
  // Nobody's keys: costs the same, fits nothing.
  const keys = stored === undefined ? nobody : keysOf(stored);
  const signature = checkProof(keys, authMessage, Buffer.from(proof, 'base64'));
  return stored === undefined ? undefined : signature?.toString('base64');
}

/** Does a password fit SCRAM keys? For accounts that came with nothing else. @throws {Fault} `busy` */
export async function passwordFitsScram(stored: StoredScram, password: string): Promise<boolean> {
  const made = await makeScram(password, Buffer.from(stored.salt, 'base64'), stored.iterations);
  // Both are hashes: what their comparison tells by its time is of no use.
  return made !== undefined && made.storedKey === stored.storedKey;
}

const nobody: ScramKeys = { storedKey: randomBytes(keyBytes), serverKey: randomBytes(keyBytes) };

function keysOf({ storedKey, serverKey }: StoredScram): ScramKeys {
  return { storedKey: Buffer.from(storedKey, 'base64'), serverKey: Buffer.from(serverKey, 'base64') };
}

async function derive(prepared: string, salt: Buffer, iterations: number): Promise<ScramKeys> {
  return scramKeys(await hashInTurn((done) => pbkdf2(prepared, salt, iterations, keyBytes, 'sha256', done)));
}
