/** Logs of processes that are no more go when nothing needs them, and not before. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Janitor } from '../../../../backend/store/intake/intake-janitor.ts';
import { IntakeReader } from '../../../../backend/store/intake/intake-reader.ts';
import type { Folder, Store } from '../../../../backend/store/store.ts';
import type { StoredFolder } from '../../../../backend/store/stored-folder.ts';
import { type Log, silentLog } from '../../../../base/log.ts';
import { limits, openWithIntake, put, textOf } from '../store-fixture.ts';

let directory: string;
let root: string;
let epoch = 0;
const logged: string[] = [];
const log = {
  ...silentLog,
  error: ({ event }: { event: string }) => logged.push(event),
  warn: ({ event }: { event: string }) => logged.push(event),
  info: () => {},
  debug: () => {},
} as unknown as Log;
const opened: { store: Store; dead: boolean }[] = [];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-janitor-'));
  root = path.join(directory, 'intake');
  logged.length = 0;
});

afterEach(async () => {
  for (const one of opened.splice(0)) {
    one.dead = true;
    await one.store.close();
  }
  await rm(directory, { recursive: true, force: true });
});

async function open(account: string, live = true): Promise<{ inbox: Folder; store: Store; die(): void }> {
  const place = path.join(directory, account);
  await mkdir(place, { recursive: true });
  const one = { dead: false } as (typeof opened)[number];
  one.store = await openWithIntake(
    {
      directory: place,
      guard: {
        epoch: ++epoch,
        assert() {
          if (one.dead) throw new Error('the dead do nothing');
        },
      },
      limits,
      log,
      dirsync: true,
    },
    { root, account, live },
  );
  opened.push(one);
  return {
    store: one.store,
    inbox: await one.store.folder('INBOX'),
    die: () => {
      one.dead = true;
    },
  };
}

/** An owner that died with a message that has no file. */
async function leaveBehind(account: string, text: string): Promise<void> {
  const owner = await open(account);
  await (owner.inbox as StoredFolder).pending.hold(() => {});
  await put(owner.inbox, text);
  owner.die();
}

async function round(visit: (account: string) => Promise<boolean>, quietMs = -1): Promise<void> {
  const janitor = new Janitor({ root, reader: new IntakeReader(root, log), log, ownId: undefined, visit });
  await janitor.round(quietMs);
  await janitor.stop();
}

const logs = async (): Promise<string[]> => (await readdir(root)).filter((name) => !name.includes('.'));
const nobody = async (): Promise<boolean> => false;

test('a log whose process shows life stays', async () => {
  await leaveBehind('ann', 'text');
  await round(async () => true, 60_000);
  expect(await logs()).toHaveLength(1);
});

test('a log stays while an account of another backend has messages in it', async () => {
  await leaveBehind('ann', 'text');
  await round(nobody);
  expect(await logs()).toHaveLength(1);
  const next = await open('ann', false);
  expect(await textOf(next.inbox, 1)).toBe('text');
  await round(nobody);
  expect(await logs()).toEqual([]);
  expect(logged).toEqual([]);
});

test('accounts of ours are opened for what they left', async () => {
  await leaveBehind('ann', 'text');
  const visited: string[] = [];
  await round(async (account) => {
    visited.push(account);
    const { store } = await open(account, false);
    await store.close();
    return true;
  });
  expect(visited).toEqual(['ann']);
  expect(await logs()).toEqual([]);
  expect(await textOf((await open('ann', false)).inbox, 1)).toBe('text');
});

test('an account that names a log that was removed, and had nothing in it, misses nothing', async () => {
  const owner = await open('ann');
  await put(owner.inbox, 'durable');
  await owner.store.close();
  const again = await open('ann');
  // Named in its journal, and settled before it ended.
  const { uid } = await put(again.inbox, 'settled');
  await again.inbox.copyTo(await again.store.createFolder('Other'), [uid]);
  await again.inbox.expunge([uid]);
  again.die();
  await round(async () => true);
  expect(await logs()).toEqual([]);
  const last = await open('ann', false);
  expect(await textOf(last.inbox, 1)).toBe('durable');
  expect(logged).toEqual([]);
});

test('what came into a log after an account had taken its messages is still needed', async () => {
  const first = await open('ann');
  const release = await (first.inbox as StoredFolder).pending.hold(() => {});
  await put(first.inbox, 'one');
  // Another owner takes it, and the account comes back to the first process, which writes the same log.
  const second = await open('ann', false);
  await second.store.close();
  await put(first.inbox, 'two');
  release();
  first.die();
  await round(nobody);
  expect(await logs()).toHaveLength(1);
});
