/** The rspamd plugin and a real rspamd. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import { type Rspamd, startRspamd } from '../../support/rspamd.ts';
import { gtube } from '../../support/spamd.ts';
import { entry, message, session } from '../plugin-host/fixtures.ts';

let rspamd: Rspamd;
beforeAll(async () => {
  rspamd = await startRspamd();
}, 150_000);
afterAll(() => rspamd?.stop());

async function verdictOf(text: string, options: Record<string, unknown> = {}) {
  const plugins = [entry('rspamd', { url: rspamd.url, ...options })];
  const chain = await openChain({ plugins, configDir: '/', log: silentLog, stallMs: 0 });
  try {
    return await chain.ask('message', session(), message(text));
  } finally {
    await chain.close();
  }
}
const mail = (subject: string, body = 'hello'): string =>
  `From: a@example.org\r\nTo: b@example.org\r\nSubject: ${subject}\r\nDate: Tue, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <x@example.org>\r\n\r\n${body}\r\n`;

test('good mail passes with its score', async () => {
  const verdict = await verdictOf(mail('lunch'));
  expect(verdict.word).toBe('pass');
  expect(verdict.quarantine).toBeUndefined();
  expect(verdict.headers).toContainEqual(['X-Rspamd-Action', 'no action']);
});

test('"add header" is the junk folder, or a header alone', async () => {
  const verdict = await verdictOf(mail('some junk'));
  expect(verdict).toMatchObject({ word: 'pass', quarantine: true, score: 7 });
  expect(verdict.log).toMatch(/add header: score=7\.0 .*TEST_JUNK/);
  expect(verdict.headers).toContainEqual(['X-Spam-Flag', 'YES']);
  expect((await verdictOf(mail('some junk'), { quarantine: false })).quarantine).toBeUndefined();
});

test('GTUBE is refused', async () => {
  expect((await verdictOf(mail('x', gtube))).word).toBe('reject');
});

test('larger than the limit: not checked, and said so', async () => {
  const { word, headers } = await verdictOf(mail('x', gtube), { size_max: '100B' });
  expect([word, headers]).toEqual(['pass', undefined]);
});

test('one that stands still, and one that is not there, mean "not now"', async () => {
  rspamd.pause();
  try {
    expect((await verdictOf(mail('x'), { timeout: '300ms' })).word).toBe('defer');
  } finally {
    rspamd.resume();
  }
  expect((await verdictOf(mail('x'), { url: 'http://127.0.0.1:1' })).word).toBe('defer');
  expect((await verdictOf(mail('lunch'))).word).toBe('pass');
});
