/** Names of the certificate files in a data directory, for those who make them and those who read them. */
import path from 'node:path';

export interface CertFiles {
  /** The cluster's own CA: PEM certificate. Clients may be told to trust it (`curl --cacert`). */
  readonly authority: string;
  readonly authorityKey: string;
  /** What gateways show to clients unless `tls.certificate` names another. */
  readonly edge: string;
  readonly edgeKey: string;
  /** What all members of this machine show on links to other machines: client and server in one. */
  readonly machine: string;
  readonly machineKey: string;
  /** What a member shows on links: client and server in one. */
  member(memberId: string): { readonly certificate: string; readonly key: string };
}

/** @param directory  `layoutOf(data).certs` */
export function certFilesOf(directory: string): CertFiles {
  return {
    authority: path.join(directory, 'ca.pem'),
    authorityKey: path.join(directory, 'ca.key'),
    edge: path.join(directory, 'edge.pem'),
    edgeKey: path.join(directory, 'edge.key'),
    machine: path.join(directory, 'machine.pem'),
    machineKey: path.join(directory, 'machine.key'),
    member: (memberId) => ({
      certificate: path.join(directory, `${memberId}.pem`),
      key: path.join(directory, `${memberId}.key`),
    }),
  };
}
