/** The certificates of this machine: made and renewed at start and by `postern cert`. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type Authority, openAuthority } from '../certs/authority.ts';
import { certFilesOf } from '../certs/files.ts';
import {
  edgeLeaf,
  ensureLeaf,
  type LeafRequest,
  makeLeaf,
  memberLeaf,
  subjectAltNames,
} from '../certs/leaf.ts';
import type { MemberId } from '../cluster-protocol/ids.ts';
import { writing } from './cluster-record.ts';

export interface CertificateSummary {
  /** `ca`, `edge` or a member id. */
  readonly name: string;
  readonly file: string;
  readonly subject: string;
  readonly names: readonly string[];
  readonly validFrom: string;
  readonly validTo: string;
  readonly fingerprint256: string;
}

export interface Certificates {
  list(): Promise<CertificateSummary[]>;
  /** Makes one leaf, or all, anew. @returns Names of those made. */
  renew(name: string | undefined): Promise<string[]>;
}

/**
 * Makes what is missing or runs out within 30 days.
 * @throws {Fault} `bad-config`, `cannot-write`
 */
export async function openCertificates(options: {
  directory: string;
  clusterId: string;
  hostname: string;
  members: readonly MemberId[];
  nowMs(): number;
}): Promise<Certificates> {
  const { clusterId, nowMs } = options;
  const files = certFilesOf(options.directory);
  const leaves = new Map<string, LeafRequest>([['edge', edgeLeaf(files, options.hostname)]]);
  for (const member of options.members) leaves.set(member, memberLeaf(files, member, clusterId));
  const authority: Authority = await writing(options.directory, async () => {
    const opened = await openAuthority(files, clusterId, nowMs());
    for (const leaf of leaves.values()) await ensureLeaf(leaf, opened, clusterId, nowMs());
    return opened;
  });
  return {
    async list() {
      const all = [{ name: 'ca', file: files.authority }];
      for (const [name, leaf] of leaves) all.push({ name, file: leaf.certificate });
      return Promise.all(all.map(async ({ name, file }) => summarize(name, file, await readFile(file))));
    },
    async renew(name) {
      const wanted = [...leaves].filter(([leaf]) => name === undefined || leaf === name);
      for (const [, leaf] of wanted)
        await writing(options.directory, () => makeLeaf(leaf, authority, clusterId, nowMs()));
      return wanted.map(([leaf]) => leaf);
    },
  };
}

export function summarize(name: string, file: string, pem: Buffer): CertificateSummary {
  const certificate = new X509Certificate(pem);
  return {
    name,
    file,
    subject: certificate.subject.replaceAll('\n', ', '),
    names: [...subjectAltNames(certificate)],
    validFrom: new Date(certificate.validFrom).toISOString(),
    validTo: new Date(certificate.validTo).toISOString(),
    fingerprint256: certificate.fingerprint256,
  };
}
