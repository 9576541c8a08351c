/**
 * CASES 91 and 92: the file system fails in one call, at each place in turn.
 * A failed change is never answered as done; a failed sync is never tried
 * again as if it had worked: the account is taken out, and after it is opened
 * anew it holds what was acknowledged.
 */
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Folder, Store } from '../../../backend/store/store.ts';
import { type Fault, isFault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { type Bench, keyOf, limits, makeBench, openWithIntake, put, textOf } from './store-fixture.ts';

type Call = 'fdatasync' | 'fsync' | 'rename' | 'link' | 'open' | 'write';
const calls: readonly Call[] = ['fdatasync', 'fsync', 'rename', 'link', 'open', 'write'];
const real = Object.fromEntries(calls.map((call) => [call, fs[call]])) as Record<Call, unknown>;

/** Lets the n-th of these calls fail. @returns how often it was called. */
function failAt(call: Call, number: number, errno: string): () => number {
  let count = 0;
  (fs as unknown as Record<Call, unknown>)[call] = (...args: unknown[]) => {
    if (++count !== number) return (real[call] as (...rest: unknown[]) => unknown)(...args);
    const done = args.at(-1) as (error: Error) => void;
    setImmediate(() => done(Object.assign(new Error(`${errno}: injected`), { code: errno })));
    return undefined;
  };
  return () => count;
}

function heal(): void {
  for (const call of calls) (fs as unknown as Record<Call, unknown>)[call] = real[call];
}

let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
});

afterEach(async () => {
  heal();
  await bench.remove();
});

async function prepared(
  epoch: number,
  broken: Fault[],
): Promise<{ store: Store; inbox: Folder; other: Folder }> {
  const store = await openWithIntake({
    directory: bench.directory,
    guard: { epoch, assert: () => {} },
    limits,
    log: silentLog,
    dirsync: true,
    onBroken: (fault) => broken.push(fault),
  });
  const inbox = await store.folder('INBOX');
  const other =
    store.listFolders().length > 1 ? await store.folder('Other') : await store.createFolder('Other');
  return { store, inbox, other };
}

const changes: Record<string, (inbox: Folder, other: Folder) => Promise<unknown>> = {
  delivery: (inbox) => put(inbox, 'new', { key: keyOf(77), internalDateMs: Date.now() }),
  flags: (inbox) => inbox.changeFlags([1], { how: 'set', flags: 5, keywords: [] }),
  expunge: (inbox) => inbox.expunge([2]),
  copy: (inbox, other) => inbox.copyTo(other, [1, 3]),
  move: (inbox, other) => inbox.moveTo(other, [1, 3]),
};

describe('one failing call', () => {
  const rows = Object.keys(changes).flatMap((change) =>
    calls.flatMap((call) => ['EIO', 'EROFS'].map((errno) => [change, call, errno] as const)),
  );
  test.each(rows)(
    'in a %s, at each %s, with %s: not answered as done, or done',
    async (change, call, errno) => {
      for (let number = 1; number < 12; number++) {
        await bench.remove();
        await fs.promises.mkdir(bench.directory);
        const broken: Fault[] = [];
        const { store, inbox, other } = await prepared(1, broken);
        for (let index = 0; index < 3; index++) await put(inbox, `m${index}`);
        const counted = failAt(call, number, errno);
        const outcome = await changes[change]!(inbox, other).then(
          () => 'done',
          (error: unknown) => (isFault(error) ? error.code : String(error)),
        );
        const callsBefore = counted();
        // "done" although a call failed: that was work behind the answer, which the next opening makes good.
        if (outcome !== 'done') {
          expect(outcome).toBe('storage-failed');
          expect(broken).toHaveLength(1);
          await expect(put(inbox, 'x')).rejects.toMatchObject({ code: 'storage-failed' });
        }
        heal();
        await store.close();
        const again = await prepared(2, []);
        const texts = await Promise.all([...again.inbox.uids()].map((uid) => textOf(again.inbox, uid)));
        const there = await Promise.all([...again.other.uids()].map((uid) => textOf(again.other, uid)));
        if (change === 'delivery') {
          // The sender comes again: then it is there once.
          await put(again.inbox, 'new', { key: keyOf(77), internalDateMs: Date.now() });
          expect(again.inbox.count).toBe(4);
          expect(texts.filter((text) => text === 'new').length).toBe(
            outcome === 'done' ? 1 : texts.length - 3,
          );
        }
        if (change === 'flags' && outcome === 'done') expect(again.inbox.flagsOf(1)).toBe(5);
        if (change === 'expunge' && outcome === 'done') expect(texts).toEqual(['m0', 'm2']);
        if (change === 'copy') {
          expect(texts).toEqual(['m0', 'm1', 'm2']);
          expect([0, 2]).toContain(there.length);
          if (outcome === 'done') expect(there).toEqual(['m0', 'm2']);
        }
        if (change === 'move') {
          expect([...texts, ...there].sort()).toEqual(['m0', 'm1', 'm2']);
          expect(texts).toHaveLength(outcome === 'done' || there.length > 0 ? 1 : 3);
        }
        await again.store.close();
        if (callsBefore < number) return;
      }
    },
  );
});

test('a failure while an account is opened leaves it as it was', async () => {
  const { store, inbox } = await prepared(1, []);
  await put(inbox, 'kept');
  await store.close();
  let failed = 0;
  let epoch = 2;
  for (const call of ['open', 'fdatasync', 'fsync', 'rename', 'write'] as const) {
    for (let number = 1; number < 10; number++) {
      failAt(call, number, 'EIO');
      const opened = await prepared(epoch++, []).catch((error: unknown) => error);
      heal();
      if (isFault(opened)) {
        expect(opened.code).toBe('storage-failed');
        failed++;
      } else await (opened as { store: Store }).store.close();
    }
  }
  expect(failed).toBeGreaterThanOrEqual(8);
  const again = await prepared(epoch, []);
  expect(await textOf(again.inbox, 1)).toBe('kept');
  await again.store.close();
});
