/**
 * The messages of SCRAM-SHA-256 (RFC 5802, RFC 7677) and what is computed from
 * them. No I/O and no chance: the gateway reads and writes the messages, the
 * owner of the account has the keys and checks the proof.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { Fault } from '../base/fault.ts';

/** RFC 7677 4: no fewer. */
export const iterationsMin = 4096;
/** What a stored or imported record may ask of a client. */
export const iterationsMax = 1_000_000;
const keyBytes = 32;
/** Bounds of what a client may send; a nonce is some 24 characters, a name at most 254 octets, each escaped as three. */
const messageCharsMax = 2048;
const nonceCharsMax = 256;

/** What the client says about binding the login to the TLS connection (RFC 5802 6). */
export type BindingFlag =
  | { readonly kind: 'unsupported' }
  /** It could, and believes that the server cannot. */
  | { readonly kind: 'unused' }
  | { readonly kind: 'used'; readonly type: string };

export interface ClientFirst {
  /** `n,,`: goes into the channel binding of the client's last message. */
  readonly gs2Header: string;
  readonly binding: BindingFlag;
  /** Empty when there is none. */
  readonly authzid: string;
  readonly user: string;
  readonly nonce: string;
  /** The message without the GS2 header. */
  readonly bare: string;
}

export interface ClientFinal {
  /** GS2 header and channel-binding data. */
  readonly binding: Buffer;
  readonly nonce: string;
  readonly withoutProof: string;
  readonly proof: Buffer;
}

/** What a server keeps of a password. */
export interface ScramKeys {
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** @throws {Fault} `bad-syntax` */
export function parseClientFirst(text: string): ClientFirst {
  const found = /^(n|y|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,\0]{1,1024}))?,(.*)$/su.exec(limited(text));
  if (found === null) throw bad();
  const [, flag = '', type, authzid, bare = ''] = found;
  // `m=` would be an extension that must be understood (RFC 5802 5.1); there is none.
  const fields = /^n=([^,\0]{1,1024}),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]*)*$/u.exec(bare);
  const nonce = fields?.[2] ?? '';
  if (fields === null || nonce.length > nonceCharsMax) throw bad();
  return {
    gs2Header: text.slice(0, text.length - bare.length),
    binding: type !== undefined ? { kind: 'used', type } : { kind: flag === 'y' ? 'unused' : 'unsupported' },
    authzid: authzid === undefined ? '' : saslName(authzid),
    user: saslName(fields[1]!),
    nonce,
    bare,
  };
}

/** @throws {Fault} `bad-syntax` */
export function parseClientFinal(text: string): ClientFinal {
  const found =
    /^(c=([A-Za-z0-9+/]+={0,2}),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]*)*),p=([A-Za-z0-9+/]{43}=)$/u.exec(
      limited(text),
    );
  if (found === null) throw bad();
  return {
    binding: Buffer.from(found[2]!, 'base64'),
    nonce: found[3]!,
    withoutProof: found[1]!,
    proof: Buffer.from(found[4]!, 'base64'),
  };
}

/** @param serverNonce  Printable, without comma; of 18 random bytes or more. */
export function serverFirst(
  first: ClientFirst,
  serverNonce: string,
  { salt, iterations }: { readonly salt: Buffer; readonly iterations: number },
): string {
  return `r=${first.nonce}${serverNonce},s=${salt.toString('base64')},i=${iterations}`;
}

/** What client and server sign (RFC 5802 3). */
export function authMessage(first: ClientFirst, serverFirstText: string, final: ClientFinal): string {
  return `${first.bare},${serverFirstText},${final.withoutProof}`;
}

/** @param saltedPassword  PBKDF2 with HMAC-SHA-256 of the prepared password, 32 bytes. */
export function scramKeys(saltedPassword: Buffer): ScramKeys {
  return {
    storedKey: sha256(hmac(saltedPassword, 'Client Key')),
    serverKey: hmac(saltedPassword, 'Server Key'),
  };
}

/** @returns The server's signature, which proves to the client that we know the keys; `undefined`: the proof is wrong. */
export function checkProof(keys: ScramKeys, signed: string, proof: Buffer): Buffer | undefined {
  if (proof.length !== keyBytes || keys.storedKey.length !== keyBytes) return undefined;
  const clientKey = hmac(keys.storedKey, signed);
  for (let index = 0; index < keyBytes; index++) clientKey[index]! ^= proof[index]!;
  return timingSafeEqual(sha256(clientKey), keys.storedKey) ? hmac(keys.serverKey, signed) : undefined;
}

function saslName(text: string): string {
  if (/=(?!2C|3D)/.test(text)) throw bad();
  return text.replaceAll('=2C', ',').replaceAll('=3D', '=');
}

function limited(text: string): string {
  if (text.length > messageCharsMax) throw bad();
  return text;
}

function bad(): Fault {
  return new Fault('bad-syntax', 'Bad SCRAM message');
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
