/**
 * CASES 93: the process is killed before and after every single change of the
 * file system, in each operation of the store in turn. The next owner finds
 * what was before the operation or what is after it, nothing in between; and
 * what was acknowledged is there.
 */
import { access, appendFile, constants, copyFile, link, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { AccountStore } from '../../../backend/store/account-store.ts';
import { indexName } from '../../../backend/store/folder-index.ts';
import { mboxIndexName } from '../../../backend/store/mbox/mbox-index.ts';
import type { Folder, FolderFormat, Store } from '../../../backend/store/store.ts';
import { silentLog } from '../../../base/log.ts';
import { StoppingWorld } from './stopping-world.ts';
import { keyOf, limits, openWithIntake, put, textOf } from './store-fixture.ts';

type Template = 'few' | 'many' | 'mixed' | 'mboxes';

interface Operation {
  /** What may have become true: each is done alone, undisturbed, and gives a state. The first is the whole of it. */
  readonly outcomes: readonly ((store: Store) => Promise<unknown>)[];
  /** Done before anything can stop. */
  readonly before?: (store: Store) => Promise<unknown>;
  /** From which template; `many` has more messages than an index needs, `mixed` has mbox folders. */
  readonly template?: Template;
  /** Done to the files before they are opened. */
  readonly prepare?: (directory: string) => Promise<unknown>;
  /** Also what opening and closing change. */
  readonly wholeLife?: boolean;
}

const inbox = (store: Store): Promise<Folder> => store.folder('INBOX');
const other = (store: Store): Promise<Folder> => store.folder('Other');
const large = 'large\r\n'.padEnd(600_000, 'x');
const wide = Array.from({ length: 20 }, (_, index) => `k${index}`.padEnd(250, 'w'));

const operations: Record<string, Operation> = {
  'opening and closing': { outcomes: [async () => {}], wholeLife: true },
  delivery: {
    outcomes: [
      async (store) => put(await inbox(store), 'new', { key: keyOf(77), internalDateMs: Date.now() }),
    ],
  },
  'two deliveries at once': {
    outcomes: [
      async (store) => {
        const folder = await inbox(store);
        await Promise.all([put(folder, 'new 1', { key: keyOf(1) }), put(folder, 'new 2', { key: keyOf(2) })]);
      },
      async (store) => put(await inbox(store), 'new 1', { key: keyOf(1) }),
      async (store) => put(await inbox(store), 'new 2', { key: keyOf(2) }),
    ],
  },
  'APPEND with flags and keywords': {
    outcomes: [async (store) => put(await inbox(store), 'new', { flags: 5, keywords: ['k', 'fresh'] })],
  },
  'APPEND of a large message': { outcomes: [async (store) => put(await other(store), large, { flags: 1 })] },
  STORE: {
    outcomes: [
      async (store) => (await inbox(store)).changeFlags([1, 3], { how: 'set', flags: 9, keywords: ['z'] }),
    ],
    wholeLife: true,
  },
  EXPUNGE: { outcomes: [async (store) => (await inbox(store)).expunge([2, 3])], wholeLife: true },
  COPY: {
    outcomes: [async (store) => (await inbox(store)).copyTo(await other(store), [1, 2, 4])],
  },
  MOVE: {
    outcomes: [async (store) => (await inbox(store)).moveTo(await other(store), [1, 2, 4])],
    wholeLife: true,
  },
  'MOVE within a folder': {
    outcomes: [async (store) => (await inbox(store)).moveTo(await inbox(store), [2, 3])],
  },
  CREATE: { outcomes: [(store) => store.createFolder('a/b', 'archive')] },
  DELETE: { outcomes: [(store) => store.deleteFolder('Other/child')] },
  RENAME: { outcomes: [(store) => store.renameFolder('Other', 'New/place')] },
  'RENAME of INBOX': {
    outcomes: [(store) => store.renameFolder('INBOX', 'Old'), (store) => store.createFolder('Old')],
  },
  SUBSCRIBE: { outcomes: [(store) => store.setSubscribed('Other', true)] },
  'the compaction of the journal': {
    async before(store) {
      const folder = await inbox(store);
      for (let count = 0; count < 99; count++) {
        await folder.changeFlags([1 + (count % 2)], { how: 'set', flags: count % 32, keywords: wide });
      }
    },
    outcomes: [
      async (store) => {
        const { journal } = store as AccountStore;
        const folder = await inbox(store);
        for (const flags of [3, 4, 3, 4]) {
          await folder.changeFlags([3, 4], { how: 'set', flags, keywords: wide });
        }
        for (let count = 0; journal.wantsCompaction && count < 500; count++) {
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        if (journal.wantsCompaction) throw new Error('the journal was not compacted');
      },
      async (store) => (await inbox(store)).changeFlags([3, 4], { how: 'set', flags: 3, keywords: wide }),
    ],
  },
  'the writing of the index': {
    template: 'many',
    outcomes: [
      async (store) => {
        await (await inbox(store)).changeFlags([7], { how: 'set', flags: 9, keywords: [] });
        await store.close();
      },
    ],
  },
};

/** What has the most of a way of its own where the folders are mboxes; `npm run matrix` walks the others too. */
const inMboxes = ['opening and closing', 'delivery', 'APPEND with flags and keywords', 'EXPUNGE', 'MOVE'];
const othersInMboxes = [
  'two deliveries at once',
  'APPEND of a large message',
  'STORE',
  'COPY',
  'MOVE within a folder',
  'CREATE',
  'DELETE',
  'RENAME',
  'the compaction of the journal',
];
for (const name of process.env.POSTERN_TEST_MATRIX === 'all' ? [...inMboxes, ...othersInMboxes] : inMboxes) {
  operations[`${name} in mboxes`] = { ...operations[name]!, template: 'mboxes' };
}

Object.assign(operations, {
  'MOVE from a Maildir into an mbox': {
    template: 'mixed',
    outcomes: [async (store) => (await inbox(store)).moveTo(await other(store), [1, 2, 4])],
    wholeLife: true,
  },
  'MOVE from an mbox into a Maildir': {
    template: 'mixed',
    outcomes: [async (store) => (await store.folder('Other')).moveTo(await inbox(store), [1])],
    wholeLife: true,
  },
  'taking in what another program brought': {
    template: 'mboxes',
    async prepare(directory) {
      await appendFile(
        path.join(directory, 'mbox/INBOX/mbox'),
        'From a Mon Jan  1 00:00:00 2024\nStatus: RO\nSubject: theirs\n\nbody\n\n',
      );
    },
    outcomes: [async (store) => (await inbox(store)).refresh()],
    wholeLife: true,
  },
  'conversion of INBOX to an mbox': {
    outcomes: [(store) => store.convertFolder!('INBOX', 'mbox')],
    wholeLife: true,
  },
  'conversion of a folder to an mbox': {
    outcomes: [(store) => store.convertFolder!('Other', 'mbox')],
  },
  'conversion of INBOX to a Maildir': {
    template: 'mboxes',
    outcomes: [(store) => store.convertFolder!('INBOX', 'maildir')],
    wholeLife: true,
  },
  'conversion of a folder to a Maildir': {
    template: 'mboxes',
    outcomes: [(store) => store.convertFolder!('Other', 'maildir')],
  },
} satisfies Record<string, Operation>);

/** In memory, where there is such a place: what counts here is the order of changes, and thousands of syncs cost nothing there. */
const memory = await access('/dev/shm', constants.W_OK).then(
  () => '/dev/shm',
  () => tmpdir(),
);
const root = await mkdtemp(path.join(memory, 'postern-matrix-'));
let epoch = 0;

async function open(
  directory: string,
  isDead: () => boolean = () => false,
  format: FolderFormat = 'maildir',
): Promise<Store> {
  return openWithIntake({
    format,
    directory,
    guard: {
      epoch: ++epoch,
      assert() {
        if (isDead()) throw new Error('the dead do nothing');
      },
    },
    limits,
    log: silentLog,
    dirsync: true,
  });
}

type View = Record<string, readonly unknown[]>;

/** What sessions see. UIDs given after `known` are only "new": which they are depends on what was skipped. */
async function viewOf(store: Store, known: ReadonlyMap<string, number>): Promise<View> {
  const view: View = {};
  for (const info of store.listFolders()) {
    if (!info.selectable) continue;
    const folder = await store.folder(info.name);
    const messages: unknown[] = [];
    for (const uid of folder.uids()) {
      const { flags, keywords, size, emailId } = folder.facts(uid)!;
      const text = folder.count > 100 ? '' : await textOf(folder, uid);
      const old = uid < (known.get(folder.mailboxId) ?? 0);
      messages.push([
        old ? uid : 'new',
        text.slice(0, 20),
        size,
        flags,
        keywords.map((word) => word.slice(0, 4)).sort(),
        old ? emailId : '',
      ]);
    }
    view[info.name] = [info.subscribed, info.specialUse ?? '', ...messages.sort(byText)];
  }
  return view;
}

/** Which of two deliveries at once comes first is not settled. */
function byText(a: unknown, b: unknown): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

/** Next UIDs by mailbox. */
async function nextUids(store: Store): Promise<Map<string, number>> {
  const next = new Map<string, number>();
  for (const { name, selectable } of store.listFolders()) {
    if (!selectable) continue;
    const folder = await store.folder(name);
    next.set(folder.mailboxId, folder.uidNext);
  }
  return next;
}

beforeAll(async () => {
  for (const template of ['few', 'many', 'mixed', 'mboxes'] as const) {
    await mkdir(path.join(root, template));
    const alive = (): boolean => false;
    const store = await open(path.join(root, template), alive, template === 'mboxes' ? 'mbox' : 'maildir');
    const folder = await inbox(store);
    await Promise.all(
      Array.from({ length: template === 'many' ? 1100 : 4 }, (_, index) =>
        put(folder, `m${index}`, { flags: index % 4, keywords: index === 0 ? ['k'] : [] }),
      ),
    );
    await store.createFolder('Other');
    const child = await store.createFolder('Other/child');
    await put(child, 'in child');
    await put(await other(store), 'in other', { keywords: ['k'] });
    if (template === 'mixed') await store.convertFolder!('Other', 'mbox');
    await store.close();
  }
  StoppingWorld.install();
}, 60_000);

afterAll(async () => {
  StoppingWorld.remove();
  await rm(root, { recursive: true, force: true });
});

const directories: string[] = [];
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true });
});

