/** What every member begins with: the registry, once it answers, and this machine's place in the cluster. */
import { Fault } from '../base/fault.ts';
import type { DataLayout } from '../base/layout.ts';
import type { Log } from '../base/log.ts';
import { machineHost } from '../certs/leaf.ts';
import type { LinkPair } from '../certs/machine-certificate.ts';
import { openMachine } from './machine-context.ts';
import type { MachineSettings } from './machine-settings.ts';
import { clusterOnceAnswering, connectRegistry } from './registry/connect-registry.ts';
import type { Registry } from './registry.ts';

/** This machine on links to others. */
export interface LinkMachine {
  readonly machine: string;
  /** Another object after a renewal. */
  readonly pair: LinkPair;
  readonly hostOf: (machine: string) => string;
  readonly isMember: (subjectAltName: string) => boolean;
  readonly hasMachine: (machine: string) => boolean;
  onRenewal(listener: (pair: LinkPair) => void): void;
  /** A machine has joined or left. */
  onMachines(listener: () => void): void;
}

export interface ConnectedMember {
  readonly registry: Registry;
  /** The registry's cluster record; there before any member is started. */
  readonly clusterText: string | undefined;
  /** Only where the cluster has several machines. */
  readonly machine: LinkMachine | undefined;
}

/**
 * @param options.waiting  Called while the registry does not answer, about once in ten seconds.
 * @throws {Fault} `bad-config`, `registry-failed`
 */
export async function connectMember(options: {
  layout: DataLayout;
  settings: MachineSettings;
  configDir: string;
  log: Log;
  waiting(): void;
}): Promise<ConnectedMember> {
  const { layout, settings, configDir, log } = options;
  const registry = await connectRegistry({ settings, configDir, socket: layout.registrySocket });
  const clusterText = await clusterOnceAnswering(registry, (error, forMs) => {
    log.warn({ error: error.message, forMs: Math.round(forMs) }, 'waiting for the registry');
    options.waiting();
  });
  if (settings['cluster.registry'] === 'embedded') return { registry, clusterText, machine: undefined };
  if (clusterText === undefined)
    throw new Fault('bad-config', 'etcd has no cluster under cluster.etcd_prefix');
  const { id: cluster } = JSON.parse(clusterText) as { id: string };
  const machine = await openMachine(registry, layout, settings['cluster.machine'], cluster, log);
  return { registry, clusterText, machine: linkMachine(machine, cluster) };
}

export function linkMachine(
  { identity, machines, certificate }: Awaited<ReturnType<typeof openMachine>>,
  cluster: string,
): LinkMachine {
  return {
    machine: identity.machine,
    get pair() {
      return certificate.pair;
    },
    hostOf: (name) => machineHost(name, cluster),
    isMember: (names) => machines.speaksFor(names, cluster),
    hasMachine: (name) => machines.has(name),
    onRenewal: (listener) => certificate.onChange(listener),
    onMachines: (listener) => machines.onChange(listener),
  };
}
