/**
 * SHA-crypt, `$5$` and `$6$`: the password hashes of Linux's shadow file and of
 * most mail servers (Drepper, "Unix crypt using SHA-256 and SHA-512", version
 * 0.4). Slow on purpose and synchronous: it runs in the worker only.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

const roundsDefault = 5000;
const roundsMin = 1000;
/** The scheme allows 999,999,999, which would take minutes; what is found in the field is 5,000 to 656,000. */
export const shaCryptRoundsMax = 1_000_000;
const saltCharsMax = 16;
const digits = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** `$6$`, optional `rounds=N$`, salt, `$`, hash. */
const form = /^\$([56])\$(?:rounds=(\d{1,9})\$)?([^$:\n\0]{0,64})\$([./0-9A-Za-z]{43}|[./0-9A-Za-z]{86})$/;

/** Is it a hash of this kind that can be checked within bounds? */
export function isShaCrypt(text: string): boolean {
  const found = form.exec(text);
  if (found === null || found[4]!.length !== (found[1] === '6' ? 86 : 43)) return false;
  return Number(found[2] ?? roundsDefault) <= shaCryptRoundsMax;
}

export function checkShaCrypt(text: string, password: string): boolean {
  const found = form.exec(text);
  if (found === null || !isShaCrypt(text)) return false;
  const algorithm = found[1] === '6' ? 'sha512' : 'sha256';
  const rounds = Math.max(roundsMin, Number(found[2] ?? roundsDefault));
  const digest = shaCrypt(
    algorithm,
    Buffer.from(password),
    Buffer.from(found[3]!.slice(0, saltCharsMax)),
    rounds,
  );
  return timingSafeEqual(Buffer.from(encode(digest, algorithm)), Buffer.from(found[4]!));
}

/** Steps are numbered as in the specification. */
function shaCrypt(algorithm: string, key: Buffer, salt: Buffer, rounds: number): Buffer {
  const hash = (...parts: readonly Buffer[]): Buffer => {
    const state = createHash(algorithm);
    for (const part of parts) state.update(part);
    return state.digest();
  };
  // 4-8
  const b = hash(key, salt, key);
  // 1-3, 9-12
  const parts = [key, salt, repeated(b, key.length)];
  for (let bits = key.length; bits > 0; bits >>>= 1) parts.push(bits & 1 ? b : key);
  let a = hash(...parts);
  // 13-16
  const p = repeated(hash(...Array<Buffer>(key.length).fill(key)), key.length);
  // 17-20
  const s = repeated(hash(...Array<Buffer>(16 + a[0]!).fill(salt)), salt.length);
  // 21
  for (let round = 0; round < rounds; round++) {
    const state = createHash(algorithm).update(round & 1 ? p : a);
    if (round % 3 !== 0) state.update(s);
    if (round % 7 !== 0) state.update(p);
    a = state.update(round & 1 ? a : p).digest();
  }
  return a;
}

/** `bytes` again and again, cut at `length`. */
function repeated(bytes: Buffer, length: number): Buffer {
  return Buffer.alloc(length, bytes);
}

/** 22: three bytes of three thirds of the digest at a time, rotating, six bits per character, the lowest first. */
function encode(digest: Buffer, algorithm: string): string {
  const third = Math.floor(digest.length / 3);
  let text = '';
  const put = (high: number, middle: number, low: number, count: number): void => {
    let value = (high << 16) | (middle << 8) | low;
    for (let index = 0; index < count; index++) {
      text += digits[value & 63];
      value >>>= 6;
    }
  };
  for (let index = 0; index < third; index++) {
    // The order of the thirds turns one way for SHA-512, the other way for SHA-256.
    const turn = algorithm === 'sha512' ? index % 3 : (3 - (index % 3)) % 3;
    const [one, two, three] = [0, 1, 2].map((part) => digest[((part + turn) % 3) * third + index]!);
    put(one!, two!, three!, 4);
  }
  if (algorithm === 'sha512') put(0, 0, digest[63]!, 2);
  else put(0, digest[31]!, digest[30]!, 3);
  return text;
}
