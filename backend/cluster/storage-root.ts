/**
 * Is the storage root the one of this cluster? An unmounted network file system
 * is an empty directory: a backend that took it for the storage would tell every
 * user that all mail is gone, and store new mail where nobody will find it.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import { shardCountMax } from '../../cluster-protocol/shard-map.ts';

/** `cluster.json` in the storage root, and the registry's value under `cluster`. */
export interface ClusterRecord {
  readonly id: string;
  readonly shardCount: number;
  readonly format: number;
}

/** Format of the storage root this backend reads and writes. */
export const storageFormat = 1;

/** @throws {Fault} `peer-protocol` */
export function readClusterRecord(text: string, place: string): ClusterRecord {
  try {
    const raw = JSON.parse(text) as ClusterRecord;
    const good =
      typeof raw.id === 'string' &&
      raw.id !== '' &&
      Number.isSafeInteger(raw.shardCount) &&
      raw.shardCount >= 1 &&
      raw.shardCount <= shardCountMax &&
      Number.isSafeInteger(raw.format);
    if (good) return { id: raw.id, shardCount: raw.shardCount, format: raw.format };
  } catch {
    // Falls through: not JSON.
  }
  throw new Fault('peer-protocol', `${place} is damaged`);
}

/**
 * @throws {Fault} `wrong-root`: no or another cluster's root, or a format this backend does not know: an admin has to look.
 * @throws {Fault} `storage-failed`: the storage does not answer: it may be well later.
 */
export async function checkStorageRoot(root: string, cluster: ClusterRecord): Promise<void> {
  const file = path.join(root, 'cluster.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR')
      throw new Fault('wrong-root', `${file} is not there: mount the storage, or correct storage.root`, {
        cause: error,
      });
    throw new Fault('storage-failed', `${file} cannot be read (${errnoOf(error)})`, { cause: error });
  }
  let found: ClusterRecord;
  try {
    found = readClusterRecord(text, file);
  } catch (error) {
    throw new Fault('wrong-root', `${file} is damaged: restore it from a backup`, { cause: error });
  }
  if (found.id !== cluster.id)
    throw new Fault(
      'wrong-root',
      `${file} belongs to cluster ${found.id}, this one is ${cluster.id}: correct storage.root or --data`,
    );
  if (found.shardCount !== cluster.shardCount || found.format !== storageFormat)
    throw new Fault(
      'wrong-root',
      `${file} has format ${found.format} with ${found.shardCount} shards; this postern needs format ${storageFormat} with ${cluster.shardCount}`,
    );
}
