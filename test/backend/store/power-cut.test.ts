/**
 * CASES 94: the power goes in the midst of work. A file system of its own is
 * shut down without writing its log out, mounted again, and what had been
 * acknowledged is there. Needs root, a loop device, mkfs and xfs_io.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { requireDebianPackages } from '../../support/debian.ts';
import { look } from './crash-look.ts';
import { type ChildLine, CrashModel } from './crash-model.ts';
import { limits, openWithIntake } from './store-fixture.ts';

const childFile = path.join(import.meta.dirname, 'crash-child.ts');
const rounds = Number(process.env.POSTERN_POWER_CUTS ?? 3);
const environment = { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
const run = async (program: string, ...args: string[]): Promise<void> => {
  await promisify(execFile)(program, args, { env: environment });
};

/** A process that was killed lets go of its files a moment after its end. */
async function unmount(mount: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await run('umount', mount);
      return;
    } catch (error) {
      if (attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Works on the account until the power goes. @returns what it said. */
async function workUntilCut(
  account: string,
  mount: string,
  epoch: number,
  retries: [number, string][],
  livesMs: number,
  dirsync: boolean,
): Promise<ChildLine[]> {
  const child = spawn(
    process.execPath,
    [childFile, account, String(epoch), String(epoch * 7919), JSON.stringify(retries), String(dirsync)],
    { stdio: ['ignore', 'pipe', 'ignore'], env: environment },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  let text = '';
  const ready = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      resolve();
    });
  });
  await Promise.race([ready, ended]);
  await new Promise((resolve) => setTimeout(resolve, livesMs));
  await run('xfs_io', '-x', '-c', 'shutdown', mount);
  // What is acknowledged now was on the disk before, or the promise is broken.
  await new Promise((resolve) => setTimeout(resolve, 100));
  child.kill('SIGKILL');
  await ended;
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ChildLine);
}

describe('after a power cut', () => {
  const rows = [
    ['ext4', true],
    ['xfs', true],
    ['ext4', false],
    ['xfs', false],
  ] as const;
  test.each(rows)(
    'on %s, directories synced: %s, all that was acknowledged is there, once and whole',
    async (kind, dirsync) => {
      if (process.getuid?.() !== 0) throw new Error('needs root: it mounts file systems of its own');
      await requireDebianPackages(['xfsprogs']);
      const place = await mkdtemp(path.join(tmpdir(), 'postern-power-'));
      const image = path.join(place, 'image');
      const mount = path.join(place, 'mount');
      await mkdir(mount);
      const file = await open(image, 'w');
      await file.truncate(400 * 1024 * 1024);
      await file.close();
      await run(`mkfs.${kind}`, '-q', image);
      const model = new CrashModel();
      let acknowledged = 0;
      let mounted = false;
      try {
        for (let round = 1; round <= rounds; round++) {
          await run('mount', '-o', 'loop', image, mount);
          mounted = true;
          const account = path.join(mount, 'account');
          await mkdir(account, { recursive: true });
          const lines = await workUntilCut(
            account,
            mount,
            round * 2 - 1,
            model.retries,
            150 + round * 100,
            dirsync,
          );
          acknowledged += lines.filter((line) => 'ack' in line).length;
          await unmount(mount);
          await run('mount', '-o', 'loop', image, mount);
          const guard = { epoch: round * 2, assert: () => {} };
          const store = await openWithIntake({ directory: account, guard, limits, log: silentLog, dirsync });
          const complaints = model.round(lines, await look(store));
          await store.close();
          await unmount(mount);
          mounted = false;
          expect({ round, complaints }).toEqual({ round, complaints: [] });
        }
        expect(acknowledged).toBeGreaterThan(rounds * 3);
      } finally {
        if (mounted) await run('umount', '-l', mount);
        await rm(place, { recursive: true, force: true });
      }
    },
    60_000,
  );
});