async function copyOf(template: string): Promise<string> {
  const directory = await mkdtemp(path.join(root, 'case-'));
  directories.push(directory);
  await linkTree(path.join(root, template), directory);
  return directory;
}

/** Messages never change: a link is as good as a copy. */
async function linkTree(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (!entry.isDirectory()) await (path.basename(from) === 'cur' ? link : copyFile)(source, target);
    else {
      await mkdir(target);
      await linkTree(source, target);
    }
  }
}

describe('killed before and after every change', () => {
  test.each(Object.keys(operations))(
    'of %s: all of it or nothing',
    async (name) => {
      const operation = operations[name]!;
      const template = operation.template ?? 'few';
      const allowed: { readonly view: View; readonly text: string }[] = [];
      let known = new Map<string, number>();
      // The state before, then each that may come of it.
      for (const outcome of [undefined, ...operation.outcomes]) {
        const directory = await copyOf(template);
        await operation.prepare?.(directory);
        let store = await open(directory);
        await operation.before?.(store);
        if (!outcome) known = await nextUids(store);
        await outcome?.(store);
        await store.close();
        store = await open(directory);
        const view = await viewOf(store, known);
        allowed.push({ view, text: JSON.stringify(view) });
        await store.close();
      }
      const texts = allowed.map(({ text }) => text);
      let stops = 0;
      for (const when of ['before', 'after'] as const) {
        for (let at = 1; ; at++) {
          const directory = await copyOf(template);
          await operation.prepare?.(directory);
          const world = new StoppingWorld({ at, when });
          let acknowledged = false;
          await world.run(async () => {
            if (operation.wholeLife) world.count();
            const store = await open(directory, () => world.stopped);
            await operation.before?.(store);
            world.count();
            await operation.outcomes[0]!(store);
            acknowledged = !world.stopped;
            if (operation.wholeLife) await store.close();
            else world.stopped = true;
          });
          const facts = { name, at, when, stoppedAt: world.stoppedAt.replace(directory, '') };
          await expectWhole(directory, known, facts, texts, acknowledged ? texts[1]! : undefined);
          await rm(directories.pop()!, { recursive: true });
          if (world.changes < at) break;
          stops++;
          expect(at).toBeLessThan(200);
        }
      }
      expect(stops).toBeGreaterThan(5);
    },
    120_000,
  );
});

