/** CASES 97: `From ` in bodies, mixed line ends, foreign programs, torn ends. What folders of both formats share is in `store.test.ts`. */
import { execFile } from 'node:child_process';
import {
  appendFile,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Folder, flagBit, type Store } from '../../../../backend/store/store.ts';
import { makeDovecot } from '../dovecot/dovecot-rig.ts';
import { type Bench, contentsOf, makeBench, put, textOf } from '../store-fixture.ts';

const run = promisify(execFile);
let bench: Bench;
let store: Store;
let inbox: Folder;
let directory: string;
let mbox: string;

beforeEach(async () => {
  bench = await makeBench('mbox');
  directory = path.join(bench.directory, 'mbox/INBOX');
  mbox = path.join(directory, 'mbox');
  store = await bench.open();
  inbox = await store.folder('INBOX');
});

afterEach(async () => {
  await store.close();
  await bench.remove();
});

async function reopen(between?: () => Promise<unknown>): Promise<void> {
  await store.close();
  await between?.();
  store = await bench.open();
  inbox = await store.folder('INBOX');
}

async function texts(): Promise<[number, string][]> {
  const all: [number, string][] = [];
  for (const uid of inbox.uids()) all.push([uid, await textOf(inbox, uid)]);
  return all;
}

const add = async (text: string): Promise<number> => (await put(inbox, Buffer.from(text, 'latin1'))).uid;

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
  ['the beginning of From at the end', 'Subject: a\r\n\r\n>>Fro'],
  ['empty lines at the end', 'Subject: a\r\n\r\nx\r\n\r\n\r\n\r\n'],
  ['header alone', 'Subject: a\r\n'],
  ['nothing', ''],
  ['an empty line', '\r\n'],
  [
    'its own state lines',
    'Status: RO\r\nX-UID: 7\r\nX-IMAPbase: 1 2\r\nContent-Length: 3\r\nSubject: a\r\n\r\nbody is longer\r\n',
  ],
  ['a line of 300,000 bytes', `Subject: a\r\n\r\n${'x'.repeat(300_000)}\r\n>From ${'y'.repeat(70_000)}\r\n`],
  ['300,000 quotes before From', `Subject: a\r\n\r\n${'>'.repeat(300_000)}From ${'y'.repeat(70_000)}\r\n`],
  ['CRs where slices end', `Subject: a\r\n\r\n${'x'.repeat(262_129)}\r\n${'z\r\n'.repeat(200_000)}\r\r\n`],
  ['NUL and eight bits', 'Subject: a\r\n\r\n\0\xff\xfe\r\n'],
  [
    'a line that looks like one of ours',
    'Subject: a\r\n\r\n\r\nFrom 1.U9_0123456789abcdef_M1.h,S=1,W=1:2,;Fch Mon Jan  1 00:00:00 2024\r\nb\r\n',
  ],
];

describe('exact round trip', () => {
  test.each(nasty)('%s', async (_name, message) => {
    await add('Subject: before\r\n\r\n');
    const uid = await add(message);
    await add('Subject: after\r\n\r\n');
    const expected = [
      [1, 'Subject: before\r\n\r\n'],
      [2, message],
      [3, 'Subject: after\r\n\r\n'],
    ];
    expect(await texts()).toEqual(expected);
    await reopen();
    expect(await texts()).toEqual(expected);
    // Out of the middle of a file, and from a place it was moved to.
    await inbox.expunge([1]);
    await reopen();
    expect(await textOf(inbox, uid)).toBe(message);
    const opened = await inbox.open(uid);
    for (const [from, to] of [
      [0, 1],
      [7, 300_011],
      [message.length - 3, message.length + 9],
    ] as const) {
      expect((await opened.read(Math.max(0, from), to)).toString('latin1')).toBe(
        message.slice(Math.max(0, from), to),
      );
    }
    await opened.close();
    await reopen(() => rm(path.join(directory, 'mbox-index'), { force: true }));
    expect(await texts()).toEqual(expected.slice(1));
  });

  test('all of them in one mbox, seen by another program as so many messages', async () => {
    for (const [, message] of nasty) await add(message);
    expect((await texts()).map(([, message]) => message)).toEqual(nasty.map(([, message]) => message));
    const { stdout } = await run('python3', [
      '-c',
      `import mailbox; print(len(mailbox.mbox(${JSON.stringify(mbox)})))`,
    ]);
    expect(Number(stdout)).toBe(nasty.length);
  });
});

