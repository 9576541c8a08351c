/** Where the module that locks files cannot be loaded, that is said, and nothing is taken for locked. */
import { open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { LockThread, lockThread } from '../../../../backend/store/mbox/kernel-lock.ts';

const threadOf = (body: string): LockThread =>
  new LockThread(new URL(`data:text/javascript,${encodeURIComponent(body)}`));

test('a module that does not load is a fault that names it, and is not asked for again', async () => {
  const thread = threadOf(`
    import { parentPort } from 'node:worker_threads';
    let asked = 0;
    parentPort.on('message', ({ id }) => {
      parentPort.postMessage({ id, failure: 'no binary, asked ' + ++asked, cannotLoad: true });
    });`);
  const told = {
    code: 'unavailable',
    message: expect.stringContaining('fs-native-extensions'),
    detail: { why: 'no binary, asked 1' },
  };
  await expect(thread.ready()).rejects.toMatchObject(told);
  await expect(thread.tryLock(3)).rejects.toMatchObject(told);
});

test('storage that does not lock, and a thread that ends, are faults too', async () => {
  const refusing = threadOf(`
    import { parentPort } from 'node:worker_threads';
    parentPort.on('message', ({ id }) => parentPort.postMessage({ id, failure: 'ENOLCK', cannotLoad: false }));`);
  await expect(refusing.tryLock(3)).rejects.toMatchObject({ code: 'unavailable', detail: { why: 'ENOLCK' } });
  const ending = threadOf(`
    import { parentPort } from 'node:worker_threads';
    parentPort.on('message', () => process.exit(1));`);
  await expect(ending.tryLock(3)).rejects.toMatchObject({ code: 'unavailable' });
});

test('a second descriptor of this process does not get the lock, until the first is closed', async () => {
  const file = path.join(tmpdir(), `postern-lock-${process.pid}`);
  await writeFile(file, '');
  const [first, second] = [await open(file, 'r+'), await open(file, 'r+')];
  try {
    expect(await lockThread.tryLock(first.fd)).toBe(true);
    expect(await lockThread.tryLock(second.fd)).toBe(false);
    await first.close();
    expect(await lockThread.tryLock(second.fd)).toBe(true);
  } finally {
    await second.close();
    await rm(file);
  }
});
