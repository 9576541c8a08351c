/** The registry as the supervisor holds it: run by itself on a single machine, elsewhere etcd and a lock of its own. */

import { connectRegistry } from '../cluster-protocol/registry/connect-registry.ts';
import { openEmbeddedRegistry } from '../cluster-protocol/registry/embedded-server.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import type { Configuration } from './configuration.ts';
import { DataLock } from './data-lock.ts';

export interface SupervisorRegistry {
  readonly registry: Registry;
  close(): Promise<void>;
}

/**
 * Nobody else runs on this data directory afterwards.
 * @throws {Fault} `already-running`, `cannot-write`, `storage-damaged`, `bad-config`
 */
export async function openSupervisorRegistry({
  layout,
  machine,
  configDir,
}: Configuration): Promise<SupervisorRegistry> {
  if (machine['cluster.registry'] === 'embedded')
    return openEmbeddedRegistry(layout.registryFile, layout.registrySocket);
  const lock = new DataLock(layout.lockFile);
  try {
    const registry = await connectRegistry({ settings: machine, configDir, socket: layout.registrySocket });
    return {
      registry,
      async close() {
        await registry.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}
