/** This machine as its members know it, where a cluster has several: who it is, who else is in, its certificate. */
import { readFile } from 'node:fs/promises';
import { errnoOf, Fault } from '../base/fault.ts';
import type { DataLayout } from '../base/layout.ts';
import type { Log } from '../base/log.ts';
import { certFilesOf } from '../certs/files.ts';
import { MachineCertificate } from '../certs/machine-certificate.ts';
import { type MachineIdentity, Machines, needMachine } from './machines.ts';
import type { Registry } from './registry.ts';

export interface MachineContext {
  readonly identity: MachineIdentity;
  readonly machines: Machines;
  readonly certificate: MachineCertificate;
  close(): void;
}

/**
 * @param machine  `cluster.machine` of the settings.
 * @param cluster  Id of the cluster, from the registry.
 * @throws {Fault} `bad-config`: it has not joined this cluster, or has left. `registry-failed`.
 */
export async function openMachine(
  registry: Registry,
  layout: DataLayout,
  machine: string,
  cluster: string,
  log: Log,
): Promise<MachineContext> {
  const identity = await readMachineFile(layout);
  if (identity === undefined)
    throw new Fault(
      'bad-config',
      `${layout.data}: this machine is in no cluster yet; "postern cluster init" makes one, "postern cluster join" joins one`,
    );
  if (identity.machine !== machine)
    throw new Fault(
      'bad-config',
      `cluster.machine is "${machine}", but ${layout.machineFile} says that this is ${identity.machine}; correct the setting or --data`,
    );
  if (identity.cluster !== cluster)
    throw new Fault(
      'bad-config',
      `${layout.machineFile} is of cluster ${identity.cluster}, the registry of ${cluster}; correct cluster.etcd_endpoints, cluster.etcd_prefix or --data`,
    );
  await needMachine(registry, identity);
  const end = new AbortController();
  const certificate = await MachineCertificate.open(certFilesOf(layout.certs), log);
  const machines = new Machines(registry, log, end.signal);
  await machines.listed();
  return {
    identity,
    machines,
    certificate,
    close() {
      end.abort();
      certificate.close();
    },
  };
}

/** @returns `undefined` when there is none. @throws {Fault} `bad-config` when it cannot be read. */
export async function readMachineFile(layout: DataLayout): Promise<MachineIdentity | undefined> {
  let text: string;
  try {
    text = await readFile(layout.machineFile, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new Fault(
      'bad-config',
      `${layout.machineFile}: cannot be read (${errnoOf(error)}); mend its permissions`,
      {
        cause: error,
      },
    );
  }
  try {
    const { cluster, machine, id } = JSON.parse(text) as Partial<MachineIdentity>;
    if (typeof cluster === 'string' && typeof machine === 'string' && typeof id === 'string')
      return { cluster, machine, id };
  } catch {
    // said below
  }
  throw new Fault('bad-config', `${layout.machineFile}: damaged; restore it, or have the machine join again`);
}
