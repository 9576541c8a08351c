/**
 * Messages that are answered before they have files: what sessions see of
 * them, and what the next owner finds when their process ended at a bad time.
 */
import fs from 'node:fs';
import { open, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { headerBytes } from '../../../../backend/store/intake/intake-record.ts';
import type { MaildirFolder } from '../../../../backend/store/maildir-folder.ts';
import { openStore } from '../../../../backend/store/open-store.ts';
import type { Folder, Store } from '../../../../backend/store/store.ts';
import { type Fault, isFault } from '../../../../base/fault.ts';
import { type Log, silentLog } from '../../../../base/log.ts';
import {
  type Bench,
  filesMade,
  keyOf,
  limits,
  makeBench,
  openWithIntake,
  put,
  textOf,
} from '../store-fixture.ts';

let bench: Bench;
let epoch = 0;
const logged: string[] = [];
const log = {
  ...silentLog,
  error: ({ event }: { event: string }) => logged.push(event),
  warn: () => {},
  info: () => {},
  debug: () => {},
} as unknown as Log;

/** An owner that can die: from then on it does nothing any more. */
interface Owner {
  readonly store: Store;
  readonly inbox: Folder;
  readonly broken: Fault[];
  /** Settles when the account was taken out. */
  readonly taken: Promise<void>;
  die(): void;
}

const owners: Owner[] = [];

async function owner(how: { live?: boolean; directory?: string; account?: string } = {}): Promise<Owner> {
  let dead = false;
  const broken: Fault[] = [];
  let tookOut = (): void => {};
  const taken = new Promise<void>((resolve) => {
    tookOut = resolve;
  });
  const store = await openWithIntake(
    {
      directory: how.directory ?? bench.directory,
      guard: {
        epoch: ++epoch,
        assert() {
          if (dead) throw new Error('the dead do nothing');
        },
      },
      limits,
      log,
      dirsync: true,
      onBroken: (fault) => {
        broken.push(fault);
        tookOut();
      },
    },
    { live: how.live ?? true, root: path.join(bench.directory, 'intake'), ...how },
  );
  const inbox = await store.folder('INBOX');
  const made: Owner = {
    store,
    inbox,
    broken,
    taken,
    die: () => {
      dead = true;
    },
  };
  owners.push(made);
  return made;
}

/** From now on no file is made in the folder. @returns what lets them be made. */
function hold(folder: Folder): Promise<() => void> {
  const { pending, host } = folder as MaildirFolder;
  return pending.hold((entries) => host.intake!.makeLater(entries));
}

const cur = (folder = ''): Promise<string[]> => readdir(path.join(bench.directory, 'Maildir', folder, 'cur'));

async function texts(folder: Folder): Promise<string[]> {
  return Promise.all([...folder.uids()].map((uid) => textOf(folder, uid)));
}

async function segments(): Promise<string[]> {
  const root = path.join(bench.directory, 'intake');
  const found: string[] = [];
  for (const log of await readdir(root)) {
    for (const name of await readdir(path.join(root, log))) found.push(path.join(root, log, name));
  }
  return found;
}

beforeEach(async () => {
  bench = await makeBench();
  epoch = 0;
  logged.length = 0;
});

afterEach(async () => {
  for (const { die, store } of owners.splice(0)) {
    die();
    await store.close();
  }
  await bench.remove();
});

describe('while there is no file', () => {
  test('a message is read, flagged, listed and searched like any other', async () => {
    const { inbox } = await owner();
    await hold(inbox);
    const { uid } = await put(inbox, 'text', { key: keyOf(1), flags: 1 });
    expect(await cur()).toEqual([]);
    expect(await textOf(inbox, uid)).toBe('text');
    expect(inbox.held!(uid)!.toString()).toBe('text');
    await inbox.changeFlags([uid], { how: 'add', flags: 4, keywords: ['k'] });
    expect(inbox.facts(uid)).toMatchObject({ flags: 5, keywords: ['k'], size: 4 });
    expect(await put(inbox, 'text', { key: keyOf(1) })).toEqual({ uid, already: true });
  });

  test('its file comes with the flags of then', async () => {
    const { inbox } = await owner();
    const release = await hold(inbox);
    await put(inbox, 'text');
    await inbox.changeFlags([1], { how: 'set', flags: 9, keywords: [] });
    release();
    await filesMade(inbox);
    expect((await cur())[0]).toMatch(/:2,ST$/);
  });

  test('it is expunged without ever having one', async () => {
    const { store, inbox } = await owner();
    const release = await hold(inbox);
    await put(inbox, 'text');
    await inbox.expunge([1]);
    release();
    await filesMade(inbox);
    expect(await cur()).toEqual([]);
    await store.close();
    expect(await texts((await owner()).inbox)).toEqual([]);
  });

  test('a copy waits until it is durable', async () => {
    const { store, inbox } = await owner();
    const other = await store.createFolder('Other');
    await put(inbox, 'text');
    await inbox.copyTo(other, [1]);
    expect(await cur()).toHaveLength(1);
    expect((inbox as MaildirFolder).pending.unsettled()).toEqual([]);
    expect(await texts(other)).toEqual(['text']);
  });

  test('its folder is renamed and deleted', async () => {
    const { store } = await owner();
    for (const name of ['One', 'Two']) {
      const folder = await store.createFolder(name);
      await Promise.all(Array.from({ length: 20 }, (_, index) => put(folder, `m${index}`)));
    }
    await store.renameFolder('One', 'Three');
    await store.deleteFolder('Two');
    const three = await store.folder('Three');
    await filesMade(three);
    expect(await cur('.Three')).toHaveLength(20);
    await store.close();
    expect(logged).toEqual([]);
    const again = await owner();
    expect((await again.store.folder('Three')).count).toBe(20);
  });

  test('the look for files of other programs does not miss it', async () => {
    const { inbox } = await owner();
    const { highestModseq } = inbox;
    await Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        await put(inbox, `m${index}`);
        await inbox.refresh();
      }),
    );
    expect(inbox.count).toBe(30);
    expect(inbox.expungedSince(highestModseq)).toEqual([]);
  });
});

