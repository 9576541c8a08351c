/**
 * Makes everything on a file system durable at once (syncfs(2), by way of
 * sync(1), because Node has no call for it): one transaction for thousands of
 * files in place of one each. Only where that is known to mean what fsync of
 * each file means, errors of earlier writes included.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { release } from 'node:os';
import { Fault } from '../../../base/fault.ts';

/**
 * `f_type` of statfs(2): ext2 to ext4, XFS, Btrfs. Not FUSE (GlusterFS): its kernel side does not ask the server to
 * sync. Not NFS: a client that loses its server in between is a thing nobody tested.
 */
const trusted: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e]);

/** Tells of errors of writes that failed before it was called: since Linux 5.8. */
const kernelMin = [5, 8] as const;

export async function hasBulkSync(directory: string): Promise<boolean> {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (process.platform !== 'linux' || major < kernelMin[0]) return false;
  if (major === kernelMin[0] && minor < kernelMin[1]) return false;
  return new Promise((resolve) =>
    fs.statfs(directory, (error, facts) => resolve(!error && trusted.has(facts.type))),
  );
}

/** @throws {Fault} `storage-failed`: something is not durable, or cannot be known to be */
export function bulkSync(directory: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown): void =>
      reject(new Fault('storage-failed', 'the storage could not be synced', { cause }));
    const child = spawn('sync', ['-f', directory], { stdio: 'ignore' });
    child.once('error', failed);
    child.once('exit', (code, signal) => {
      if (code === 0) resolve();
      else failed(new Error(`sync -f ended with ${signal ?? code}`));
    });
  });
}
