/**
 * Certificates the cluster's CA signs: one per member for links, and one the
 * gateways show to clients while the admin has named no other.
 */
import { createPrivateKey, type KeyObject, randomUUID, X509Certificate } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { writeDurably } from '../base/durable-file.ts';
import {
  type Authority,
  authorityName,
  backdateMs,
  keyToPem,
  leafLifeMs,
  newKey,
  readIfThere,
  renewBeforeMs,
} from './authority.ts';
import type { CertFiles } from './files.ts';

export interface LeafRequest {
  readonly certificate: string;
  readonly key: string;
  readonly use: 'server' | 'member';
  /** The first one is the common name as well. */
  readonly names: readonly string[];
  /** Default `leafLifeMs`. Renewed when under a third of it, and under 30 days, is left. */
  readonly lifeMs?: number;
}

/** The DNS name a member answers to on a link; `.internal` is never delegated in the public DNS. */
export function memberHost(memberId: string, clusterId: string): string {
  return `${memberId}.${clusterId}.postern.internal`;
}

/** A member certificate: either end of a link, bound to member and cluster. */
export function memberLeaf(files: CertFiles, memberId: string, clusterId: string): LeafRequest {
  return {
    ...files.member(memberId),
    use: 'member',
    names: [memberHost(memberId, clusterId), `urn:postern:${clusterId}:${memberId}`],
  };
}

/** The DNS name the members of a machine answer to on links: a machine is known by its name, wherever it listens. */
export function machineHost(machine: string, clusterId: string): string {
  return `${machine}.${clusterId}.postern.internal`;
}

/** Names the machine and the one time it joined: a machine that left and joined again is another. */
export function machineUrn(clusterId: string, machine: string, machineId: string): string {
  return `urn:postern:${clusterId}:${machine}:${machineId}`;
}

/** The certificate all members of a machine show on links: either end, bound to machine and cluster. */
export function machineLeaf(
  files: CertFiles,
  clusterId: string,
  machine: string,
  machineId: string,
  lifeMs: number,
): LeafRequest {
  return {
    certificate: files.machine,
    key: files.machineKey,
    use: 'member',
    names: [machineHost(machine, clusterId), machineUrn(clusterId, machine, machineId)],
    lifeMs,
  };
}

/** Is there a good pair, of this CA, for these names, that does not run out soon? */
export async function hasGoodLeaf(
  request: LeafRequest,
  authority: Pick<Authority, 'certificate'>,
  nowMs: number,
): Promise<boolean> {
  const [pem, keyPem] = await Promise.all([readIfThere(request.certificate), readIfThere(request.key)]);
  return (
    pem !== undefined && keyPem !== undefined && isGood(pem, keyPem, request, authority.certificate, nowMs)
  );
}

/** Whoever reads between the two writes must not find a pair that does not fit: no certificate, then both. */
export async function writeLeaf(
  request: Pick<LeafRequest, 'certificate' | 'key'>,
  keyPem: string,
  chainPem: string,
): Promise<void> {
  await unlink(request.certificate).catch(() => {});
  await writeDurably(request.key, keyPem, 0o600);
  await writeDurably(request.certificate, chainPem);
}

/** What gateways show to clients: the greeting name, and what tests and first users connect to. */
export function edgeLeaf(files: CertFiles, hostname: string): LeafRequest {
  const names = new Set([hostname, 'localhost', 'postern.test', '*.postern.test', '127.0.0.1', '::1']);
  return {
    certificate: files.edge,
    key: files.edgeKey,
    use: 'server',
    names: [...names].filter((name) => name !== ''),
  };
}

/**
 * Makes the certificate when it is missing, damaged, of another CA, for other names, or runs out soon.
 * A renewal has a new key.
 *
 * @returns `made`, or `kept` when the one there is good.
 */
export async function ensureLeaf(
  request: LeafRequest,
  authority: Authority,
  clusterId: string,
  nowMs: number,
): Promise<'made' | 'kept'> {
  if (await hasGoodLeaf(request, authority, nowMs)) return 'kept';
  await makeLeaf(request, authority, clusterId, nowMs);
  return 'made';
}

/** Makes the certificate anew, whatever is there. */
export async function makeLeaf(
  request: LeafRequest,
  authority: Authority,
  clusterId: string,
  nowMs: number,
): Promise<void> {
  const { publicKey, privateKey } = newKey();
  const pem = await signLeaf(request, publicKey, authority, clusterId, nowMs);
  await writeLeaf(request, keyToPem(privateKey), pem + authority.pem);
}

/** @returns The certificate for a key that may be another machine's, PEM, without its chain. */
export async function signLeaf(
  request: Pick<LeafRequest, 'use' | 'names' | 'lifeMs'>,
  publicKey: KeyObject,
  authority: Authority,
  clusterId: string,
  nowMs: number,
): Promise<string> {
  const { buildCertificate } = await import('./x509.ts');
  const issuerEndMs = Date.parse(authority.certificate.validTo);
  return buildCertificate({
    subject: { organization: 'Postern', commonName: request.names[0] ?? randomUUID() },
    issuer: authorityName(clusterId),
    publicKey,
    issuerPublicKey: authority.certificate.publicKey,
    issuerPrivateKey: authority.key,
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: Math.min(nowMs + (request.lifeMs ?? leafLifeMs), issuerEndMs),
    use: request.use,
    names: request.names,
  });
}

function isGood(
  pem: string,
  keyPem: string,
  request: LeafRequest,
  issuer: X509Certificate,
  nowMs: number,
): boolean {
  try {
    const certificate = new X509Certificate(pem);
    const names = subjectAltNames(certificate);
    return (
      certificate.checkIssued(issuer) &&
      certificate.verify(issuer.publicKey) &&
      keyPem.includes('PRIVATE KEY') &&
      certificate.checkPrivateKey(createPrivateKey(keyPem)) &&
      Date.parse(certificate.validTo) - nowMs >=
        Math.min(renewBeforeMs, (request.lifeMs ?? leafLifeMs) / 3) &&
      Date.parse(certificate.validFrom) <= nowMs &&
      names.size === new Set(request.names).size &&
      request.names.every((name) => names.has(name))
    );
  } catch {
    return false; // damaged: made anew, it is only ours
  }
}

/** Names in the certificate, as `names` of a request spells them. */
export function subjectAltNames(certificate: X509Certificate): Set<string> {
  const names = (certificate.subjectAltName ?? '').split(', ').filter((name) => name !== '');
  return new Set(names.map((name) => canonicalIp(name.replace(/^(DNS|URI|IP Address):/, ''))));
}

/** OpenSSL prints `0:0:0:0:0:0:0:1`; requests say `::1`. */
function canonicalIp(text: string): string {
  return isIPv6(text) ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text;
}
