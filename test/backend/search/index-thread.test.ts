/** What the indexing thread promises to who asks it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { IndexTask } from '../../../backend/store/search/index-tasks.ts';
import { IndexThread } from '../../../backend/store/search/index-thread.ts';
import { trigramQuery } from '../../../backend/store/search/needle.ts';

const thread = new IndexThread();
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-index-'));
});
afterAll(async () => {
  await thread.end();
  await rm(directory, { recursive: true, force: true });
});

function adding(after: number, uid: number, text: string): IndexTask {
  const bytes = Uint8Array.from(Buffer.from(`Subject: x\r\n\r\n${text}\r\n`));
  const messages = [{ uid, length: bytes.length }];
  return { kind: 'add', directory, folder: 'f', after, bytes, messages, through: uid, indexBytesMax: 1e9 };
}

async function found(text: string): Promise<number[]> {
  const query = trigramQuery(text)!;
  return [...(await thread.run({ kind: 'find', directory, folder: 'f', query })).uids];
}

describe('the thread', () => {
  test('adds nothing behind a gap: an index begun anew does not know what came before', async () => {
    const first = await thread.run(adding(7, 8, 'HELLO'));
    expect(first).toMatchObject({ begun: 'new', through: 0 });
    expect((await thread.run(adding(0, 3, 'HELLO'))).through).toBe(3);
    expect((await thread.run(adding(2, 4, 'HELLO'))).through).toBe(3);
    expect((await thread.run(adding(3, 5, 'OTHER HELL'))).through).toBe(5);
    expect(await found('HELL')).toEqual([3, 5]);
    await thread.run({ kind: 'drop', directory, folder: 'f', uids: Uint32Array.of(3) });
    expect(await found('HELL')).toEqual([5]);
  });

  test('what was open when it ended is not trusted', async () => {
    await thread.end();
    expect((await thread.run(adding(5, 6, 'HELLO'))).begun).toBe('damaged');
    expect(await found('HELL')).toEqual([]);
    expect((await thread.run(adding(0, 6, 'HELLO'))).through).toBe(6);
    await thread.run({ kind: 'close', directory, whole: true });
    await thread.end();
    expect(await found('HELL')).toEqual([6]);
  });

  test('a file that cannot be written fails the task, not the thread', async () => {
    const lost = { ...adding(0, 1, 'x'), directory: '/dev/null/index' };
    await expect(thread.run(lost)).rejects.toMatchObject({ code: 'unavailable' });
    expect(await found('HELL')).toEqual([6]);
  });
});

test.each([
  ['ab', undefined],
  ['abc', '"abc"'],
  ['a"bc', '"a""b" AND """bc"'],
  ['\u{1f600}\u{1f600}', undefined],
])('trigrams of %j', (needle, query) => {
  expect(trigramQuery(needle)).toBe(query);
});
