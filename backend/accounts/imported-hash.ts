/**
 * Password hashes other servers made, written `{SCHEME}…` as Dovecot and LDAP
 * have it, or bare (`$6$…`). They are checked, never made: the first login that
 * fits replaces one by a hash of our own.
 */
import { argon2, createHash, pbkdf2, timingSafeEqual } from 'node:crypto';
import { Fault } from '../../base/fault.ts';
import { CryptThread } from './crypt-thread.ts';
import { hashInTurn } from './hash-turns.ts';
import { isStoredScram, passwordFitsScram, type StoredScram } from './scram-keys.ts';
import { isShaCrypt } from './sha-crypt.ts';

export interface ImportedHash {
  readonly scheme: 'imported';
  /** `{SHA512-CRYPT}$6$…`, the scheme in capitals. */
  readonly text: string;
}

type Check = (password: string) => Promise<boolean>;
type Reader = (data: string) => Check | undefined;

const textCharsMax = 1024;
const bcryptCostMax = 14;
const argonMemoryKibMax = 256 * 1024;
const argonPassesMax = 20;
const argonLanesMax = 16;
const pbkdf2RoundsMax = 5_000_000;
const thread = new CryptThread();

const inThread: Reader = (hash) => (password) => thread.check(hash, password);
const bcrypt: Reader = (data) => {
  const cost = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/.exec(data)?.[1];
  return cost !== undefined && Number(cost) >= 4 && Number(cost) <= bcryptCostMax
    ? inThread(data)
    : undefined;
};
const shaCrypt: Reader = (data) => (isShaCrypt(data) ? inThread(data) : undefined);

const readers: Readonly<Record<string, Reader>> = {
  SHA: digest('sha1'),
  SHA256: digest('sha256'),
  SHA512: digest('sha512'),
  SSHA: digest('sha1'),
  SSHA256: digest('sha256'),
  SSHA512: digest('sha512'),
  'SHA256-CRYPT': shaCrypt,
  'SHA512-CRYPT': shaCrypt,
  'BLF-CRYPT': bcrypt,
  CRYPT: (data) => (data.startsWith('$2') ? bcrypt(data) : shaCrypt(data)),
  ARGON2I: argon,
  ARGON2ID: argon,
  PBKDF2: pbkdf2Reader,
  'SCRAM-SHA-256': (data) => {
    const stored = scramOf(data);
    return stored === undefined ? undefined : (password) => passwordFitsScram(stored, password);
  },
};

/** Schemes by how a bare hash begins. */
const bare: readonly (readonly [string, string])[] = [
  ['$6$', 'SHA512-CRYPT'],
  ['$5$', 'SHA256-CRYPT'],
  ['$2', 'BLF-CRYPT'],
  ['$argon2id$', 'ARGON2ID'],
  ['$argon2i$', 'ARGON2I'],
  ['$pbkdf2-', 'PBKDF2'],
];

/** @throws {Fault} `bad-argument`: not a hash, a scheme that is not read, or a cost beyond bounds. */
export function readImportedHash(written: string): ImportedHash {
  const known = Object.keys(readers).join(', ');
  const text = written.trim();
  const named = /^\{([A-Za-z0-9.-]{1,32})\}(.*)$/.exec(text);
  const prefix = bare.find(([begin]) => text.startsWith(begin))?.[1];
  const scheme = named === null ? prefix : named[1]!.toUpperCase();
  if (scheme === undefined || text.length > textCharsMax)
    throw new Fault('bad-argument', `this is no password hash; write {SCHEME}HASH with one of ${known}`);
  if (/^(?:PLAIN|CLEARTEXT|CLEAR)/.test(scheme))
    throw new Fault('bad-argument', 'this is a password, no hash; give it with --password-stdin');
  const reader = Object.hasOwn(readers, scheme) ? readers[scheme] : undefined;
  if (reader === undefined) throw new Fault('bad-argument', `{${scheme}} is not read; known are ${known}`);
  const data = named === null ? text : named[2]!;
  if (reader(data) === undefined)
    throw new Fault('bad-argument', `this is no {${scheme}} hash, or one that costs too much to check`);
  return { scheme: 'imported', text: `{${scheme}}${data}` };
}

