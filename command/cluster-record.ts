/**
 * Which cluster a data directory and a storage root belong to. Both carry the
 * cluster's id, and both must agree: an unmounted NFS directory is an empty
 * directory, and an empty directory must never look like a new mailbox store.
 */
import { randomUUID } from 'node:crypto';
import { access, mkdir, readFile, unlink } from 'node:fs/promises';
import path from 'node:path';
import { syncDirectory, writeDurably } from '../base/durable-file.ts';
import { errnoOf, Fault } from '../base/fault.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';

export interface ClusterRecord {
  readonly id: string;
  readonly shardCount: number;
  readonly format: 1;
}

/** The file in the storage root that names its cluster. */
export const clusterFileOf = (root: string): string => path.join(root, 'cluster.json');

/**
 * Opens the cluster of this data directory; makes it on the first start. The id is written down in the data
 * directory first, then in the root, then in the registry: a first start that was cut short goes on where it was.
 *
 * @param options.data        Data directory, absolute, existing.
 * @param options.root        Storage root, absolute.
 * @param options.shardCount  For a new cluster.
 * @throws {Fault} `wrong-root`, `cannot-write`
 */
export async function openCluster(options: {
  registry: Registry;
  data: string;
  root: string;
  shardCount: number;
  /** The id of a new cluster, where it is settled already. */
  id?: string;
}): Promise<ClusterRecord & { readonly isNew: boolean }> {
  const { registry, data, root } = options;
  const known = await registry.get(registryKey.cluster);
  if (known !== undefined) {
    const record = JSON.parse(known.value) as ClusterRecord;
    await checkRoot(root, record);
    return { ...record, isNew: false };
  }
  const draftFile = path.join(data, 'new-cluster.json');
  const draft = await readRecord(draftFile);
  const record: ClusterRecord = draft ?? {
    id: options.id ?? randomUUID(),
    shardCount: options.shardCount,
    format: 1,
  };
  const text = `${JSON.stringify(record)}\n`;
  const there = await readRecord(clusterFileOf(root));
  if (there !== undefined && there.id !== record.id)
    throw new Fault(
      'wrong-root',
      `${root}: this storage belongs to cluster ${there.id}, and ${data} is a new data directory; start with that cluster's data directory (--data), or set storage.root to an empty directory`,
    );
  await writing(data, () => writeDurably(draftFile, text));
  if (there === undefined) {
    if (await exists(path.join(root, 'domains')))
      throw new Fault(
        'wrong-root',
        `${clusterFileOf(root)}: missing, though there are accounts beside it; restore it, or set storage.root to an empty directory`,
      );
    await writing(root, async () => {
      await mkdir(root, { recursive: true, mode: 0o700 });
      await writeDurably(clusterFileOf(root), text);
      await syncDirectory(path.dirname(root));
    });
  }
  await registry.transact(
    [{ key: registryKey.cluster, is: 'absent' }],
    [{ put: registryKey.cluster, value: JSON.stringify(record) }],
  );
  await unlink(draftFile).catch(() => {});
  return { ...record, isNew: true };
}

/** @throws {Fault} `wrong-root` */
export async function checkRoot(root: string, record: ClusterRecord): Promise<void> {
  const file = clusterFileOf(root);
  const there = await readRecord(file);
  if (there === undefined)
    throw new Fault(
      'wrong-root',
      `${file}: missing, so this is not the storage of cluster ${record.id}; mount it, or correct storage.root`,
    );
  if (there.id !== record.id)
    throw new Fault(
      'wrong-root',
      `${root}: this storage belongs to cluster ${there.id}, not ${record.id}; mount the right one, or correct storage.root or --data`,
    );
}

/** The record in a file; `undefined` when there is none. @throws {Fault} `wrong-root` */
export async function readRecord(file: string): Promise<ClusterRecord | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new Fault('wrong-root', `${file}: cannot be read (${errnoOf(error)}); mend path and permissions`, {
      cause: error,
    });
  }
  try {
    const record = JSON.parse(text) as Partial<ClusterRecord>;
    if (typeof record.id === 'string' && typeof record.shardCount === 'number' && record.format === 1)
      return record as ClusterRecord;
  } catch {
    // said below
  }
  throw new Fault('wrong-root', `${file}: this names no cluster of format 1; restore it from a backup`);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** @throws {Fault} `cannot-write` with the place, when `work` meets an error of the file system. */
export async function writing<T>(place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Fault || errnoOf(error) === '') throw error;
    throw new Fault(
      'cannot-write',
      `${place}: cannot be written (${errnoOf(error)}); mend its owner, permissions or free space, or choose another directory`,
      { cause: error },
    );
  }
}
