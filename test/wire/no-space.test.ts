/** The storage is full in the middle of deliveries (CASES 90), on a small file system of its own. */

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SmtpConnection, withoutAddedHeaders } from '../support/mail-sender.ts';
import { temporaryDir } from '../support/process.ts';
import { storedMessages } from './stored-messages.ts';

const run = (program: string, ...args: string[]): void => {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} (needs root): ${stderr}`);
};

describe.each([
  ['bytes', 'size=6m', 40_000],
  ['inodes', 'size=64m,nr_inodes=220', 500],
])('no more %s', (what, options, bodyBytes) => {
  let cluster: Cluster;
  let dir: { path: string; remove(): Promise<void> };
  let root: string;

  beforeAll(async () => {
    dir = await temporaryDir(`full-${what}`);
    root = path.join(dir.path, 'storage');
    await mkdir(root);
    run('mount', '-t', 'tmpfs', '-o', options, 'tmpfs', root);
    cluster = await startCluster({
      config: `storage.root = "${root}"\n[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n`,
    });
  }, 120_000);

  afterAll(async () => {
    await cluster?.stop();
    run('umount', root);
    await dir.remove();
  });

  const line = 'lorem ipsum dolor sit amet\r\n';
  const text = (index: number): string =>
    `Subject: ${what} ${index}\r\n\r\n${line.repeat(Math.ceil(bodyBytes / line.length))}`;

  async function send(index: number): Promise<number> {
    const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
    try {
      return (await connection.send('a@example.org', [cluster.account.address], Buffer.from(text(index))))
        .code;
    } finally {
      connection.destroy();
    }
  }

  test('452 and no partial file; what had its 250 is whole; with room again the mail flows', async () => {
    const ballast = path.join(root, 'ballast');
    if (what === 'bytes') await writeFile(ballast, Buffer.alloc(1024 * 1024));
    else {
      await mkdir(ballast);
      for (let i = 0; i < 30; i++) await writeFile(path.join(ballast, String(i)), '');
    }
    const accepted: number[] = [];
    let index = 0;
    let code = 250;
    for (; index < 300 && code === 250; index++) {
      code = await send(index);
      if (code === 250) accepted.push(index);
    }
    expect(accepted.length).toBeGreaterThan(5);
    expect(code).toBe(452);
    // again and again: refused, and nothing is left behind each time
    const filesBefore = countFiles(root);
    for (let i = 0; i < 5; i++) expect(await send(1000 + i)).toBe(452);
    expect(countFiles(root)).toBe(filesBefore);

    const expectWhole = async (indexes: readonly number[]): Promise<void> => {
      const stored = await storedMessages(cluster);
      expect(stored.map(({ subject }) => subject)).toEqual(indexes.map((one) => `${what} ${one}`));
      for (const [place, message] of stored.entries()) {
        expect(withoutAddedHeaders(message.bytes).toString()).toBe(text(indexes[place]!));
      }
    };
    await expectWhole(accepted);
    await rm(ballast, { recursive: true });
    expect(await send(2000)).toBe(250);
    await expectWhole([...accepted, 2000]);
    // and after everything was killed and started again
    await cluster.killEverything();
    await cluster.startAgain();
    await cluster.answering();
    await expectWhole([...accepted, 2000]);
    expect(emptyFiles(root)).toEqual([]);
  }, 120_000);
});

function walk(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((one) =>
    one.isDirectory() ? walk(path.join(dir, one.name)) : [path.join(dir, one.name)],
  );
}

const countFiles = (dir: string): number =>
  walk(dir).filter((file) => /\/(?:new|cur|tmp)\//.test(file)).length;
const emptyFiles = (dir: string): string[] =>
  walk(dir).filter((file) => /\/(?:new|cur)\//.test(file) && statSync(file).size === 0);