describe('other programs', () => {
  test('what another program appends appears once with the next UID, its state lines not shown and its flags taken', async () => {
    await add('Subject: ours\r\n\r\nbody\r\n');
    const script = [
      'import mailbox',
      `box = mailbox.mbox(${JSON.stringify(mbox)})`,
      'box.lock()',
      'message = mailbox.mboxMessage("Subject: theirs\\n\\nFrom them\\nX\\n")',
      'message.set_flags("ROF")',
      'box.add(message)',
      'first = box[0]',
      'first.set_flags("ROA")',
      'box[0] = first',
      'box.flush()',
      'box.unlock()',
    ].join('\n');
    await run('python3', ['-c', script]);
    const seen: unknown[] = [];
    inbox.watch((event) => seen.push(event));
    await inbox.refresh();
    await inbox.refresh();
    expect(seen).toEqual([{ kind: 'added', uids: [2] }]);
    const [ours, theirs] = await texts();
    expect(ours).toEqual([1, 'Subject: ours\r\n\r\nbody\r\n']);
    expect(theirs![1]).toMatch(/^Subject: theirs\r\n\r\n>?From them\r\nX\r\n/);
    expect(theirs![1].length).toBe(inbox.facts(2)!.size);
    expect(inbox.flagsOf(2)).toBe(flagBit.seen | flagBit.flagged);
    expect(await readFile(mbox, 'latin1')).toMatch(/^Status: RO/m);
    await add('Subject: more\r\n\r\n');
    const before = await contentsOf(inbox);
    expect([...inbox.uids()]).toEqual([1, 2, 3]);
    await reopen();
    expect(await contentsOf(inbox)).toEqual(before);
    // With all of it rewritten the message has its name in the file, and is the same.
    await inbox.expunge([1]);
    await reopen();
    expect(await readFile(mbox, 'latin1')).toMatch(/^From \d+\.U2_/);
    expect([...inbox.uids()]).toEqual([2, 3]);
    expect(await textOf(inbox, 2)).toBe(theirs![1]);
  });

  test('messages alike are told apart, and one that another program removes is gone', async () => {
    const alike = 'From a Mon Jan  1 00:00:00 2024\nSubject: alike\n\nx\n\n';
    await appendFile(mbox, alike + alike);
    await inbox.refresh();
    await appendFile(mbox, alike);
    await inbox.refresh();
    expect([...inbox.uids()]).toEqual([1, 2, 3]);
    await reopen();
    expect([...inbox.uids()]).toEqual([1, 2, 3]);
    await writeFile(mbox, alike + alike);
    const seen: unknown[] = [];
    inbox.watch((event) => seen.push(event));
    await inbox.refresh();
    expect(inbox.count).toBe(2);
    expect(seen).toHaveLength(1);
    await appendFile(mbox, alike);
    await inbox.refresh();
    expect([...inbox.uids()].at(-1)).toBe(4);
  });

  test('many at once get their names into the file', async () => {
    let text = '';
    for (let index = 0; index < 500; index++) {
      text += `From a Mon Jan  1 00:00:00 2024\nSubject: ${index}\n\nbody of ${index}\n\n`;
    }
    await reopen(() => writeFile(mbox, text));
    expect(inbox.count).toBe(500);
    expect((await readFile(mbox, 'latin1')).match(/^From \d+\.U\d+_/gm)).toHaveLength(500);
    expect(await textOf(inbox, 77)).toBe('Subject: 76\r\n\r\nbody of 76\r\n');
    const before = await contentsOf(inbox);
    await reopen(async () => {
      for (const name of await readdir(bench.directory)) {
        if (name.startsWith('journal')) await unlink(path.join(bench.directory, name));
      }
    });
    // Without the journal the names in the file are all there is: same UIDs, same messages.
    const after = await contentsOf(inbox);
    expect(after).toMatchObject({ messages: (before as { messages: unknown[] }).messages });
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
      const theirs = await readFile(path.join(dovecot.directory, 'inbox'));
      await store.close();
      await bench.remove();
      await mkdir(directory, { recursive: true });
      await writeFile(mbox, theirs);
      store = await bench.open();
      inbox = await store.folder('INBOX');
      expect(inbox.uidValidity).toBe(before.uidValidity);
      expect([...inbox.uids()].map((uid) => [uid, inbox.facts(uid)!.internalDateMs / 1000])).toEqual(
        before.messages.map((message) => [message.uid, message.seconds]),
      );
      expect(inbox.uidNext).toBeGreaterThan(before.messages.at(-1)!.uid);
      for (const { uid, text: shown } of before.messages) expect(await textOf(inbox, uid)).toBe(shown);
      await add('Subject: four\r\n\r\nbody\r\n');
      await inbox.expunge([1]);
      await reopen();
      // Its index is about the mbox as it was.
      await rm(`${dovecot.directory}/mail`, { recursive: true });
      await writeFile(path.join(dovecot.directory, 'inbox'), await readFile(mbox));
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
    await appendFile(
      mbox,
      'From a Mon Jan  1 00:00:00 2024\nSubject: a\nContent-Length: 100000\n\nbody\n\nFrom nowhere\n\nFrom b Tue Jan  2 00:00:00 +0100 2024\nSubject: b\n\n',
    );
    await inbox.refresh();
    expect(await texts()).toEqual([
      [1, 'Subject: a\r\n\r\nbody\r\n\r\nFrom nowhere\r\n'],
      [2, 'Subject: b\r\n'],
    ]);
  });

  test('a name another program made up is not believed', async () => {
    await add('Subject: ours\r\n\r\n');
    const line = (uid: number): string =>
      `From 1700000000.U${uid}_0123456789abcdef_M5.h,S=12,W=14:2,;Fch Tue Nov 14 22:13:20 2023\n`;
    await appendFile(mbox, `${line(4_000_000_000)}Subject: x\n\n\n${line(1)}Subject: y\n\n\n`);
    await inbox.refresh();
    expect((await texts()).slice(0, 1)).toEqual([[1, 'Subject: ours\r\n\r\n']]);
    expect([...inbox.uids()]).toEqual([1, 2, 3]);
    expect(await add('Subject: next\r\n\r\n')).toBe(4);
    await reopen();
    expect([...inbox.uids()]).toEqual([1, 2, 3, 4]);
  });

  test('mutt reads it, deletes a message and marks another; nothing else changes', async () => {
    for (const name of ['one', 'two', 'three'])
      await add(`Subject: ${name}\r\nFrom: a@b\r\n\r\nbody ${name}\r\n`);
    await store.close();
    const rc = path.join(bench.directory, 'muttrc');
    await writeFile(
      rc,
      [
        'set mark_old=no delete=yes quit=yes move=no wait_key=no confirmappend=no sleep_time=0',
        `set folder="${bench.directory}" record="" mbox="${bench.directory}/none"`,
        'push "<delete-message><next-entry><flag-message><sync-mailbox><exit>"',
        '',
      ].join('\n'),
    );
    const child = execFile('script', ['-qec', `mutt -n -F ${rc} -f ${mbox}`, '/dev/null'], {
      env: { ...process.env, HOME: bench.directory, TERM: 'xterm' },
    });
    child.stdin!.end();
    await new Promise((resolve) => child.once('exit', resolve));
    store = await bench.open();
    inbox = await store.folder('INBOX');
    expect(await texts()).toEqual([
      [2, 'Subject: two\r\nFrom: a@b\r\n\r\nbody two\r\n'],
      [3, 'Subject: three\r\nFrom: a@b\r\n\r\nbody three\r\n'],
    ]);
  });
});

