/** CASES 95: caches and the journal truncated, zeroed, flipped, deleted. Messages stay, and UIDs are never reused. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { formatRecord, type JournalRecord, readRecords } from '../../../backend/store/journal-records.ts';
import { flagBit } from '../../../backend/store/store.ts';
import { type Bench, makeBench, put, textOf } from './store-fixture.ts';

let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
});

afterEach(async () => {
  await bench.remove();
});

async function journalFile(): Promise<string> {
  const names = (await readdir(bench.directory)).filter((name) => name.startsWith('journal.'));
  expect(names).toHaveLength(1);
  return path.join(bench.directory, names[0]!);
}

/** What a journal holds before the zeros at its end. */
async function usedOf(file: string): Promise<Buffer> {
  const data = await readFile(file);
  return data.subarray(0, readRecords(data).usedBytes);
}

const damages: Record<string, (file: string) => Promise<void>> = {
  deleted: (file) => rm(file),
  emptied: (file) => writeFile(file, ''),
  zeroed: async (file) => writeFile(file, Buffer.alloc((await readFile(file)).length)),
  'cut in the middle of a line': async (file) => {
    const data = await usedOf(file);
    await writeFile(file, data.subarray(0, data.length - 7));
  },
  'cut to half': async (file) => {
    const data = await usedOf(file);
    await writeFile(file, data.subarray(0, data.length >> 1));
  },
  'flipped in its first records': async (file) => {
    const data = await readFile(file);
    data[120]! ^= 0x10;
    await writeFile(file, data);
  },
  'zeroed in its second half': async (file) => {
    const data = await usedOf(file);
    await writeFile(file, data.fill(0, data.length >> 1));
  },
  'flipped in the zeros behind its records': async (file) => {
    const data = await readFile(file);
    data[data.length - 60]! ^= 0x01;
    await writeFile(file, data);
  },
  'flipped in its last records': async (file) => {
    const data = await usedOf(file);
    data[data.length - 60]! ^= 0x01;
    await writeFile(file, data);
  },
  'replaced by noise': (file) =>
    writeFile(file, Buffer.from('\x00\xff\n{"t":"gone"}\nxxxxxxxx {}\n', 'latin1')),
};

describe('a journal that was', () => {
  test.each(Object.keys(damages))('%s: same messages, UIDs and flags; no UID given again', async (name) => {
    const store = await bench.open();
    const inbox = await store.folder('INBOX');
    for (let index = 0; index < 6; index++) await put(inbox, `m${index}`);
    await inbox.changeFlags([1, 3], { how: 'add', flags: flagBit.seen, keywords: [] });
    await inbox.changeFlags([4], { how: 'set', flags: flagBit.flagged, keywords: [] });
    await inbox.expunge([2, 6]);
    const { uidValidity, mailboxId, highestModseq } = inbox;
    await store.close();
    await damages[name]!(await journalFile());

    for (let round = 0; round < 2; round++) {
      const again = await bench.open();
      const folder = await again.folder('INBOX');
      expect(folder.uidValidity).toBe(uidValidity);
      expect(folder.mailboxId).toBe(mailboxId);
      expect([...folder.uids()].slice(0, 4)).toEqual([1, 3, 4, 5]);
      expect([1, 3, 4, 5].map((uid) => folder.flagsOf(uid))).toEqual([1, 1, flagBit.flagged, 0]);
      expect(await textOf(folder, 5)).toBe('m4');
      const { uid } = await put(folder, 'new');
      expect(uid).toBeGreaterThan(6);
      expect(folder.highestModseq).toBeGreaterThan(highestModseq);
      await again.close();
    }
  });
});

