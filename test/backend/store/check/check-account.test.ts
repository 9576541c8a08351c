/** CASES 95: damage of every kind is found, mended or put into quarantine; no message that can be read is lost. */
import { mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { checkAccount } from '../../../../backend/store/check/check-account.ts';
import { flagBit, type Store } from '../../../../backend/store/store.ts';
import type { StoredFolder } from '../../../../backend/store/stored-folder.ts';
import { type Bench, contentsOf, limits, makeBench, put, textOf } from '../store-fixture.ts';

const now = new Date('2026-01-02T03:04:05.678Z');
const guard = { epoch: 1, assert: () => {} };
let bench: Bench;
let inner: string;
let cur: string;

beforeEach(async () => {
  bench = await makeBench();
  inner = path.join(bench.directory, 'Maildir');
  cur = path.join(inner, 'cur');
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  for (let index = 1; index <= 4; index++) {
    await put(inbox, `Subject: ${index}\r\n\r\nbody ${index}\r\n`, { flags: flagBit.seen, keywords: ['k'] });
  }
  await put(await store.createFolder('Work/Deep'), 'Subject: w\r\n\r\n');
  await store.close();
});

afterEach(() => bench.remove());

function check(how: { deep?: boolean; repair?: boolean } = {}) {
  const account = { directory: bench.directory, guard, limits, open: () => bench.open() };
  return checkAccount(account, { deep: how.deep ?? false, repair: how.repair ?? false }, now);
}

async function fileOf(uid: number): Promise<string> {
  return path.join(cur, (await readdir(cur)).find((name) => name.includes(`.U${uid}_`))!);
}

async function everything(): Promise<string[]> {
  const entries = await readdir(bench.directory, { recursive: true, withFileTypes: true });
  return Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) => readFile(path.join(entry.parentPath, entry.name), 'latin1')),
  );
}

test('an account in order has no damage, however deep one looks, and is left as it was', async () => {
  const before = await readdir(cur);
  for (const repair of [false, true]) {
    expect(await check({ deep: true, repair })).toEqual({
      folders: 2,
      messages: 5,
      damage: 0,
      repaired: 0,
      findings: [],
      more: 0,
    });
  }
  expect(await readdir(cur)).toEqual(before);
  expect(await readdir(bench.directory)).not.toContain('quarantine');
});

test('an account that was not closed in order is said to have messages in the intake log, and keeps them', async () => {
  const left = await bench.open({ epoch: 1000 });
  const inbox = await left.folder('INBOX');
  await (inbox as StoredFolder).pending.hold(() => {});
  const { uid } = await put(inbox, 'in the log');
  const account = { directory: bench.directory, guard, limits, open: () => bench.open({ epoch: 1001 }) };
  const report = await checkAccount(account, { deep: true, repair: false }, now);
  expect(report).toMatchObject({ damage: 0, findings: [{ code: 'intake-open', kind: 'note' }] });
  const store = await bench.open({ epoch: 1002 });
  expect(await textOf(await store.folder('INBOX'), uid)).toBe('in the log');
  await store.close();
  await left.close();
});

interface Row {
  readonly name: string;
  readonly codes: readonly string[];
  readonly deep?: boolean;
  /** UIDs of INBOX after repairing. */
  readonly uids: readonly number[];
  /** Found again by a second check after repairing. */
  readonly stays?: boolean;
  readonly quarantined?: number;
  damage(): Promise<void>;
}

