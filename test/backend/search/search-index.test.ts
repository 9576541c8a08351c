/** A search with the index finds what a search without it finds, in whatever state the index is. */
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { indexThread } from '../../../backend/store/search/index-thread.ts';
import { decodeBody } from '../../../mailwire/mime/transfer-encoding.ts';
import { corpus } from '../../support/corpus.ts';
import { type RandomSource, randomSource } from '../../support/random.ts';
import { openRig, type Rig } from './search-rig.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Mail whose text is not what its bytes show, or that is made to hurt. */
const strange: (Buffer | string)[] = [
  `Subject: =?utf-8?b?${base64('Grüße aus Zürich')}?=\r\n\r\nx\r\n`,
  'Subject: =?iso-8859-1?q?caf=E9_cr=E8me?=\r\nX-Deep: =?utf-8?q?=CE=A3=CE=AF=CF=83=CF=85=CF=86=CE=BF=CF=82?=\r\n\r\nx\r\n',
  `Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n${base64('ΟΔΥΣΣΕΥΣ και Σίσυφος: Straße, İstanbul, \u{1f600} smile')}\r\n`,
  'Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F0=D2=C9=D7=C5=D4, =CD=C9=D2\r\n',
  `Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n${base64('before\0after the nul')}\r\n`,
  `Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?inner_s=C3=BCbject?=\r\n\r\ninner body\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>hyper</b>text\r\n--b\r\nContent-Type: application/pdf\r\n\r\nnotsearched\r\n--b--\r\n`,
  `Subject: ${'quote"quote AND OR NOT ( * ^ NEAR'}\r\n\r\nx\r\n`,
  `Content-Type: multipart/mixed; boundary=${'z'.repeat(60_000)}\r\n\r\nx\r\n`,
  `Subject: nested\r\n${Array.from({ length: 2000 }, (_, at) => `Content-Type: multipart/mixed; boundary=n${at}\r\n\r\n--n${at}\r\n`).join('')}deepest\r\n`,
  `Subject: many parts\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n${'--m\r\n\r\npart\r\n'.repeat(5000)}--m--\r\n`,
  Buffer.concat([Buffer.from('Subject: bytes\r\n\r\n'), randomBytes(20_000), Buffer.from('\r\n')]),
  `Subject: long\r\n\r\n${'abcdefghij'.repeat(60_000)} needleattheend\r\n`,
  `Subject: cut at the window\r\n\r\n${'x'.repeat(256 * 1024 - 40)}acrossthewindow${'y'.repeat(100)}\r\n`,
];

const mail = [...corpus({ countMax: 260, fitOnly: true })].map((message) => message.bytes);

/** Deterministic bytes. */
function randomBytes(count: number): Buffer {
  const random = randomSource(count);
  return Buffer.from(Array.from({ length: count }, () => random.between(1, 255)));
}

function quoted(text: string): string {
  const bytes = Buffer.from(text);
  return `{${bytes.length}+}\r\n${bytes.toString('latin1')}`;
}

/** Some chars out of some message, as they stand or decoded; now and then something else. */
function someNeedle(random: RandomSource): string {
  const all = [...mail, ...strange];
  const message = Buffer.from(all[random.between(0, all.length - 1)]! as string);
  const text = [
    () => message.toString('utf8'),
    () => decodeBody(message, 'quoted-printable', 'utf-8'),
    () => 'ΟΔΥΣΣΕΥΣ Σίσυφος Grüße Привет, мир Straße café crème inner sübject',
    () => Math.abs(random.between(0, 1e9)).toString(36),
  ][random.between(0, 3)]!();
  const start = random.between(0, Math.max(0, text.length - 1));
  const needle = text.slice(start, start + random.between(1, 18)).replace(/[\ud800-\udfff\0]/g, '');
  return random.between(0, 1) ? needle.toUpperCase() : needle;
}

function someKeys(random: RandomSource): string {
  const text = quoted(someNeedle(random));
  const name = ['Subject', 'From', 'Received', 'X-Deep', 'Content-Type'][random.between(0, 4)];
  return [
    `BODY ${text}`,
    `TEXT ${text}`,
    `SUBJECT ${text}`,
    `FROM ${text}`,
    `HEADER ${name} ${text}`,
    `NOT TEXT ${text}`,
    `OR BODY ${text} SUBJECT ${quoted(someNeedle(random))}`,
    `(TEXT ${text} NOT BODY ${quoted(someNeedle(random))})`,
  ][random.between(0, 7)]!;
}

let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(async () => {
  await rig.close();
});
afterAll(() => indexThread.end());

async function sameAnswers(count: number, seed: number): Promise<void> {
  const random = randomSource(seed);
  for (let turn = 0; turn < count; turn++) {
    const keys = `CHARSET UTF-8 ${someKeys(random)}`;
    const { indexed, plain } = await rig.both(keys);
    expect({ keys, answer: indexed }).toEqual({ keys, answer: plain });
  }
}

