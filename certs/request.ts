/**
 * How a machine gets certificates without its keys ever leaving it: it makes the
 * keys, sends a signed request through the registry, and one that has the key
 * of the CA answers. Nothing here is secret on the way; what a token or a present
 * certificate has not signed is refused.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import { Fault } from '../base/fault.ts';
import type { Authority } from './authority.ts';
import { machineHost, machineUrn, signLeaf } from './leaf.ts';

/** Longest request or answer, in bytes. */
export const requestBytesMax = 32 * 1024;
const edgeNamesMax = 20;

/** What is asked for. Keys are SubjectPublicKeyInfo, base64 of DER. */
export interface RequestBody {
  readonly cluster: string;
  readonly machine: string;
  readonly machineId: string;
  readonly machineKey: string;
  readonly edgeKey: string;
  readonly edgeNames: readonly string[];
  /** The token it joins with; absent when a machine that is in renews its certificates. */
  readonly token?: string;
}

export interface CertificateRequest {
  readonly body: RequestBody;
  /** The body as it was signed. */
  readonly text: string;
  /** By the new machine key: whoever asks has it. */
  readonly possession: Buffer;
  /** By the token's key, or by the key of the certificate the machine has now. */
  readonly warrant: Buffer;
  /** The certificate the machine has now, PEM. */
  readonly certificate: string | undefined;
}

export type CertificateAnswer =
  | { readonly machine: string; readonly edge: string; readonly ca: string }
  | { readonly refused: string };

/** @param warrantKey  The token's key, or the present machine key. */
export function signRequest(
  body: RequestBody,
  machineKey: KeyObject,
  warrantKey: KeyObject,
  certificate?: string,
): string {
  const text = JSON.stringify(body);
  return JSON.stringify({
    text,
    possession: sign(digestOf(machineKey), Buffer.from(text), machineKey).toString('base64'),
    warrant: sign(digestOf(warrantKey), Buffer.from(text), warrantKey).toString('base64'),
    ...(certificate === undefined ? {} : { certificate }),
  });
}

/** Checks the form and the proof that the asker has the key. @throws {Fault} `peer-protocol` */
export function readRequest(raw: string): CertificateRequest {
  try {
    if (raw.length > requestBytesMax) throw new Error('too long');
    const { text, possession, warrant, certificate } = JSON.parse(raw) as Record<string, unknown>;
    const body = JSON.parse(String(text)) as RequestBody;
    const good =
      /^[0-9a-f-]{1,64}$/.test(body.cluster) &&
      /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/.test(body.machine) &&
      /^[0-9a-f]{32}$/.test(body.machineId) &&
      Array.isArray(body.edgeNames) &&
      body.edgeNames.length <= edgeNamesMax &&
      body.edgeNames.every(isEdgeName) &&
      (body.token === undefined || /^[0-9a-f]{32}$/.test(body.token));
    const machineKey = publicKeyOf(body.machineKey);
    publicKeyOf(body.edgeKey);
    const request: CertificateRequest = {
      body,
      text: String(text),
      possession: Buffer.from(String(possession), 'base64'),
      warrant: Buffer.from(String(warrant), 'base64'),
      certificate: typeof certificate === 'string' ? certificate : undefined,
    };
    if (good && verify('sha256', Buffer.from(request.text), machineKey, request.possession)) return request;
  } catch {
    // said below
  }
  throw new Fault('peer-protocol', 'a request for certificates is malformed');
}

/** A public name or an address; never one that only a machine's own certificate may have. */
function isEdgeName(name: unknown): boolean {
  if (typeof name !== 'string') return false;
  return isIP(name) !== 0 || (/^[A-Za-z0-9.*-]{1,253}$/.test(name) && !/\.internal\.?$/i.test(name));
}

/** Has the owner of this key signed the request? */
export function isWarranted(request: CertificateRequest, key: KeyObject): boolean {
  return verify(digestOf(key), Buffer.from(request.text), key, request.warrant);
}

/** The key of the certificate that comes with a renewal, when it is the machine's own and good now. */
export function renewalKey(
  request: CertificateRequest,
  authority: Authority,
  nowMs: number,
): KeyObject | undefined {
  const { body, certificate } = request;
  if (certificate === undefined) return undefined;
  try {
    const own = new X509Certificate(certificate);
    const good =
      own.checkIssued(authority.certificate) &&
      own.verify(authority.certificate.publicKey) &&
      nowMs <= Date.parse(own.validTo) &&
      (own.subjectAltName ?? '').includes(machineUrn(body.cluster, body.machine, body.machineId));
    return good ? own.publicKey : undefined;
  } catch {
    return undefined;
  }
}