describe('locks', () => {
  test('a held dotlock is waited for; one left by a dead process is taken', async () => {
    await writeFile(`${mbox}.lock`, `999999999\n${hostname()}\n`);
    await add('Subject: one\r\n\r\n');
    await writeFile(`${mbox}.lock`, 'somebody');
    let released = false;
    setTimeout(() => {
      released = true;
      void unlink(`${mbox}.lock`);
    }, 150);
    await add('Subject: two\r\n\r\n');
    expect(released).toBe(true);
  });

  test("a program that takes the kernel's lock alone is waited for, and waits for us", async () => {
    await add('Subject: one\r\n\r\n');
    // Takes the lock, says so, appends late, lets go.
    const script = [
      'import fcntl, sys, time',
      `f = open(${JSON.stringify(mbox)}, "r+")`,
      'fcntl.lockf(f, fcntl.LOCK_EX)',
      'print("locked", flush=True)',
      'sys.stdin.readline()',
      'f.seek(0, 2)',
      'f.write("From them Mon Jan  1 00:00:00 2024\\nSubject: theirs\\n\\n")',
      'time.sleep(0.2)',
      'f.write("their body\\n\\n")',
      'f.flush()',
      'fcntl.lockf(f, fcntl.LOCK_UN)',
    ].join('\n');
    const child = execFile('python3', ['-c', script]);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    let added = false;
    const adding = add('Subject: two\r\n\r\n').then((uid) => {
      added = true;
      return uid;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(added).toBe(false);
    child.stdin!.write('go\n');
    expect(await adding).toBe(3);
    await ended;
    expect(await texts()).toEqual([
      [1, 'Subject: one\r\n\r\n'],
      [2, 'Subject: theirs\r\n\r\ntheir body\r\n'],
      [3, 'Subject: two\r\n\r\n'],
    ]);
  });

  test('procmail delivers beside us, message for message', async () => {
    const rc = path.join(bench.directory, 'procmailrc');
    await writeFile(rc, `LOCKSLEEP=1\nLOGFILE=/dev/null\n:0:\n${mbox}\n`);
    const theirs = Array.from({ length: 8 }, async (_, index) => {
      const child = execFile('procmail', ['-m', rc]);
      child.stdin!.end(`From x Mon Jan  1 00:00:00 2024\nSubject: theirs ${index}\n\nFrom body\n`);
      await new Promise((resolve) => child.once('exit', resolve));
    });
    const ours = (async () => {
      for (let index = 0; index < 20; index++) await add(`Subject: ours ${index}\r\n\r\n`);
    })();
    await Promise.all([...theirs, ours]);
    await inbox.refresh();
    const subjects = (await texts()).map(([, text]) => text.slice(9, text.indexOf('\r\n')));
    const expected = [...Array(20).keys()].map((index) => `ours ${index}`);
    expect(subjects.toSorted()).toEqual(
      [...expected, ...[...Array(8).keys()].map((index) => `theirs ${index}`)].sort(),
    );
    expect(new Set(inbox.uids()).size).toBe(28);
  }, 60_000);
});

describe('torn ends', () => {
  test('an append torn anywhere is cut off, and its UID is not given again', async () => {
    await add('Subject: one\r\n\r\nbody\r\n');
    const before = (await stat(mbox)).size;
    await add('Subject: two\r\n\r\nFrom body two\r\n');
    const whole = await readFile(mbox);
    const journals = (await readdir(bench.directory)).filter((name) => name.startsWith('journal.'));
    const journal = await readFile(path.join(bench.directory, journals[0]!));
    await store.close();
    for (let size = before; size <= whole.length; size += size < whole.length - 40 ? 7 : 1) {
      for (const name of await readdir(bench.directory)) {
        if (name.startsWith('journal.')) await unlink(path.join(bench.directory, name));
      }
      const epoch = Number(
        (JSON.parse(await readFile(path.join(bench.directory, 'owner'), 'utf8')) as { epoch: number }).epoch,
      );
      await writeFile(path.join(bench.directory, `journal.${epoch}`), journal);
      // Half of the time as a power cut leaves it: the length is there, and the bytes are not.
      const zeros = size % 2 === 0 ? Buffer.alloc(whole.length - size) : Buffer.alloc(0);
      await writeFile(mbox, Buffer.concat([whole.subarray(0, size), zeros]));
      store = await bench.open();
      inbox = await store.folder('INBOX');
      // The empty line behind a message is not its own.
      const there = size >= whole.length - 1;
      expect([size, [...inbox.uids()]]).toEqual([size, there ? [1, 2] : [1]]);
      expect(await textOf(inbox, 1)).toBe('Subject: one\r\n\r\nbody\r\n');
      expect(inbox.uidNext).toBeGreaterThan(2);
      const uid = await add('Subject: three\r\n\r\n');
      expect(uid).toBeGreaterThan(2);
      expect(await textOf(inbox, uid)).toBe('Subject: three\r\n\r\n');
      await store.close();
    }
    store = await bench.open();
  }, 60_000);

  test('without its index, its meta file or its journal no message is lost', async () => {
    for (const subject of ['one', 'two', 'three']) await add(`Subject: ${subject}\r\n\r\n`);
    await inbox.changeFlags([2], { how: 'add', flags: flagBit.seen, keywords: ['k'] });
    const { uidValidity, mailboxId } = inbox;
    const before = await texts();
    await reopen(() => unlink(path.join(directory, 'postern-folder.json')));
    expect([inbox.uidValidity, inbox.mailboxId]).toEqual([uidValidity, mailboxId]);
    expect(await texts()).toEqual(before);
    expect(inbox.facts(2)).toMatchObject({ flags: flagBit.seen, keywords: ['k'] });
    await reopen(async () => {
      for (const name of await readdir(bench.directory)) {
        if (name.startsWith('journal.')) await truncate(path.join(bench.directory, name));
      }
      await unlink(path.join(directory, 'postern-folder.json'));
    });
    expect(await texts()).toEqual(before);
  });
});
