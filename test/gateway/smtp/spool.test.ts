/** The spool: memory while small, a nameless file when large, and never a silent loss. */
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Spool, SpoolRoom, spoolMemoryBytesMax } from '../../../gateway/smtp/spool.ts';

let folder: string;
let room: SpoolRoom;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'postern-spool-'));
  room = await SpoolRoom.open(path.join(folder, 'spool'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const openSpools = async () => {
  const names = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return names.filter((name) => name.startsWith(folder)).length;
};

async function read(spool: Spool): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of spool.chunks()) parts.push(chunk);
  return Buffer.concat(parts);
}

describe('what is written is read again', () => {
  test.each([
    { name: 'nothing', pieces: 0, bytes: 0 },
    { name: 'one small piece', pieces: 1, bytes: 10 },
    { name: 'a byte at a time', pieces: 50_000, bytes: 1 },
    { name: 'pieces around the size of a block', pieces: 100, bytes: 2047 },
    { name: 'just below the limit of memory', pieces: 256, bytes: 1024 },
    { name: 'one piece over it', pieces: 257, bytes: 1024 },
    { name: '20 MB in large pieces', pieces: 320, bytes: 65_536 },
  ])('$name', async ({ pieces, bytes }) => {
    let roomAgain: (() => void) | undefined;
    const spool = new Spool(room, 'from\0', () => roomAgain?.());
    const sent: Buffer[] = [];
    for (let n = 0; n < pieces; n++) {
      const piece = Buffer.alloc(bytes, n % 251);
      sent.push(piece);
      if (!spool.write(piece)) {
        await new Promise<void>((done) => {
          roomAgain = done;
        });
      }
    }
    await spool.complete();
    const want = Buffer.concat(sent);
    expect(spool.size).toBe(want.length);
    const [first, second] = await Promise.all([read(spool), read(spool)]);
    expect(first.equals(want) && second.equals(want)).toBe(true);
    expect(spool.deliveryKey()).toMatch(/^[0-9a-f]{32}$/);
    expect(await openSpools()).toBe(want.length > spoolMemoryBytesMax ? 1 : 0);
    expect(await readdir(path.join(folder, 'spool'))).toEqual([]);
    spool.drop();
    for (let tries = 0; tries < 100 && (await openSpools()) > 0; tries++) {
      await new Promise((done) => setTimeout(done, 5));
    }
    expect(await openSpools()).toBe(0);
    expect(room.memoryBytes).toBe(0);
  });
});

test('a byte at a time costs little more than the bytes', () => {
  const spool = new Spool(room, '', () => {});
  const before = process.memoryUsage();
  for (let n = 0; n < 200_000; n++) spool.write(Buffer.from('x'));
  expect([...(spool.chunks() as Iterable<Buffer>)].length).toBeLessThan(20);
  expect(process.memoryUsage().arrayBuffers - before.arrayBuffers).toBeLessThan(20_000_000);
  spool.drop();
});

test('a reader that has begun ends well when the message is dropped', async () => {
  const spool = new Spool(room, '', () => {});
  for (let n = 0; n < 40; n++) spool.write(Buffer.alloc(65_536, 1));
  await spool.complete();
  let bytes = 0;
  for await (const chunk of spool.chunks()) {
    bytes += chunk.length;
    spool.drop();
  }
  expect(bytes).toBe(40 * 65_536);
});

test('a directory that cannot be written is said at the end, and nobody waits for ever', async () => {
  const gone = new Spool(new SpoolRoom(path.join(folder, 'not-there')), '', () => {});
  for (let n = 0; n < 100; n++) gone.write(Buffer.alloc(65_536));
  await expect(gone.complete()).rejects.toMatchObject({ code: 'storage-failed' });
  gone.drop();
});

test('when all spools together hold too much, the next goes to its file at once', async () => {
  const crowded = await SpoolRoom.open(path.join(folder, 'crowded'));
  crowded.memoryBytes = 65 * 1024 * 1024;
  const spool = new Spool(crowded, '', () => {});
  spool.write(Buffer.alloc(20_000, 7));
  await spool.complete();
  expect(crowded.memoryBytes).toBe(65 * 1024 * 1024);
  expect((await read(spool)).length).toBe(20_000);
  spool.drop();
});
