/** CASES 97: `From ` in bodies, mixed line ends, foreign programs, and crashes at every step. */
import { execFile } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { cp, mkdtemp, open, readFile, rm, stat, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { MboxFile } from '../../../../backend/store/mbox/mbox-file.ts';
import { makeDovecot } from '../dovecot/dovecot-rig.ts';

const run = promisify(execFile);
let directory: string;
let mbox: string;
let clock: number;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-mbox-'));
  mbox = path.join(directory, 'box');
  clock = 1_700_000_000;
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const openBox = (mayAct: () => void = () => {}): Promise<MboxFile> =>
  MboxFile.open(mbox, () => ++clock, mayAct);

async function add(box: MboxFile, text: string, seconds = 1_600_000_000): Promise<number> {
  const source = path.join(directory, 'source');
  await writeFile(source, text, 'latin1');
  const handle = await open(source);
  try {
    return (await box.append(handle.fd, text.length, seconds)).uid;
  } finally {
    await handle.close();
  }
}

async function text(box: MboxFile, uid: number): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of box.read(uid)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces).toString('latin1');
}

async function contents(box: MboxFile): Promise<[number, string][]> {
  const all: [number, string][] = [];
  for (const { uid } of box.entries) all.push([uid, await text(box, uid)]);
  return all;
}

const nasty: readonly (readonly [string, string])[] = [
  ['plain', 'Subject: a\r\n\r\nbody\r\n'],
  [
    'From in the body',
    'Subject: a\r\n\r\nFrom here on\r\n\r\nFrom x Mon Jan  1 00:00:00 2024\r\n>From y\r\n>>From z\r\n',
  ],
  ['From in the header', 'From ann Mon Jan  1 00:00:00 2024\r\nSubject: a\r\n\r\nb\r\n'],
  ['bare LF', 'Subject: a\n\nFrom b\n\n'],
  ['mixed ends', 'Subject: a\r\n\r\none\ntwo\r\nFrom three\n'],
  ['CR CR LF and bare CR', 'Subject: a\r\n\r\none\r\r\ntwo\rthree\r\n'],
  ['no end of line at the end', 'Subject: a\r\n\r\nFrom no end'],
  ['a CR at the end', 'Subject: a\r\n\r\nx\r'],
  ['empty lines at the end', 'Subject: a\r\n\r\nx\r\n\r\n\r\n\r\n'],
  ['header alone', 'Subject: a\r\n'],
  ['nothing', ''],
  ['an empty line', '\r\n'],
  [
    'its own state lines',
    'Status: RO\r\nX-UID: 7\r\nX-IMAPbase: 1 2\r\nContent-Length: 3\r\nSubject: a\r\n\r\nbody is longer\r\n',
  ],
  ['a line of 300,000 bytes', `Subject: a\r\n\r\n${'x'.repeat(300_000)}\r\n>From ${'y'.repeat(70_000)}\r\n`],
  ['a CR where a slice ends', `Subject: a\r\n\r\n${'x'.repeat(65_535 - 0)}\r\n${'z'.repeat(65_534)}\r\r\n`],
  ['NUL and eight bits', 'Subject: a\r\n\r\n\0\xff\xfe\r\n'],
];

describe('exact round trip', () => {
  test.each(nasty)('%s', async (_name, message) => {
    let box = await openBox();
    await add(box, 'Subject: before\r\n\r\n');
    const uid = await add(box, message);
    await add(box, 'Subject: after\r\n\r\n');
    expect(await text(box, uid)).toBe(message);
    box = await openBox();
    expect(await contents(box)).toEqual([
      [1, 'Subject: before\r\n\r\n'],
      [2, message],
      [3, 'Subject: after\r\n\r\n'],
    ]);
    expect(await box.expunge(new Set([1]))).toEqual([1]);
    await utimes(mbox, 1, 1);
    box = await openBox();
    expect(await text(box, uid)).toBe(message);
    expect(box.entries.map((entry) => entry.seconds)).toEqual([1_600_000_000, 1_600_000_000]);
  });

  test('all of them in one mbox, seen by another program as so many messages', async () => {
    const box = await openBox();
    for (const [, message] of nasty) await add(box, message);
    expect((await contents(box)).map(([, message]) => message)).toEqual(nasty.map(([, message]) => message));
    const { stdout } = await run('python3', [
      '-c',
      `import mailbox; print(len(mailbox.mbox(${JSON.stringify(mbox)})))`,
    ]);
    expect(Number(stdout)).toBe(nasty.length);
  });
});