const rows: readonly Row[] = [
  {
    name: 'a message cut short',
    codes: ['size-differs'],
    uids: [1, 2, 3, 4],
    damage: async () => truncate(await fileOf(2), 14),
  },
  {
    name: 'a message cut to nothing',
    codes: ['message-empty'],
    uids: [1, 3, 4],
    quarantined: 1,
    damage: async () => truncate(await fileOf(2), 0),
  },
  {
    name: 'a message of NULs in the right length',
    codes: ['message-zeroed'],
    deep: true,
    uids: [1, 3, 4],
    quarantined: 1,
    damage: async () => writeFile(await fileOf(2), Buffer.alloc((await readFile(await fileOf(2))).length)),
  },
  {
    name: 'a name with a wrong count of CRLF bytes',
    codes: ['lines-differ'],
    deep: true,
    uids: [1, 2, 3, 4],
    damage: async () => {
      const file = await fileOf(2);
      await rename(file, file.replace(/W=\d+/, 'W=9999'));
    },
  },
  {
    name: 'a directory where a message should be',
    codes: ['not-a-file'],
    uids: [1, 2, 3, 4],
    quarantined: 1,
    damage: async () => void (await mkdir(path.join(cur, 'a-directory'))),
  },
  {
    name: 'two files with one UID',
    codes: ['uid-twice'],
    uids: [1, 2, 3, 4, 5],
    damage: async () => {
      const file = await fileOf(3);
      await writeFile(file.replace(/_[0-9a-f]{16}_/, '_ffffffffffffffff_'), await readFile(file));
    },
  },
  {
    name: 'a UID beyond what was reserved',
    codes: ['uid-beyond'],
    uids: [1, 2, 3, 5_000],
    damage: async () => {
      const file = await fileOf(4);
      await rename(file, file.replace('.U4_', '.U5000_'));
    },
  },
  {
    name: 'flipped lines in the journal',
    codes: ['journal-damaged'],
    uids: [1, 2, 3, 4],
    quarantined: 1,
    damage: async () => {
      const name = (await readdir(bench.directory)).find((entry) => entry.startsWith('journal.'))!;
      const file = path.join(bench.directory, name);
      const lines = (await readFile(file, 'latin1')).split('\n');
      lines[1] = lines[1]!.replace('{', '[');
      await writeFile(file, lines.join('\n'), 'latin1');
    },
  },
  {
    name: 'no journal at all',
    codes: ['journal-missing'],
    uids: [1, 2, 3, 4],
    damage: async () => {
      for (const name of await readdir(bench.directory)) {
        if (name.startsWith('journal.')) await rm(path.join(bench.directory, name));
      }
    },
  },
  {
    name: 'an owner file of nonsense',
    codes: ['fence-damaged'],
    uids: [1, 2, 3, 4],
    quarantined: 1,
    damage: async () => writeFile(path.join(bench.directory, 'owner'), 'nonsense'),
  },
  {
    name: 'a meta file of nonsense',
    codes: ['meta-damaged'],
    uids: [1, 2, 3, 4],
    quarantined: 1,
    damage: async () => writeFile(path.join(inner, 'postern-folder.json'), '{"format":1'),
  },
  {
    name: 'a folder without its new/',
    codes: ['directory-missing'],
    uids: [1, 2, 3, 4],
    damage: async () => rm(path.join(inner, '.Work.Deep/new'), { recursive: true }),
  },
  {
    name: 'a message that somebody removed',
    codes: ['messages-missing'],
    uids: [1, 3, 4],
    damage: async () => rm(await fileOf(2)),
  },
];

describe.each(rows)('$name', (row) => {
  test('is found, and looking changes nothing that was not changed by opening', async () => {
    await row.damage();
    const report = await check({ deep: row.deep ?? false });
    expect(report.findings.map((finding) => finding.code)).toEqual(row.codes);
    expect(report).toMatchObject({ damage: row.codes.length, repaired: 0 });
    expect(await readdir(bench.directory)).not.toContain('quarantine');
  });

  test('is repaired without losing a message, and then all is in order', async () => {
    await row.damage();
    const before = (await everything()).filter((text) => /Subject: \d/.test(text));
    const report = await check({ deep: row.deep ?? false, repair: true });
    expect(report.findings.map((finding) => finding.code)).toEqual(row.codes);
    const store: Store = await bench.open();
    const inbox = await store.folder('INBOX');
    expect([...inbox.uids()]).toEqual(row.uids);
    for (const uid of inbox.uids()) expect((await textOf(inbox, uid)).length).toBe(inbox.facts(uid)!.size);
    await store.close();
    const after = await everything();
    for (const text of before) expect(after).toContain(text);
    const place = path.join(bench.directory, 'quarantine/2026-01-02T03-04-05-678Z');
    const kept = row.quarantined
      ? (await readdir(place, { recursive: true, withFileTypes: true })).filter(
          (entry) => entry.isFile() || entry.name === 'a-directory',
        )
      : [];
    expect(kept).toHaveLength(row.quarantined ?? 0);
    expect((await check({ deep: true })).findings).toEqual([]);
  });
});

test('directories that are no folder names become folders, with what they mean where that can be told', async () => {
  for (const name of ['.Entwürfe', '.&AEE-', '.a..b', '.Cafe\u0301']) {
    for (const part of ['cur', 'new', 'tmp']) await mkdir(path.join(inner, name, part), { recursive: true });
    await writeFile(path.join(inner, name, 'new/1.x'), `Subject: in ${name}\n\n`);
  }
  expect((await check()).findings.map((finding) => finding.code)).toEqual(Array(4).fill('not-a-folder'));
  const report = await check({ repair: true });
  expect(report).toMatchObject({ damage: 4, repaired: 4, folders: 6 });
  const store = await bench.open();
  expect(
    store
      .listFolders()
      .filter((info) => info.selectable)
      .map((info) => info.name),
  ).toEqual(['INBOX', 'Café', 'Entwürfe', 'Recovered/AEE', 'Recovered/a b', 'Work/Deep']);
  expect(store.usage.messages).toBe(9);
  await store.close();
});

test('what is not damage is noted: unfinished deliveries, files without a UID, removals to come', async () => {
  await writeFile(path.join(inner, 'new/1.x'), 'Subject: n\n\n');
  await writeFile(path.join(inner, 'tmp/1700000000.P0123456789abcdefQ1.host'), 'half');
  const report = await check();
  expect(report.findings.map((finding) => finding.code)).toEqual(['messages-new', 'leftover']);
  expect(report.damage).toBe(0);
});

test('repairing does not change what an account in use shows', async () => {
  let store = await bench.open();
  const before = await contentsOf(await store.folder('INBOX'));
  await store.close();
  await check({ deep: true, repair: true });
  store = await bench.open();
  expect(await contentsOf(await store.folder('INBOX'))).toEqual(before);
  await store.close();
});
