/** When storage is called unwell, what a backend does about it, and how it comes back. */
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  healthAtStart,
  type ProbeOutcome,
  probeStorage,
  stepHealth,
  storageOnceWell,
} from '../../../backend/cluster/storage-health.ts';
import { watchStorage } from '../../../backend/cluster/storage-watch.ts';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { waitFor } from '../../support/process.ts';

const good: ProbeOutcome = { kind: 'good' };
const failed: ProbeOutcome = { kind: 'failed', why: 'EIO' };
const slow: ProbeOutcome = { kind: 'slow', why: 'no answer' };
const wrong: ProbeOutcome = { kind: 'wrong-root', why: 'not mounted' };

describe('storage', () => {
  test.each([
    ['that answers is well', [good, good], 'well'],
    ['that fails once is well: it may have been a moment', [failed], 'well'],
    ['that fails twice in a row is unwell', [failed, failed], 'unwell'],
    ['that fails now and then is well', [failed, good, failed, good, failed], 'well'],
    ['that does not answer is unwell at once', [good, slow], 'unwell'],
    ['that answered late is unwell still', [slow, good], 'unwell'],
    ['that answers three times in a row is well again', [slow, good, good, good], 'well'],
    ['that fails in between is not', [slow, good, good, failed, good, good], 'unwell'],
    ['of another cluster is wrong for good', [wrong, good, good, good], 'wrong-root'],
  ])('%s', (_what, outcomes, state) => {
    expect(outcomes.reduce(stepHealth, healthAtStart).state).toBe(state);
  });
});

describe('a probe', () => {
  const cluster = { id: 'c1', shardCount: 16, format: 1 };
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'probe-'));
    await writeFile(path.join(root, 'cluster.json'), JSON.stringify(cluster));
  });
  afterAll(() => rm(root, { recursive: true }));

  test('reads the root and writes to it', async () => {
    await probeStorage(root, cluster, 'backend-1');
    expect((await stat(path.join(root, 'probe/backend-1'))).isFile()).toBe(true);
  });

  test('of a root that is gone, or another, says so', async () => {
    await expect(probeStorage(path.join(root, 'nowhere'), cluster, 'b')).rejects.toMatchObject({
      code: 'wrong-root',
    });
    await expect(probeStorage(root, { ...cluster, id: 'c2' }, 'b')).rejects.toMatchObject({
      code: 'wrong-root',
    });
  });

  test('that cannot write fails', async () => {
    const blocked = path.join(root, 'blocked');
    await mkdir(blocked);
    await writeFile(path.join(blocked, 'cluster.json'), JSON.stringify(cluster));
    await writeFile(path.join(blocked, 'probe'), 'a file where the directory should be');
    await expect(probeStorage(blocked, cluster, 'b')).rejects.toMatchObject({ code: 'storage-failed' });
  });

  test('is waited for at the start, and said to be', async () => {
    let tries = 0;
    const said: string[] = [];
    await storageOnceWell(
      async () => {
        if (++tries < 3) throw new Fault('wrong-root', 'not mounted yet');
      },
      (why) => said.push(why),
    );
    expect([tries, said]).toEqual([3, ['not mounted yet']]);
  });
});

describe('a backend whose storage', () => {
  interface Told {
    unwell: (string | undefined)[];
    abandoned: string[];
  }
  function watched(probe: () => Promise<void>, facts: { isLeaving: boolean; held: () => number }) {
    const told: Told = { unwell: [], abandoned: [] };
    const watch = watchStorage({
      member: {
        sayUnwell: async (why) => void told.unwell.push(why),
        abandon: (reason) => void told.abandoned.push(reason),
        get isLeaving() {
          return facts.isLeaving;
        },
        get holdings() {
          return { shardsHeld: facts.held() } as never;
        },
      },
      probe,
      unwellAfterMs: 60,
      log: silentLog,
    });
    return { told, watch };
  }

  test('hangs says that it is unwell, and gives up when nothing can be released', async () => {
    const { told, watch } = watched(() => new Promise(() => {}), { isLeaving: true, held: () => 5 });
    await waitFor('it to give up', () => told.abandoned.length === 1);
    expect(told.unwell).toHaveLength(1);
    watch.close();
  });

  test('hangs, but which gets on with releasing, is left to it', async () => {
    let held = 1000;
    const { told, watch } = watched(() => new Promise(() => {}), { isLeaving: true, held: () => held-- });
    await waitFor('some time', () => held < 990);
    expect(told.abandoned).toEqual([]);
    watch.close();
  });

  test('hangs, where nobody else could have its accounts, keeps them', async () => {
    let looked = 0;
    const { told, watch } = watched(() => new Promise(() => {}), {
      isLeaving: false,
      held: () => {
        looked++;
        return 5;
      },
    });
    await waitFor('some time', () => looked > 3);
    expect(told.abandoned).toEqual([]);
    watch.close();
  });

  test('comes back says that it is well', async () => {
    let hangs: (() => void) | undefined;
    let first = true;
    const { told, watch } = watched(
      () => {
        if (!first) return Promise.resolve();
        first = false;
        return new Promise<void>((resolve) => {
          hangs = resolve;
        });
      },
      { isLeaving: false, held: () => 5 },
    );
    await waitFor('unwell', () => told.unwell.length === 1);
    hangs!();
    await waitFor('well', () => told.unwell.length === 2);
    expect(told.unwell).toEqual(['no answer for 60 ms', undefined]);
    expect(watch.isWell).toBe(true);
    watch.close();
  });

  test('was unmounted ends at once', async () => {
    const { told, watch } = watched(() => Promise.reject(new Fault('wrong-root', 'gone')), {
      isLeaving: false,
      held: () => 5,
    });
    await waitFor('the end', () => told.abandoned.length === 1);
    expect(told.unwell).toEqual([]);
    watch.close();
  });
});
