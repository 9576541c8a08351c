/**
 * What all gateways know of ACME through the registry: answers to challenges of
 * the moment, so that any of them can be asked by the authority, and the
 * certificates that were issued, so that all show the same.
 */
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import type { CertificatePair } from '../net/certificate-pair.ts';

/** Challenges are few and short-lived; more than this is none of ours. */
const challengesMax = 1000;
const certificatesMax = 1000;

export interface IssuedCertificate extends CertificatePair {
  /** As they were asked for. */
  readonly names: readonly string[];
}

export interface AcmeState {
  /** What the authority wants to read (RFC 8555 8.3); `undefined` for a token nobody knows. */
  keyAuthorization(token: string): string | undefined;
  issued(): readonly IssuedCertificate[];
}

/** @param changed  Called when other certificates are there. */
export function followAcme(
  registry: Registry,
  log: Log,
  signal: AbortSignal,
  changed: (pairs: readonly IssuedCertificate[]) => void,
): AcmeState {
  const challenges = new Map<string, string>();
  const certificates = new Map<string, IssuedCertificate>();
  const take = (key: string, value: string): boolean => {
    if (key.startsWith(registryKey.acmeChallengePrefix)) {
      if (challenges.size < challengesMax)
        challenges.set(key.slice(registryKey.acmeChallengePrefix.length), value);
      return false;
    }
    if (certificates.size >= certificatesMax && !certificates.has(key)) return false;
    try {
      certificates.set(key, decodeIssued(value));
    } catch (error) {
      log.error({ key, error: Fault.from(error).message }, 'an issued certificate cannot be read');
    }
    return true;
  };
  const tell = (): void => changed([...certificates.values()]);
  follow(
    registry,
    [registryKey.acmeChallengePrefix, registryKey.acmeCertificatePrefix],
    {
      reset(entries) {
        challenges.clear();
        certificates.clear();
        for (const { key, value } of entries) take(key, value);
        tell();
      },
      event({ kind, key, value }) {
        if (kind === 'put') {
          if (take(key, value)) tell();
          return;
        }
        challenges.delete(key.slice(registryKey.acmeChallengePrefix.length));
        if (certificates.delete(key)) tell();
      },
      trouble: (error) => log.warn({ err: error }, 'certificates in the registry cannot be read'),
    },
    signal,
  );
  return {
    keyAuthorization: (token) => challenges.get(token),
    issued: () => [...certificates.values()],
  };
}

export function encodeIssued(issued: IssuedCertificate): string {
  return JSON.stringify(issued);
}

/** @throws {Fault} `bad-syntax` */
export function decodeIssued(value: string): IssuedCertificate {
  const { names, cert, key } = JSON.parse(value) as Partial<IssuedCertificate>;
  if (!Array.isArray(names) || typeof cert !== 'string' || typeof key !== 'string')
    throw new Fault('bad-syntax', 'not a certificate that was issued');
  return { names, cert, key };
}
