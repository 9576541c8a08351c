/** A single machine becomes the first of several: what its own registry knew goes with it to etcd. */
import { access } from 'node:fs/promises';
import { EmbeddedStore } from '../cluster-protocol/registry/embedded-store.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';

/** What is made anew, or settled before this: the map's epochs begin later than any that was granted (see firstEpoch). */
const staysBehind: readonly string[] = [registryKey.cluster, registryKey.controller, registryKey.shardMap];
const prefixesBehind = [registryKey.memberPrefix, registryKey.releasedPrefix];
const pageCharsMax = 64 * 1024;

/**
 * Does nothing when there is no such registry. What `to` has already is left as it is.
 * @throws {Fault} `already-running`: Postern still runs on it.
 */
export async function copyEmbeddedRegistry(file: string, to: Registry): Promise<void> {
  const there = await access(file).then(
    () => true,
    () => false,
  );
  if (!there) return;
  const store = new EmbeddedStore(file, () => performance.now());
  try {
    for (let after = ''; ; ) {
      const { entries, more } = store.list('', after, pageCharsMax);
      for (const { key, value, lease } of entries) {
        after = key;
        if (lease !== undefined || staysBehind.includes(key)) continue;
        if (prefixesBehind.some((prefix) => key.startsWith(prefix))) continue;
        await to.transact([{ key, is: 'absent' }], [{ put: key, value }]);
      }
      if (!more) return;
    }
  } finally {
    store.close();
  }
}