describe('with the index as without', () => {
  test('real and strange mail answers the same to any text', async () => {
    await rig.add([...mail, ...strange]);
    await rig.indexed();
    await sameAnswers(80, 1);
    for (const text of [
      'acrossthewindow',
      'needleattheend',
      'after the nul',
      'σίσυφος',
      'οδυσσευς',
      'STRASSE',
      'quote"quote and',
      'GRÜSSE',
      'привет',
      'deepest',
      '\u{1f600} SMILE',
    ]) {
      const { indexed, plain } = await rig.both(`CHARSET UTF-8 TEXT ${quoted(text)}`);
      expect({ text, indexed }).toEqual({ text, indexed: plain });
    }
    const found = await rig.both(`CHARSET UTF-8 BODY ${quoted('acrossthewindow')}`);
    expect(found.indexed).toMatch(/^\* SEARCH \d+\r\n/);
  });

  test('while it is behind, after expunges, and when closed and opened', async () => {
    await rig.add(mail.slice(0, 220));
    await sameAnswers(5, 2); // sets it on its way
    await sameAnswers(20, 3);
    await rig.indexed();
    await rig.add(mail.slice(220));
    await sameAnswers(10, 4);
    await (await rig.store.folder('INBOX')).expunge([3, 5, 100]);
    const gone = await rig.both('ALL');
    expect(gone.indexed).not.toBe(gone.plain);
    await rig.indexed();
    await rig.reopen();
    rig.logged.length = 0;
    await rig.indexed();
    expect(rig.logged.filter(({ event }) => event === 'search-index-begun')).toEqual([]);
  });

  test.each([
    ['deleted', () => rm(rig.indexFile), 'new'],
    ['without its checksum, as after a crash', () => rm(rig.sumFile), 'damaged'],
    ['cut short', () => truncate(rig.indexFile, 20_000), 'damaged'],
    ['emptied', () => truncate(rig.indexFile, 0), 'damaged'],
    ['no index at all', () => writeFile(rig.indexFile, 'nonsense'), 'damaged'],
    [
      'with one bit turned',
      async () => {
        const bytes = await readFile(rig.indexFile);
        bytes[Math.floor(bytes.length * 0.7)]! ^= 4;
        await writeFile(rig.indexFile, bytes);
      },
      'damaged',
    ],
  ] as const)('%s: built anew, and nothing is missed', async (_, harm, because) => {
    await rig.add(mail.slice(0, 210));
    await rig.indexed();
    await rig.reopen(harm as () => Promise<void>);
    rig.logged.length = 0;
    await sameAnswers(10, 5);
    await rig.indexed();
    await sameAnswers(10, 6);
    expect(rig.logged).toContainEqual(expect.objectContaining({ event: 'search-index-begun', because }));
  });

  test('its thread is killed between two batches', async () => {
    await rig.add(['Subject: x\r\n\r\nFirstOfAll\r\n', ...mail.slice(0, 210)]);
    await rig.indexed();
    await indexThread.end();
    await rig.add(['Subject: y\r\n\r\nLastOfAll\r\n']);
    // Its index was not closed: what follows the expunge and the new message finds a new one, which knows nothing.
    await (await rig.store.folder('INBOX')).expunge([4]);
    for (let turn = 0; turn < 15; turn++) {
      const { indexed, plain } = await rig.both('OR BODY firstofall BODY lastofall');
      expect(indexed).toBe(plain);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });

  test('its thread is killed in the middle of its work', async () => {
    await rig.add(mail.slice(0, 230));
    for (let turn = 0; turn < 4; turn++) {
      await sameAnswers(2, 10 + turn);
      await new Promise((resolve) => setTimeout(resolve, 20 * turn));
      await indexThread.end();
    }
    await sameAnswers(10, 7);
    await rig.indexed();
    await sameAnswers(10, 8);
  });
});

describe('what it may cost', () => {
  test('messages that cannot hold the text are not opened', async () => {
    await rig.add([...mail, 'Subject: x\r\n\r\nQxvbnmzz once\r\n']);
    await rig.indexed();
    const inbox = await rig.store.folder('INBOX');
    const open = jest.spyOn(inbox, 'open');
    const { indexed, plain } = await rig.both('BODY qXVBNmzz');
    expect(indexed).toBe(plain);
    expect(indexed).toMatch(/^\* SEARCH 261\r\n/);
    expect(open).toHaveBeenCalledTimes(1);
    await rig.both('NOT TEXT zzqqnotthere');
    expect(open).toHaveBeenCalledTimes(1);
  });

  test('a full index stops growing, and searches go on', async () => {
    await rig.close();
    rig = await openRig({ indexBytesMax: 200_000 });
    await rig.add(mail);
    await sameAnswers(5, 9);
    for (let turn = 0; turn < 100 && !rig.logged.some(({ event }) => event === 'search-index-full'); turn++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(rig.logged).toContainEqual(expect.objectContaining({ event: 'search-index-full' }));
    await sameAnswers(10, 11);
  });

  test('others are served while it is built', async () => {
    await rig.add([...mail, ...strange]);
    const building = rig.indexed();
    let over = false;
    void building.then(() => {
      over = true;
    });
    let turns = 0;
    while (!over) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    expect(turns).toBeGreaterThan(50);
  });
});
