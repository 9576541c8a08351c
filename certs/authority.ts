/**
 * The cluster's own CA: it signs what members show each other on links, and the
 * certificate gateways show until the admin brings a better one.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeDurably } from '../base/durable-file.ts';
import { errnoOf, Fault } from '../base/fault.ts';
import type { CertFiles } from './files.ts';

const dayMs = 86_400_000;
/** Clocks of clients are wrong by hours: what starts to be valid now is dated back. */
export const backdateMs = dayMs;
export const authorityLifeMs = 3653 * dayMs;
export const leafLifeMs = 365 * dayMs;
/** A certificate with less than this left is made anew. */
export const renewBeforeMs = 30 * dayMs;

export interface Authority {
  readonly certificate: X509Certificate;
  readonly pem: string;
  readonly key: KeyObject;
}

const organization = 'Postern';
export const authorityName = (clusterId: string) => ({ organization, commonName: `Postern CA ${clusterId}` });

/**
 * Opens the CA in the data directory; makes it on first use, and signs it anew with the same
 * key when it runs out soon, so that those who trust the key go on trusting it.
 *
 * @param nowMs  Wall clock.
 * @throws {Fault} `bad-config` when half of it is missing or its files do not fit together.
 */
export async function openAuthority(files: CertFiles, clusterId: string, nowMs: number): Promise<Authority> {
  const [pem, keyPem] = await Promise.all([readIfThere(files.authority), readIfThere(files.authorityKey)]);
  // A key alone is what a power cut between the two writes leaves: the certificate can be made from it.
  if (pem === undefined) return signAuthority(files, clusterId, nowMs, keyPem);
  if (keyPem === undefined)
    throw new Fault(
      'bad-config',
      `${files.authorityKey}: the key of the cluster's CA is missing; restore it, or remove ${path.dirname(files.authority)} to have all certificates made anew`,
    );
  const authority = parsePair(files.authority, pem, files.authorityKey, keyPem);
  if (Date.parse(authority.certificate.validTo) - nowMs < renewBeforeMs)
    return signAuthority(files, clusterId, nowMs, keyPem);
  return authority;
}

async function signAuthority(
  files: CertFiles,
  clusterId: string,
  nowMs: number,
  oldKeyPem: string | undefined,
): Promise<Authority> {
  const { buildCertificate } = await import('./x509.ts'); // node-forge is only loaded to make something
  await mkdir(path.dirname(files.authority), { recursive: true, mode: 0o700 });
  const { publicKey, privateKey } =
    oldKeyPem === undefined ? newKey() : keyFromPem(oldKeyPem, files.authorityKey);
  const subject = authorityName(clusterId);
  const pem = buildCertificate({
    subject,
    issuer: subject,
    publicKey,
    issuerPublicKey: publicKey,
    issuerPrivateKey: privateKey,
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: nowMs + authorityLifeMs,
    use: 'authority',
    names: [],
  });
  if (oldKeyPem === undefined) await writeDurably(files.authorityKey, keyToPem(privateKey), 0o600);
  await writeDurably(files.authority, pem);
  return { certificate: new X509Certificate(pem), pem, key: privateKey };
}

/** A new P-256 key pair: what every client takes, and far cheaper to sign with than RSA. */
export function newKey(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
}

export function keyToPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function keyFromPem(pem: string, file: string): { publicKey: KeyObject; privateKey: KeyObject } {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return { publicKey: key, privateKey: key };
  } catch {
    // said below, with the file's name
  }
  throw new Fault('bad-config', `${file}: this is not a P-256 private key; restore it from a backup`);
}

/** @throws {Fault} `bad-config` naming the file that does not parse or does not fit. */
export function parsePair(certFile: string, certPem: string, keyFile: string, keyPem: string): Authority {
  let certificate: X509Certificate;
  let key: KeyObject;
  try {
    certificate = new X509Certificate(certPem);
  } catch (cause) {
    throw new Fault('bad-config', `${certFile}: this is not a certificate in PEM form; restore it`, {
      cause,
    });
  }
  try {
    key = createPrivateKey(keyPem);
  } catch (cause) {
    throw new Fault('bad-config', `${keyFile}: this is not a private key in PEM form; restore it`, { cause });
  }
  if (!certificate.checkPrivateKey(key))
    throw new Fault('bad-config', `${keyFile}: this key does not belong to ${certFile}; restore the pair`);
  return { certificate, pem: certPem, key };
}

/** @returns The text of a file, `undefined` when there is none. @throws {Fault} `cannot-write` when it cannot be read. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new Fault(
      'cannot-write',
      `${file}: cannot be read (${errnoOf(error)}); mend its owner and permissions`,
      { cause: error },
    );
  }
}