describe('other programs', () => {
  test('what another program appends and changes is noticed, and its state lines are not shown', async () => {
    const box = await openBox();
    await add(box, 'Subject: ours\r\n\r\nbody\r\n');
    const script = [
      'import mailbox',
      `box = mailbox.mbox(${JSON.stringify(mbox)})`,
      'box.lock()',
      'message = mailbox.mboxMessage("Subject: theirs\\n\\nFrom them\\nX\\n")',
      'message.set_flags("RO")',
      'box.add(message)',
      'first = box[0]',
      'first.set_flags("ROA")',
      'box[0] = first',
      'box.flush()',
      'box.unlock()',
    ].join('\n');
    await run('python3', ['-c', script]);
    expect(await box.refresh()).toEqual({ added: [2], gone: [] });
    const [ours, theirs] = await contents(box);
    expect(ours).toEqual([1, 'Subject: ours\r\n\r\nbody\r\n']);
    expect(theirs![1]).toMatch(/^Subject: theirs\r\n\r\n>?From them\r\nX\r\n/);
    expect(theirs![1].length).toBe(box.entries[1]!.size);
    expect(await readFile(mbox, 'latin1')).toMatch(/^Status: RO/m);
    await add(box, 'Subject: more\r\n\r\n');
    expect((await contents(box)).map(([uid]) => uid)).toEqual([1, 2, 3]);
  });

  test("Dovecot's UIDs are taken over, and it reads what was appended", async () => {
    const dovecot = await makeDovecot();
    try {
      const settings = `mail_location = mbox:${dovecot.directory}/mail:INBOX=${dovecot.directory}/inbox\nmail_privileged_group =`;
      let session = await dovecot.connect(settings);
      for (const subject of ['one', 'two', 'three']) {
        const message = `Subject: ${subject}\r\n\r\nFrom x\r\n`;
        await session.append('INBOX', '\\Seen', '01-Mar-2019 10:00:00 +0000', message);
      }
      await session.ask('SELECT INBOX');
      await session.ask('UID STORE 2 +FLAGS (\\Deleted)');
      await session.ask('EXPUNGE');
      const before = await session.see('INBOX');
      await session.end();
      mbox = path.join(dovecot.directory, 'inbox');
      const box = await openBox();
      expect(box.uidValidity).toBe(before.uidValidity);
      expect(box.entries.map((entry) => [entry.uid, entry.seconds])).toEqual(
        before.messages.map((message) => [message.uid, message.seconds]),
      );
      for (const { uid, text: shown } of before.messages) expect(await text(box, uid)).toBe(shown);
      await add(box, 'Subject: four\r\n\r\nbody\r\n');
      await box.expunge(new Set([1]));
      // Its index is about the mbox as it was.
      await rm(`${dovecot.directory}/mail`, { recursive: true });
      session = await dovecot.connect(settings);
      const after = await session.see('INBOX');
      expect(after.messages.map((message) => message.text)).toEqual([
        before.messages[1]!.text,
        'Subject: four\r\n\r\nbody\r\n',
      ]);
      await session.end();
    } finally {
      await dovecot.remove();
    }
  });

  test('a wrong Content-Length hides nothing, and From without a date begins nothing', async () => {
    await writeFile(
      mbox,
      'From a Mon Jan  1 00:00:00 2024\nSubject: a\nContent-Length: 100000\n\nbody\n\nFrom nowhere\n\nFrom b Tue Jan  2 00:00:00 +0100 2024\nSubject: b\n\n',
    );
    const box = await openBox();
    expect(await contents(box)).toEqual([
      [1, 'Subject: a\r\n\r\nbody\r\n\r\nFrom nowhere\r\n'],
      [2, 'Subject: b\r\n'],
    ]);
  });

  test('a writer that does not lock is noticed before the file is replaced', async () => {
    const theirs = 'From b Tue Jan  2 00:00:00 2024\nSubject: theirs\n\n\n';
    let armed = false;
    let writes = 0;
    const box = await openBox(() => {
      // Asked right before the mbox would be replaced.
      if (!armed) return;
      armed = false;
      writes++;
      appendFileSync(mbox, theirs);
    });
    await add(box, 'Subject: one\r\n\r\n');
    await add(box, 'Subject: two\r\n\r\n');
    armed = true;
    expect(await box.expunge(new Set([1]))).toEqual([1]);
    expect((await contents(box)).map(([, message]) => message)).toEqual([
      'Subject: two\r\n\r\n',
      'Subject: theirs\r\n\r\n',
    ]);
    expect(writes).toBe(1);
  });

  test('a held dotlock is waited for; one left by a dead process is taken', async () => {
    const box = await openBox();
    await writeFile(`${mbox}.lock`, `999999999\n${hostname()}\n`);
    await add(box, 'Subject: one\r\n\r\n');
    await writeFile(`${mbox}.lock`, 'somebody');
    setTimeout(() => void unlink(`${mbox}.lock`), 150);
    const started = performance.now();
    await add(box, 'Subject: two\r\n\r\n');
    expect(performance.now() - started).toBeGreaterThan(100);
  });
});

