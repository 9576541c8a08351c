/** The supervisor's part in a cluster of several machines: this machine's membership, certificates, and the desk. */
import { Fault } from '../base/fault.ts';
import type { DataLayout } from '../base/layout.ts';
import type { Log } from '../base/log.ts';
import { readIfThere } from '../certs/authority.ts';
import { certFilesOf } from '../certs/files.ts';
import { type LinkMachine, linkMachine } from '../cluster-protocol/connect-member.ts';
import { openMachine, readMachineFile } from '../cluster-protocol/machine-context.ts';
import type { MachineSettings } from '../cluster-protocol/machine-settings.ts';
import { needMachine, notInCluster } from '../cluster-protocol/machines.ts';
import { clusterOnceAnswering } from '../cluster-protocol/registry/connect-registry.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { CertificateDesk } from './certificate-desk.ts';
import type { Certificates } from './certificates.ts';
import { type ClusterRecord, checkRoot } from './cluster-record.ts';
import { openMachineCertificates } from './machine-certificates.ts';

export interface SupervisedMachine {
  readonly link: LinkMachine;
  /** It has the key of the CA. */
  readonly signs: boolean;
  close(): void;
}

export interface OpenedCluster {
  readonly cluster: ClusterRecord & { readonly isNew: boolean };
  readonly certificates: Certificates;
  readonly machine: SupervisedMachine | undefined;
}

/**
 * @param options.storageRoot  Where this machine has backends.
 * @param options.waiting      One line for the admin while etcd does not answer.
 * @param options.left         This machine was taken out of the cluster: it has to stop.
 * @throws {Fault} `bad-config`, `wrong-root`, `registry-failed`
 */
export async function openMachineCluster(options: {
  registry: Registry;
  layout: DataLayout;
  settings: MachineSettings;
  hostname: string;
  storageRoot: string | undefined;
  log: Log;
  waiting(line: string): void;
  left(fault: Fault): void;
}): Promise<OpenedCluster> {
  const { registry, layout, settings, log } = options;
  const endpoints = settings['cluster.etcd_endpoints'].join(', ');
  const text = await clusterOnceAnswering(registry, (error, forMs) => {
    log.warn({ error: error.message, forMs: Math.round(forMs) }, 'waiting for the registry');
    options.waiting(`waiting for etcd at ${endpoints}: ${error.message}`);
  });
  if (text === undefined)
    throw new Fault(
      'bad-config',
      `etcd has no cluster under "${settings['cluster.etcd_prefix']}"; make one with "postern cluster init", or correct cluster.etcd_prefix`,
    );
  const cluster = JSON.parse(text) as ClusterRecord;
  if (options.storageRoot !== undefined) await checkRoot(options.storageRoot, cluster);
  const identity = await readMachineFile(layout);
  if (identity !== undefined && identity.cluster === cluster.id) await needMachine(registry, identity);
  // Before the machine's certificate is opened: one that ran out while this machine was off is made anew here.
  const certificates =
    identity === undefined
      ? undefined
      : await openMachineCertificates({
          ...{ registry, identity, log, hostname: options.hostname },
          directory: layout.certs,
          lifeMs: settings['cluster.certificate_life'],
          nowMs: Date.now,
        });
  const context = await openMachine(registry, layout, settings['cluster.machine'], cluster.id, log);
  const end = new AbortController();
  const signs = (await readIfThere(certFilesOf(layout.certs).authorityKey)) !== undefined;
  if (certificates?.authority !== undefined) {
    new CertificateDesk(
      {
        ...{ registry, log, authority: certificates.authority, cluster: cluster.id },
        lifeMs: settings['cluster.certificate_life'],
        nowMs: Date.now,
      },
      end.signal,
    );
  }
  await noteSigner(registry, context.identity, signs, log);
  context.machines.onChange(() => {
    const { machine, id } = context.identity;
    if (!context.machines.has(machine, id)) options.left(notInCluster(context.identity));
  });
  return {
    cluster: { ...cluster, isNew: false },
    certificates: certificates!,
    machine: {
      link: linkMachine(context, cluster.id),
      signs,
      close() {
        end.abort();
        certificates?.close();
        context.close();
      },
    },
  };
}

/** The key of the CA was copied to this machine, or taken from it: others should know. */
async function noteSigner(
  registry: Registry,
  identity: Parameters<typeof needMachine>[1],
  signs: boolean,
  log: Log,
): Promise<void> {
  const key = registryKey.machine(identity.machine);
  const entry = await registry.get(key);
  const record = await needMachine(registry, identity);
  if (entry === undefined || record.signer === signs) return;
  await registry.transact(
    [{ key, is: 'at', revision: entry.revision }],
    [{ put: key, value: JSON.stringify({ ...record, signer: signs }) }],
  );
  log.info({ machine: identity.machine, signs }, 'key of the CA');
}