test('a lost postern-folder.json is made again with the same UIDVALIDITY while the journal knows it', async () => {
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  const child = await store.createFolder('a/b');
  await put(inbox, 'x');
  await put(child, 'y', { keywords: ['k'] });
  await store.close();
  await rm(path.join(bench.directory, 'Maildir/postern-folder.json'));
  await writeFile(path.join(bench.directory, 'Maildir/.a.b/postern-folder.json'), '{"format":1');
  const again = await bench.open();
  for (const before of [inbox, child]) {
    const after = await again.folder(before.name);
    expect([after.uidValidity, after.mailboxId]).toEqual([before.uidValidity, before.mailboxId]);
  }
  expect((await again.folder('a/b')).facts(1)!.keywords).toEqual(['k']);
  await again.close();
});

test('an emptied journal of an emptied folder gives no UID again', async () => {
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  for (let index = 0; index < 5; index++) await put(inbox, `m${index}`);
  await inbox.expunge([1, 2, 3, 4, 5]);
  await store.close();
  const file = await journalFile();
  await writeFile(file, Buffer.alloc((await readFile(file)).length));
  const again = await bench.open();
  expect((await put(await again.folder('INBOX'), 'new')).uid).toBeGreaterThan(5);
  await again.close();
});

test('with postern-folder.json and the journal both gone UIDs are kept and UIDVALIDITY is a new one', async () => {
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  await put(inbox, 'x');
  await put(inbox, 'y');
  await inbox.expunge([1]);
  await store.close();
  await rm(path.join(bench.directory, 'Maildir/postern-folder.json'));
  await rm(await journalFile());
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const again = await bench.open();
  const folder = await again.folder('INBOX');
  expect([...folder.uids()]).toEqual([2]);
  expect(folder.uidValidity).not.toBe(inbox.uidValidity);
  await again.close();
});

test('a damaged owner file does not lock the account', async () => {
  await (await bench.open()).close();
  await writeFile(path.join(bench.directory, 'owner'), '{"epoch":');
  await (await bench.open()).close();
});

describe('journal lines', () => {
  const records: JournalRecord[] = [
    { t: 'uidvalidity', n: 1 },
    { t: 'forget', k: 'é\n"' },
    { t: 'uidvalidity', n: 3 },
  ];
  const whole = Buffer.from(records.map(formatRecord).join(''));

  test('are read as they were written', () => {
    const read = { records, usedBytes: whole.length, goodBytes: whole.length, damagedLines: 0, torn: false };
    expect(readRecords(whole)).toEqual(read);
    expect(readRecords(Buffer.concat([whole, Buffer.alloc(5000)]))).toEqual(read);
  });

  test('cut anywhere give the lines before the cut', () => {
    for (let cut = 0; cut < whole.length; cut++) {
      const read = readRecords(whole.subarray(0, cut));
      expect(records.slice(0, read.records.length)).toEqual(read.records);
      expect(read.goodBytes <= cut && read.damagedLines === 0).toBe(true);
      expect(read.torn).toBe(cut !== read.goodBytes);
    }
  });

  test('flipped in any one bit lose at most two lines and invent none', () => {
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const data = Buffer.from(whole);
      data[bit >> 3]! ^= 1 << (bit & 7);
      const read = readRecords(data);
      expect(read.records.length).toBeGreaterThanOrEqual(1);
      for (const record of read.records) expect(records).toContainEqual(record);
    }
  });
});

test('the journal is rewritten before it grows without bound, and says the same', async () => {
  const store = await bench.open();
  const inbox = await store.folder('INBOX');
  for (let index = 0; index < 20; index++) await put(inbox, `m${index}`);
  for (let index = 0; index < 3000; index++) {
    const change = {
      how: index % 2 ? 'remove' : 'add',
      flags: 1 << (index % 5),
      keywords: [`k${index % 7}`],
    } as const;
    void inbox.changeFlags([1 + (index % 20)], change);
  }
  await inbox.changeFlags([20], { how: 'add', flags: 2, keywords: [] });
  const facts = [...inbox.uids()].map((uid) => inbox.facts(uid));
  await store.close();
  const again = await bench.open();
  const folder = await again.folder('INBOX');
  expect([...folder.uids()].map((uid) => folder.facts(uid))).toEqual(facts);
  await again.close();
  expect((await readFile(await journalFile())).length).toBeLessThan(300_000);
});