/** @throws {Fault} `busy` */
export async function checkImportedHash({ text }: ImportedHash, password: string): Promise<boolean> {
  const [, scheme = '', data = ''] = /^\{([^}]{1,32})\}(.*)$/.exec(text) ?? [];
  const check = Object.hasOwn(readers, scheme) ? readers[scheme]!(data) : undefined;
  return check !== undefined && (await check(password));
}

/** The SCRAM keys in an imported hash, if it is one of those. */
export function scramIn({ text }: ImportedHash): StoredScram | undefined {
  const prefix = '{SCRAM-SHA-256}';
  return text.startsWith(prefix) ? scramOf(text.slice(prefix.length)) : undefined;
}

/** `ITERATIONS,SALT,STORED,SERVER` */
function scramOf(data: string): StoredScram | undefined {
  const [iterations = '', salt = '', storedKey = '', serverKey = '', ...more] = data.split(',', 6);
  const stored = { iterations: Number(iterations), salt, storedKey, serverKey };
  return more.length === 0 && isStoredScram(stored) ? stored : undefined;
}

/** Base64 of the digest, then of the salt if there is one. Made to be fast: weak, and replaced all the sooner. */
function digest(algorithm: 'sha1' | 'sha256' | 'sha512'): Reader {
  const bytes = { sha1: 20, sha256: 32, sha512: 64 }[algorithm];
  return (data) => {
    const all = /^[A-Za-z0-9+/]{20,300}={0,2}$/.test(data) ? Buffer.from(data, 'base64') : Buffer.alloc(0);
    if (all.length < bytes || all.length > bytes + 64) return undefined;
    const expected = all.subarray(0, bytes);
    return async (password) =>
      timingSafeEqual(createHash(algorithm).update(password).update(all.subarray(bytes)).digest(), expected);
  };
}

/** `$argon2id$v=19$m=65536,t=3,p=1$SALT$HASH` */
function argon(data: string): Check | undefined {
  const found =
    /^\$(argon2id?)\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,172})$/.exec(
      data,
    );
  if (found === null) return undefined;
  const [memory, passes, parallelism] = [Number(found[2]), Number(found[3]), Number(found[4])];
  const nonce = Buffer.from(found[5]!, 'base64');
  const expected = Buffer.from(found[6]!, 'base64');
  const bounded =
    memory <= argonMemoryKibMax && memory >= 8 * parallelism && passes >= 1 && passes <= argonPassesMax;
  if (!bounded || parallelism < 1 || parallelism > argonLanesMax) return undefined;
  const algorithm = found[1] === 'argon2id' ? 'argon2id' : 'argon2i';
  return async (password) => {
    const parameters = { message: password, nonce, parallelism, tagLength: expected.length, memory, passes };
    return timingSafeEqual(await hashInTurn((done) => argon2(algorithm, parameters, done)), expected);
  };
}

/** Dovecot's `$1$SALT$ROUNDS$HEX` (SHA-1), and `$pbkdf2-sha256$ROUNDS$SALT$HASH` in base64 with `.` for `+`. */
function pbkdf2Reader(data: string): Check | undefined {
  const dovecot = /^\$1\$([^$]{1,64})\$(\d{1,7})\$([0-9a-fA-F]{40})$/.exec(data);
  const other =
    /^\$pbkdf2-(sha1|sha256|sha512)\$(\d{1,7})\$([A-Za-z0-9./]{1,88})\$([A-Za-z0-9./]{20,88})$/.exec(data);
  const rounds = Number(dovecot?.[2] ?? other?.[2]);
  if (!(rounds >= 1 && rounds <= pbkdf2RoundsMax)) return undefined;
  const decoded = (text: string): Buffer => Buffer.from(text.replaceAll('.', '+'), 'base64');
  const salt = dovecot ? Buffer.from(dovecot[1]!) : decoded(other![3]!);
  const expected = dovecot ? Buffer.from(dovecot[3]!, 'hex') : decoded(other![4]!);
  const algorithm = dovecot ? 'sha1' : other![1]!;
  return async (password) =>
    timingSafeEqual(
      await hashInTurn((done) => pbkdf2(password, salt, rounds, expected.length, algorithm, done)),
      expected,
    );
}
