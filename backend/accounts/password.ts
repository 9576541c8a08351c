/**
 * Password hashes: scrypt from `node:crypto` (RFC 7914), or what another server
 * made. An unknown account costs a hash like a known one (CASES 69).
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { Fault } from '../../base/fault.ts';
import { hashInTurn } from './hash-turns.ts';
import { checkImportedHash, type ImportedHash } from './imported-hash.ts';

export interface PasswordHash {
  readonly scheme: 'scrypt';
  readonly n: number;
  readonly r: number;
  readonly p: number;
  /** base64 */
  readonly salt: string;
  /** base64 */
  readonly hash: string;
}

export type StoredPassword = PasswordHash | ImportedHash;

const cost = { n: 16_384, r: 8, p: 1 } as const;
const hashBytes = 32;
const passwordBytesMax = 1024;
/** 128 × N × r of the greatest parameters an account file may ask for. */
const memoryBytesMax = 256 * 1024 * 1024;

/** What an unknown account is compared with: takes as long, matches nothing. */
const nobody: PasswordHash = {
  scheme: 'scrypt',
  ...cost,
  salt: randomBytes(16).toString('base64'),
  hash: randomBytes(hashBytes).toString('base64'),
};

/** @throws {Fault} `bad-argument` for an empty or overlong password, `busy` */
export async function hashPassword(password: string): Promise<PasswordHash> {
  const text = prepared(password);
  if (text === undefined) throw new Fault('bad-argument', 'a password has 1 to 1024 bytes and no NUL');
  const salt = randomBytes(16);
  const hash = await derive(text, salt, cost, hashBytes);
  return { scheme: 'scrypt', ...cost, salt: salt.toString('base64'), hash: hash.toString('base64') };
}

/** Changes whenever the password does. */
export function passwordVersion(stored: StoredPassword): string {
  return stored.scheme === 'imported' ? stored.text : stored.salt;
}

/** @param stored  `undefined` for an account that does not exist. @throws {Fault} `busy` */
export async function checkPassword(stored: StoredPassword | undefined, password: string): Promise<boolean> {
  if (stored?.scheme === 'imported') {
    // Side by side with a hash of our own, or a fast scheme would tell that there is such an account.
    const [right] = await Promise.all([
      prepared(password) === undefined ? false : checkImportedHash(stored, password),
      checkPassword(undefined, password),
    ]);
    return right;
  }
  const known = stored !== undefined && isUsable(stored);
  const against = known ? stored : nobody;
  const text = prepared(password);
  const expected = Buffer.from(against.hash, 'base64');
  const found = await derive(text ?? 'x', Buffer.from(against.salt, 'base64'), against, expected.length);
  return timingSafeEqual(found, expected) && known && text !== undefined;
}

/** NFC, so that the same keys give the same bytes (RFC 8265 4.2). `undefined`: cannot be a password. */
function prepared(password: string): string | undefined {
  if (password.length > passwordBytesMax) return undefined;
  const text = password.normalize('NFC');
  return text === '' || text.includes('\0') || Buffer.byteLength(text) > passwordBytesMax ? undefined : text;
}

function isUsable(stored: PasswordHash): boolean {
  const { scheme, n, r, p, salt, hash } = stored;
  const counts = [n, r, p].every((count) => Number.isSafeInteger(count) && count > 0);
  return (
    scheme === 'scrypt' &&
    counts &&
    128 * n * r <= memoryBytesMax / 2 &&
    p <= 16 &&
    typeof salt === 'string' &&
    typeof hash === 'string' &&
    Buffer.from(hash, 'base64').length >= 16
  );
}

function derive(
  password: string,
  salt: Buffer,
  { n, r, p }: { readonly n: number; readonly r: number; readonly p: number },
  bytes: number,
): Promise<Buffer> {
  return hashInTurn((done) => scrypt(password, salt, bytes, { N: n, r, p, maxmem: memoryBytesMax }, done));
}