describe('an owner that ends before there are files', () => {
  test('leaves every message to the next, once, under its UID', async () => {
    const first = await owner();
    await hold(first.inbox);
    for (let index = 1; index <= 5; index++) {
      await put(first.inbox, `m${index}`, { key: keyOf(index), flags: index, internalDateMs: Date.now() });
    }
    await first.inbox.changeFlags([2], { how: 'set', flags: 16, keywords: ['k'] });
    first.die();
    expect(await cur()).toEqual([]);
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['m1', 'm2', 'm3', 'm4', 'm5']);
    expect([...second.inbox.uids()]).toEqual([1, 2, 3, 4, 5]);
    expect(second.inbox.facts(2)).toMatchObject({ flags: 16, keywords: ['k'] });
    expect(second.inbox.facts(5)).toMatchObject({ flags: 5 });
    expect(await put(second.inbox, 'm3', { key: keyOf(3) })).toEqual({ uid: 3, already: true });
    expect((await put(second.inbox, 'new')).uid).toBeGreaterThan(5);
    await filesMade(second.inbox);
    expect(await cur()).toHaveLength(6);
    second.die();
    // The log of the first is not looked at again, be it there or not.
    const third = await owner();
    expect(third.inbox.count).toBe(6);
    expect(logged).toEqual([]);
  });

  test('also to one that has no intake', async () => {
    const first = await owner();
    await hold(first.inbox);
    await put(first.inbox, 'kept');
    first.die();
    const second = await owner({ live: false });
    expect(await texts(second.inbox)).toEqual(['kept']);
    expect(await cur()).toHaveLength(1);
    await put(second.inbox, 'more');
    expect(await cur()).toHaveLength(2);
  });

  test('brings nothing back that was expunged or moved, or whose folder was deleted', async () => {
    const first = await owner();
    const other = await first.store.createFolder('Other');
    const gone = await first.store.createFolder('Gone');
    await put(gone, 'in gone');
    for (let index = 1; index <= 4; index++) await put(first.inbox, `m${index}`);
    await first.inbox.expunge([1]);
    await first.inbox.moveTo(other, [2]);
    await first.store.deleteFolder('Gone');
    first.die();
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['m3', 'm4']);
    expect(await texts(await second.store.folder('Other'))).toEqual(['m2']);
    expect(second.store.listFolders().map(({ name }) => name)).toEqual(['INBOX', 'Other']);
  });

  test('leaves messages of a renamed folder in its new place', async () => {
    const first = await owner();
    const folder = await first.store.createFolder('Old');
    await first.store.renameFolder('Old', 'New/place');
    await hold(folder);
    await put(folder, 'text');
    first.die();
    const second = await owner();
    expect(await texts(await second.store.folder('New/place'))).toEqual(['text']);
  });

  test('leaves those of each account to that account', async () => {
    const directory = path.join(bench.directory, 'second account');
    await fs.promises.mkdir(directory);
    const ann = await owner({ account: 'ann@example.org' });
    const bob = await owner({ account: 'bob@example.org', directory });
    await hold(ann.inbox);
    await hold(bob.inbox);
    await put(ann.inbox, 'for ann');
    await put(bob.inbox, 'for bob');
    ann.die();
    bob.die();
    expect(await texts((await owner({ account: 'bob@example.org', directory })).inbox)).toEqual(['for bob']);
    expect(await texts((await owner({ account: 'ann@example.org' })).inbox)).toEqual(['for ann']);
  });

  test('leaves files that a power cut emptied or spoiled whole', async () => {
    const first = await owner();
    for (let index = 1; index <= 3; index++) await put(first.inbox, `message ${index}`);
    await filesMade(first.inbox);
    first.die();
    const names = (await cur()).sort((a, b) => Number(/U(\d+)/.exec(a)![1]) - Number(/U(\d+)/.exec(b)![1]));
    const file = (index: number): string => path.join(bench.directory, 'Maildir/cur', names[index]!);
    await truncate(file(0), 0);
    await writeFile(file(1), Buffer.alloc(9));
    await rm(file(2));
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['message 1', 'message 2', 'message 3']);
    expect((await cur()).sort()).toEqual([...names].sort());
  });

  test('leaves flags that another program showed as they are', async () => {
    const first = await owner();
    await put(first.inbox, 'text');
    await filesMade(first.inbox);
    first.die();
    const [name] = await cur();
    const directory = path.join(bench.directory, 'Maildir/cur');
    await rename(path.join(directory, name!), path.join(directory, `${name}S`));
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['text']);
    expect(second.inbox.flagsOf(1)).toBe(1);
  });

  test('that wakes up when its log was read can add nothing', async () => {
    const first = await owner();
    await hold(first.inbox);
    await put(first.inbox, 'before');
    const second = await owner();
    // It does not know yet that its lease is gone.
    await put(first.inbox, 'late', { key: keyOf(9) });
    await put(second.inbox, 'after');
    first.die();
    second.die();
    const third = await owner();
    expect(await texts(third.inbox)).toEqual(['before', 'after']);
    expect(new Set(third.inbox.uids()).size).toBe(2);
  });
});

