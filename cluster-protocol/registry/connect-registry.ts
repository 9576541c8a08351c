/** The registry the configuration names, as a member or a command connects to it. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { MachineSettings } from '../machine-settings.ts';
import { type Registry, registryKey } from '../registry.ts';
import { connectEmbeddedRegistry } from './embedded-client.ts';

const retryFirstMs = 100;
const retryMaxMs = 1000;

export interface RegistryAccess {
  readonly settings: MachineSettings;
  /** The supervisor's socket, for the embedded registry. */
  readonly socket: string;
  /** What relative paths of settings are relative to. */
  readonly configDir: string;
}

/** @throws {Fault} `bad-config`: a file that a setting names cannot be read. `registry-failed` (embedded only). */
export async function connectRegistry(access: RegistryAccess): Promise<Registry> {
  const { settings, configDir } = access;
  if (settings['cluster.registry'] === 'embedded') return connectEmbeddedRegistry(access.socket);
  const read = async (key: keyof MachineSettings & `cluster.etcd_${string}`): Promise<string | undefined> => {
    const name = settings[key] as string;
    if (name === '') return undefined;
    const file = path.resolve(configDir, name);
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      throw new Fault(
        'bad-config',
        `${key}: ${file} cannot be read (${errnoOf(error)}); mend path and permissions`,
        {
          cause: error,
        },
      );
    }
  };
  const [ca, certificate, key, password] = await Promise.all([
    read('cluster.etcd_ca'),
    read('cluster.etcd_certificate'),
    read('cluster.etcd_key'),
    read('cluster.etcd_password_file'),
  ]);
  // Loaded only where it is used: the library is large, and most clusters are one machine.
  const { connectEtcd } = await import('./etcd.ts');
  return connectEtcd({
    hosts: settings['cluster.etcd_endpoints'],
    prefix: settings['cluster.etcd_prefix'],
    ...(ca === undefined
      ? {}
      : { tls: { ca, ...(certificate === undefined || key === undefined ? {} : { certificate, key }) } }),
    ...(password === undefined
      ? {}
      : { login: { user: settings['cluster.etcd_user'], password: password.split(/\r?\n/, 1)[0]! } }),
  });
}

/**
 * Resolves with the cluster's record once the registry answers, however long that takes: a member that starts while
 * etcd is away waits here, and is ready within a second of its return.
 * @param waiting  Called at the first failure, and then about once in ten seconds.
 * @returns `undefined` when the registry answers and knows no cluster.
 */
export async function clusterOnceAnswering(
  registry: Registry,
  waiting: (error: Fault, forMs: number) => void,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const beganMs = performance.now();
  let saidMs = Number.NEGATIVE_INFINITY;
  for (let waitMs = retryFirstMs; ; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
    try {
      return (await registry.get(registryKey.cluster))?.value;
    } catch (error) {
      signal?.throwIfAborted();
      const nowMs = performance.now();
      if (nowMs - saidMs > 10_000) {
        saidMs = nowMs;
        waiting(Fault.from(error), nowMs - beganMs);
      }
    }
    await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
  }
}