/** The next owner comes, three times: it finds one of the states allowed, finds the same again, and can go on. */
async function expectWhole(
  directory: string,
  known: ReadonlyMap<string, number>,
  facts: object,
  allowed: readonly string[],
  acknowledged: string | undefined,
): Promise<void> {
  let store = await open(directory);
  const found = JSON.stringify(await viewOf(store, known));
  expect({ ...facts, found }).toEqual({
    ...facts,
    found: acknowledged ?? (allowed.includes(found) ? found : allowed),
  });
  for (const [mailboxId, next] of await nextUids(store)) {
    expect({ ...facts, next }).toEqual({ ...facts, next: Math.max(next, known.get(mailboxId) ?? 1) });
  }
  const folder = await inbox(store);
  const { uid } = await put(folder, 'after');
  const given = folder.uidNext;
  await folder.expunge([uid]);
  await store.close();
  expect((await readdir(directory)).filter((name) => /folder-/.test(name))).toEqual([]);
  // Once with the index that was written, once without.
  for (const again of [1, 2]) {
    store = await open(directory);
    expect({ ...facts, again, found: JSON.stringify(await viewOf(store, known)) }).toEqual({
      ...facts,
      again,
      found,
    });
    expect((await inbox(store)).uidNext).toBeGreaterThanOrEqual(given);
    await store.close();
    await rm(path.join(directory, 'Maildir', indexName), { force: true });
    await rm(path.join(directory, 'mbox/INBOX', mboxIndexName), { force: true });
  }
}