describe('a log that is', () => {
  const cutAt = async (file: string): Promise<number> => {
    const bytes = await readFile(file);
    return bytes.indexOf('message 2');
  };
  const rows: Record<
    string,
    { damage: (file: string) => Promise<void>; left: readonly number[]; says: readonly string[] }
  > = {
    deleted: {
      damage: (file) => rm(path.dirname(file), { recursive: true }),
      left: [],
      says: ['intake-lost'],
    },
    'cut in a record': {
      damage: async (file) => truncate(file, await cutAt(file)),
      left: [1],
      says: ['intake-damaged'],
    },
    'flipped in a record': {
      damage: async (file) => {
        const handle = await open(file, 'r+');
        await handle.write('X', await cutAt(file));
        await handle.close();
      },
      left: [1, 3, 4],
      says: ['intake-damaged'],
    },
    'flipped in its header': {
      damage: async (file) => {
        const handle = await open(file, 'r+');
        await handle.write('X', headerBytes / 2);
        await handle.close();
      },
      left: [],
      says: ['intake-damaged'],
    },
    zeroed: {
      damage: async (file) => writeFile(file, Buffer.alloc((await readFile(file)).length)),
      left: [],
      says: [],
    },
  };
  test.each(Object.keys(rows))(
    '%s loses no more than that, says so, and no UID comes twice',
    async (name) => {
      const { damage, left, says } = rows[name]!;
      const first = await owner();
      await hold(first.inbox);
      for (let index = 1; index <= 4; index++) await put(first.inbox, `message ${index}`);
      first.die();
      const used = [];
      for (const file of await segments()) if ((await readFile(file)).includes('message 1')) used.push(file);
      expect(used).toHaveLength(1);
      await damage(used[0]!);
      const second = await owner();
      expect(await texts(second.inbox)).toEqual(left.map((index) => `message ${index}`));
      expect([...second.inbox.uids()]).toEqual(left);
      expect(logged).toEqual(says);
      expect((await put(second.inbox, 'new')).uid).toBeGreaterThan(4);
      await second.store.close();
      await owner();
      expect(logged).toEqual(says);
    },
  );

  test('not named, because the journal is lost, is found', async () => {
    const first = await owner();
    await hold(first.inbox);
    await put(first.inbox, 'kept');
    first.die();
    await rm(path.join(bench.directory, 'journal.1'));
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['kept']);
    expect(second.inbox.facts(1)).toBeDefined();
  });
});