describe('crashes', () => {
  test('an append torn anywhere is cut off, keeps a copy, and its UID is not given again', async () => {
    let box = await openBox();
    await add(box, 'Subject: one\r\n\r\nbody\r\n');
    const before = (await stat(mbox)).size;
    await cp(`${mbox}.postern`, `${mbox}.side`);
    await add(box, 'Subject: two\r\n\r\nbody two\r\n');
    const side = await readFile(`${mbox}.postern`, 'latin1');
    const announcedOnly = side.slice(0, side.lastIndexOf('\n', side.length - 2) + 1);
    const whole = await readFile(mbox);
    for (let size = before; size <= whole.length; size++) {
      await writeFile(mbox, whole.subarray(0, size));
      await writeFile(`${mbox}.postern`, announcedOnly, 'latin1');
      await rm(`${mbox}.torn-2`, { force: true });
      box = await openBox();
      const there = size === whole.length;
      expect(box.entries.map((entry) => entry.uid)).toEqual(there ? [1, 2] : [1]);
      expect(box.uidNext).toBe(3);
      expect((await readFile(mbox)).length).toBe(there ? whole.length : before);
      if (size > before && !there) expect((await readFile(`${mbox}.torn-2`)).length).toBe(size);
      expect(await add(box, 'Subject: three\r\n\r\n')).toBe(3);
      expect(await text(box, 1)).toBe('Subject: one\r\n\r\nbody\r\n');
      expect(await text(box, 3)).toBe('Subject: three\r\n\r\n');
    }
  });

  test('a message of NULs, as a power cut leaves it, is not shown', async () => {
    let box = await openBox();
    await add(box, 'Subject: one\r\n\r\nbody\r\n');
    const before = await readFile(mbox);
    await add(box, 'Subject: two\r\n\r\nbody two\r\n');
    const { length } = await readFile(mbox);
    await writeFile(mbox, Buffer.concat([before, Buffer.alloc(length - before.length)]));
    const side = await readFile(`${mbox}.postern`, 'latin1');
    await writeFile(`${mbox}.postern`, side.slice(0, side.lastIndexOf('\n', side.length - 2) + 1), 'latin1');
    box = await openBox();
    expect(await contents(box)).toEqual([[1, 'Subject: one\r\n\r\nbody\r\n']]);
  });

  test('an expunge of one of two messages alike, broken off at any step, is done or not done', async () => {
    let box = await openBox();
    for (let index = 0; index < 3; index++) await add(box, 'Subject: alike\r\n\r\n');
    const names = ['', '.postern', '.postern-next', '.postern-new'];
    // The steps of a replacing, taken apart: what is there after each.
    const files = async (): Promise<(Buffer | undefined)[]> =>
      Promise.all(names.map((name) => readFile(mbox + name).catch(() => undefined)));
    const before = await files();
    let calls = 0;
    const dying = await MboxFile.open(
      mbox,
      () => ++clock,
      () => {
        if (++calls > 1) throw new Error('killed here');
      },
    ).catch(() => undefined);
    await expect(dying?.expunge(new Set([1]))).rejects.toThrow('killed here');
    // Killed with the next state written and the mbox not replaced: not done.
    box = await openBox();
    expect(box.entries.map((entry) => entry.uid)).toEqual([1, 2, 3]);
    expect((await files())[2]).toBeUndefined();
    // Killed between the renames: done.
    await box.expunge(new Set([1]));
    const after = await files();
    await writeFile(`${mbox}.postern-next`, after[1]!);
    await writeFile(`${mbox}.postern`, before[1]!);
    box = await openBox();
    expect(box.entries.map((entry) => entry.uid)).toEqual([2, 3]);
    expect(box.uidNext).toBe(4);
  });

  test('without the file beside it, or with a damaged one, no message is lost', async () => {
    let box = await openBox();
    for (const subject of ['one', 'two', 'three']) await add(box, `Subject: ${subject}\r\n\r\n`);
    const { uidValidity } = box;
    const side = await readFile(`${mbox}.postern`, 'latin1');
    await writeFile(`${mbox}.postern`, side.replace('"uid":2', '"uid":9'), 'latin1');
    box = await openBox();
    expect(box.uidValidity).toBe(uidValidity);
    expect(box.entries.map((entry) => entry.uid)).toEqual([1, 3, 4]);
    await truncate(`${mbox}.postern`, 10);
    box = await openBox();
    expect(box.uidValidity).not.toBe(uidValidity);
    expect((await contents(box)).map(([, message]) => message)).toEqual([
      'Subject: one\r\n\r\n',
      'Subject: two\r\n\r\n',
      'Subject: three\r\n\r\n',
    ]);
  });
});
