/**
 * CASES 90: no space left, in bytes and in inodes, on a real file system: a
 * small tmpfs in a mount name space of its own (as root, or where user name
 * spaces are allowed).
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';

const child = path.join(import.meta.dirname, 'no-space-child.ts');

interface Answer {
  stored: number;
  codes: Record<string, number>;
  large: string;
  rightWhileFull: boolean;
  leftInTmp: number;
  extraFiles: number;
  flagged: string;
  removed: string;
  sameAfter: string;
}

async function runOn(mountOptions: string, what: string): Promise<Answer> {
  const directory = await mkdtemp(path.join(tmpdir(), 'postern-no-space-'));
  try {
    const script =
      'mount -t tmpfs -o "$1" none "$2" && mkdir "$2/account" && exec "$3" "$4" "$2/account" "$5"';
    const names = process.getuid?.() === 0 ? ['-m'] : ['-r', '-m'];
    const { stdout } = await promisify(execFile)(
      'unshare',
      [...names, 'sh', '-c', script, 'sh', mountOptions, directory, process.execPath, child, what],
      { env: { PATH: process.env.PATH ?? '' }, timeout: 50_000 },
    );
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as Answer;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

describe('a full file system', () => {
  const rows = [
    ['bytes', 'size=4m'],
    ['inodes', 'size=64m,nr_inodes=200'],
  ] as const;
  test.each(rows)(
    '(%s): no-space is said, nothing partial is seen, what was stored stays',
    async (what, options) => {
      const answer = await runOn(options, what);
      expect(answer.stored).toBeGreaterThan(50);
      expect(Object.keys(answer.codes)).toEqual(['no-space']);
      expect(answer).toMatchObject({ rightWhileFull: true, leftInTmp: 0, extraFiles: 0 });
      if (what === 'bytes') expect(answer.large).toBe('no-space');
      expect(answer.flagged).toBe(what === 'bytes' ? 'no-space' : 'done');
      // The journal has room of its own for this.
      expect(answer.removed).toBe('yes');
      expect(answer.sameAfter).toMatch(/^(?:yes|no-space)$/);
    },
  );
});