describe('a call that fails', () => {
  type Call = 'write' | 'fsync' | 'rename' | 'open';
  const real = { write: fs.write, fsync: fs.fsync, rename: fs.rename, open: fs.open };
  const failNext = (call: Call, matches: (first: unknown) => boolean): void => {
    (fs as unknown as Record<Call, unknown>)[call] = (...args: unknown[]) => {
      if (!matches(args[0])) return (real[call] as (...rest: unknown[]) => unknown)(...args);
      fs[call] = real[call] as never;
      const done = args.at(-1) as (error: Error) => void;
      setImmediate(() => done(Object.assign(new Error('EIO: injected'), { code: 'EIO' })));
      return undefined;
    };
  };
  afterEach(() => void Object.assign(fs, real));

  test('to the log: not answered; afterwards messages go to their files', async () => {
    const first = await owner();
    await put(first.inbox, 'before');
    await filesMade(first.inbox);
    failNext('write', () => true);
    const outcome = await put(first.inbox, 'failing', { key: keyOf(2) }).catch((error: unknown) => error);
    expect(isFault(outcome, 'storage-failed')).toBe(true);
    expect(first.broken).toHaveLength(1);
    await first.store.close();
    const second = await owner();
    expect((await put(second.inbox, 'failing', { key: keyOf(2) })).already).toBe(second.inbox.count === 3);
    expect(await texts(second.inbox)).toEqual(['before', 'failing']);
  });

  test('in the making of a file: answered, taken out, there for the next', async () => {
    const first = await owner();
    await put(first.inbox, 'before');
    await filesMade(first.inbox);
    failNext('rename', (from) => String(from).includes('/Maildir/tmp/'));
    await put(first.inbox, 'in the log');
    await first.taken;
    await expect(put(first.inbox, 'no')).rejects.toMatchObject({ code: 'storage-failed' });
    await first.store.close();
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['before', 'in the log']);
  });

  test('in the sync of a file: never synced again as if it had worked', async () => {
    const first = await owner();
    await put(first.inbox, 'text');
    await filesMade(first.inbox);
    failNext('fsync', () => true);
    await first.store.close();
    expect(first.broken).toHaveLength(1);
    // The pages that could not be written are gone from memory, too.
    const [name] = await cur();
    await writeFile(path.join(bench.directory, 'Maildir/cur', name!), '');
    const second = await owner();
    expect(await texts(second.inbox)).toEqual(['text']);
  });
});

describe('the room in the log', () => {
  test('is used again and again; what finds none goes to its file at once', async () => {
    const { store, inbox } = await owner();
    const large = 'x'.repeat(8000);
    for (let round = 0; round < 10; round++) {
      await Promise.all(Array.from({ length: 12 }, (_, index) => put(inbox, `${round}-${index}-${large}`)));
    }
    expect(inbox.count).toBe(120);
    expect((await segments()).length).toBeLessThanOrEqual(3);
    await store.close();
    expect(await segments()).toEqual([]);
    const again = await owner();
    expect((await texts(again.inbox)).map((text) => text.length).every((length) => length > 8000)).toBe(true);
    expect(again.inbox.count).toBe(120);
  });

  test('an owner that knows of no log refuses an account that may have messages in one', async () => {
    const first = await owner();
    await hold(first.inbox);
    await put(first.inbox, 'text');
    first.die();
    const options = { directory: bench.directory, guard: { epoch: ++epoch, assert() {} } };
    await expect(openStore({ ...options, limits, log, dirsync: true })).rejects.toMatchObject({
      code: 'bug',
    });
  });
});