/** The certificates that were asked for. Whether they may be given is the caller's to know. */
export async function issue(
  { body }: CertificateRequest,
  authority: Authority,
  lifeMs: number,
  nowMs: number,
): Promise<Extract<CertificateAnswer, { machine: string }>> {
  const names = [
    machineHost(body.machine, body.cluster),
    machineUrn(body.cluster, body.machine, body.machineId),
  ];
  const [machine, edge] = await Promise.all([
    signLeaf({ use: 'member', names, lifeMs }, publicKeyOf(body.machineKey), authority, body.cluster, nowMs),
    signLeaf(
      { use: 'server', names: body.edgeNames, lifeMs },
      publicKeyOf(body.edgeKey),
      authority,
      body.cluster,
      nowMs,
    ),
  ]);
  return { machine, edge, ca: authority.pem };
}

/** What a token says: where to, who signs there, and the key that makes one request. */
export interface JoinToken {
  readonly cluster: string;
  /** 32 hex digits: the token's name in the registry. */
  readonly id: string;
  /** SHA-256 of the CA's public key. */
  readonly pin: string;
  readonly key: KeyObject;
}

/** `join/<id>` in the registry. The CA has signed it: whoever can write to the registry cannot make one. */
export interface TokenRecord {
  readonly publicKey: string;
  readonly expiresMs: number;
  readonly signature: string;
}

const tokenWord = 'postern-join-1.';

export function newToken(
  cluster: string,
  authority: Authority,
  expiresMs: number,
): { token: string; id: string; record: TokenRecord } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const id = randomBytes(16).toString('hex');
  const encoded = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  const facts = JSON.stringify({
    c: cluster,
    t: id,
    p: pinOf(authority.certificate),
    k: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
  });
  const signature = sign('sha256', tokenFacts(cluster, id, encoded, expiresMs), authority.key);
  return {
    token: tokenWord + Buffer.from(facts).toString('base64url'),
    id,
    record: { publicKey: encoded, expiresMs, signature: signature.toString('base64') },
  };
}

/** @throws {Fault} `bad-argument` */
export function readToken(text: string): JoinToken {
  try {
    const word = text.trim();
    if (!word.startsWith(tokenWord) || word.length > 2048) throw new Error('no token');
    const raw = JSON.parse(Buffer.from(word.slice(tokenWord.length), 'base64url').toString()) as Record<
      'c' | 't' | 'p' | 'k',
      string
    >;
    const key = createPrivateKey({ key: Buffer.from(raw.k, 'base64url'), type: 'pkcs8', format: 'der' });
    if (key.asymmetricKeyType === 'ed25519' && /^[0-9a-f]{32}$/.test(raw.t) && /^[0-9a-f]{64}$/.test(raw.p))
      return { cluster: String(raw.c), id: raw.t, pin: raw.p, key };
  } catch {
    // said below
  }
  throw new Fault(
    'bad-argument',
    'this is no join token; make one with "postern cluster token" on a machine that is in',
  );
}

/** The key a token's request has to be signed with. @returns `undefined`: not of this CA, or expired. */
export function tokenKey(
  cluster: string,
  id: string,
  recordText: string,
  authority: Authority,
  nowMs: number,
): KeyObject | undefined {
  try {
    const { publicKey, expiresMs, signature } = JSON.parse(recordText) as TokenRecord;
    const facts = tokenFacts(cluster, id, publicKey, expiresMs);
    const signed = verify('sha256', facts, authority.certificate.publicKey, Buffer.from(signature, 'base64'));
    return signed && nowMs < expiresMs ? publicKeyOf(publicKey) : undefined;
  } catch {
    return undefined;
  }
}

/** SHA-256 of the public key, hex: stays the same when the CA's certificate is signed anew. */
export function pinOf(certificate: X509Certificate): string {
  return createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

/**
 * Are these the certificates that were asked for, by the CA that is known? @throws {Fault} `peer-protocol`
 * @param pin  `pinOf` the CA.
 */
export function checkAnswer(
  answer: Extract<CertificateAnswer, { machine: string }>,
  pin: string,
  body: RequestBody,
): void {
  try {
    const ca = new X509Certificate(answer.ca);
    const fits = (pem: string, key: string): boolean => {
      const certificate = new X509Certificate(pem);
      return (
        certificate.verify(ca.publicKey) &&
        certificate.publicKey.export({ type: 'spki', format: 'der' }).toString('base64') === key
      );
    };
    if (pinOf(ca) === pin && fits(answer.machine, body.machineKey) && fits(answer.edge, body.edgeKey)) return;
  } catch {
    // said below
  }
  throw new Fault('peer-protocol', 'the certificates that came back are not of the CA the token names');
}

/** SubjectPublicKeyInfo as it stands in a request. */
export function encodeKey(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
}

function publicKeyOf(encoded: string): KeyObject {
  return createPublicKey({ key: Buffer.from(encoded, 'base64'), type: 'spki', format: 'der' });
}

/** Ed25519 hashes by itself. */
function digestOf(key: KeyObject): 'sha256' | null {
  return key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
}

function tokenFacts(cluster: string, id: string, publicKey: string, expiresMs: number): Buffer {
  return Buffer.from(JSON.stringify(['postern-join', cluster, id, publicKey, expiresMs]));
}
