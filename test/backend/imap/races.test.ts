/** Commands of several sessions at the same moment, over the real store: what each was told has to be true. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Store } from '../../../backend/store/store.ts';
import { Fault } from '../../../base/fault.ts';
import { type Bench, makeBench, put } from '../store/store-fixture.ts';
import { ImapClient } from './imap-client.ts';

let bench: Bench;
let store: Store;
let ann: ImapClient;
let bob: ImapClient;
const ending = new AbortController();

beforeEach(async () => {
  bench = await makeBench();
  store = await bench.open();
  const inbox = await store.folder('INBOX');
  for (let count = 1; count <= 4; count++) await put(inbox, `Subject: ${count}\r\n\r\nbody ${count}\r\n`);
  ann = new ImapClient(store);
  bob = new ImapClient(store, { ended: ending.signal });
  await ann.run('a SELECT INBOX');
  await bob.run('a SELECT INBOX');
});

afterEach(async () => {
  await store.close();
  await bench.remove();
});

describe('at the same moment', () => {
  test('a silent STORE does not hide what another session changed before', async () => {
    await ann.run('b STORE 1 +FLAGS (\\Flagged)');
    expect(await bob.run('b STORE 1 +FLAGS.SILENT (\\Seen)')).toBe(
      '* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))\r\nb OK STORE completed\r\n',
    );
    expect(await bob.run('c STORE 1 +FLAGS.SILENT (\\Draft)')).toBe('c OK STORE completed\r\n');
  });

  test.each(['EXPUNGE', 'UID EXPUNGE 1:*', 'CLOSE'])(
    'a message that is no longer marked \\Deleted survives %s',
    async (command) => {
      await ann.run('b STORE 1:2 +FLAGS.SILENT (\\Deleted)');
      const [undone, removed] = await Promise.all([
        ann.run('c STORE 1 -FLAGS (\\Deleted)'),
        bob.run(`c ${command}`),
      ]);
      expect(undone).toContain('* 1 FETCH (FLAGS (\\Recent))\r\nc OK');
      expect(removed).toMatch(/^c OK/m);
      expect([...(await store.folder('INBOX')).uids()]).toEqual([1, 3, 4]);
    },
  );

  test.each([
    ['MOVE 2 Other', /^c NO \[EXPUNGEISSUED\]/m],
    ['COPY 2 Other', /^c NO \[EXPUNGEISSUED\]/m],
    ['UID MOVE 2 Other', /^c OK MOVE/m],
    ['UID COPY 2 Other', /^c OK COPY/m],
  ])('%s of a message that is just being expunged', async (command, answer) => {
    await store.createFolder('Other');
    await ann.run('b STORE 2 +FLAGS.SILENT (\\Deleted)');
    const [, told] = await Promise.all([ann.run('c EXPUNGE'), bob.run(`c ${command}`)]);
    expect(told).toMatch(answer);
    expect((await store.folder('Other')).count).toBe(0);
  });

  test('a FETCH that is broken off because the account moves is not completed with OK', async () => {
    const fetching = bob.run('b FETCH 1:* (UID BODY[])');
    setImmediate(() => ending.abort(new Fault('lease-lost', 'moving')));
    const text = await fetching;
    const whole = (text.match(/^\* \d FETCH/gm) ?? []).length === 4 && /^b OK/m.test(text);
    expect(whole || !/^b OK/m.test(text)).toBe(true);
    const unseen = (await store.folder('INBOX')).unseenCount;
    if (/^b OK/m.test(text)) expect(unseen).toBe(0);
  });
});
