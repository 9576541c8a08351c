/** Scanners against the real programs, and against the same programs on a bad day (CASES 51-53). */

import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Chain } from '../../../gateway/plugin-host/chain.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import { readSpamdAnswer } from '../../../gateway/plugins/spamassassin.ts';
import { type Clamd, eicar, startClamd } from '../../support/clamd.ts';
import { gtube, type Spamd, startSpamd } from '../../support/spamd.ts';
import { startToxic, type Toxic, type ToxicProxy } from '../../support/toxic.ts';
import { entry, message, rememberingLog, session } from '../plugin-host/fixtures.ts';

const date = new Date().toUTCString().replace('GMT', '+0000');
const head = `From: Ann <a@example.org>\r\nTo: Demo <demo@postern.test>\r\nDate: ${date}\r\n`;
const plain = `${head}Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nHow are you?\r\n`;
const attached = (encoding: string, body: string): string =>
  `${head}Subject: see\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n` +
  `--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\nContent-Type: image/png; name="x.png"\r\n` +
  `Content-Transfer-Encoding: ${encoding}\r\n\r\n${body}\r\n--b--\r\n`;
const inMessage = (inner: string): string =>
  `${head}Subject: fwd\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n${inner}`;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Sockets connected to a port that some process still holds: one that was destroyed has no inode any more. */
async function openTo(port: number): Promise<number> {
  const remote = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')}$`);
  const lines = (await readFile('/proc/net/tcp', 'latin1')).split('\n').slice(1);
  return lines.filter((line) => {
    const columns = line.trim().split(/\s+/);
    return remote.test(columns[2] ?? '') && columns[9] !== '0';
  }).length;
}

/** Far more than a deadline of these tests on a loaded machine, far less than what it saves us from. */
const busyMsMax = 5000;

const { log, records } = rememberingLog();
const chainOf = (use: string, options: Record<string, unknown>): Promise<Chain> =>
  openChain({ plugins: [entry(use, options)], configDir: '/', log, stallMs: 0 });

let clamd: Clamd;
let spamd: Spamd;
let clamProxy: ToxicProxy;
let spamProxy: ToxicProxy;

beforeAll(async () => {
  [clamd, spamd] = await Promise.all([startClamd({ streamBytesMax: 2 * 1024 * 1024 }), startSpamd()]);
  clamProxy = await startToxic(clamd.port);
  spamProxy = await startToxic(spamd.port);
});
afterAll(async () => {
  await Promise.all([clamProxy?.stop(), spamProxy?.stop()]);
  await Promise.all([clamd?.stop(), spamd?.stop()]);
});
beforeEach(() => {
  records.length = 0;
  clamProxy.mode = 'none';
  spamProxy.mode = 'none';
});

describe('clamav', () => {
  const rows: readonly [what: string, text: string, word: string][] = [
    ['an ordinary message', plain, 'pass'],
    ['an empty message', '', 'pass'],
    ['EICAR in the body', `${head}\r\n${eicar}\r\n`, 'reject'],
    ['EICAR in base64 under a wrong type', attached('base64', base64(eicar)), 'reject'],
    ['EICAR in a message in a message', inMessage(attached('base64', base64(eicar))), 'reject'],
  ];
  test.each(rows)('%s', async (_, text, word) => {
    const chain = await chainOf('clamav', { server: `127.0.0.1:${clamd.port}` });
    expect((await chain.ask('message', session(), message(text))).word).toBe(word);
  });

  test('over a Unix socket', async () => {
    const chain = await chainOf('clamav', { server: clamd.socketPath });
    expect((await chain.ask('message', session(), message(plain))).word).toBe('pass');
    const verdict = await chain.ask('message', session(), message(eicar));
    expect(verdict).toMatchObject({ word: 'reject', say: 'Message refused: malware found' });
    expect(verdict.log).toContain('Eicar-Test-Signature');
  });

  test.each([
    [{}, 'reject'],
    [{ over_size: 'reject' }, 'reject'],
    [{ over_size: 'defer' }, 'defer'],
    [{ over_size: 'pass' }, 'pass'],
  ])('a message over size_max with %j: %s', async (options, word) => {
    const chain = await chainOf('clamav', {
      server: `127.0.0.1:${clamd.port}`,
      size_max: '1KiB',
      ...options,
    });
    expect((await chain.ask('message', session(), message(`${plain}${'x'.repeat(2000)}`))).word).toBe(word);
  });

  test("a message over clamd's own limit is never clean", async () => {
    const chain = await chainOf('clamav', { server: `127.0.0.1:${clamd.port}` });
    const large = message(Buffer.alloc(4 * 1024 * 1024, 'x'));
    expect((await chain.ask('message', session(), large)).word).toBe('defer');
  });

  test('many at once, more than may run, all get their own answer', async () => {
    const chain = await chainOf('clamav', { server: `127.0.0.1:${clamd.port}`, concurrent_max: 3 });
    const words = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const text = index % 4 === 0 ? attached('base64', base64(eicar)) : plain.repeat(100);
        return (await chain.ask('message', session(), message(text))).word;
      }),
    );
    expect(words).toEqual(Array.from({ length: 40 }, (_, index) => (index % 4 === 0 ? 'reject' : 'pass')));
  });
});

describe('spamassassin', () => {
  const options = () => ({ server: `127.0.0.1:${spamd.port}` });

  test('an ordinary message gets its score in header fields', async () => {
    const chain = await chainOf('spamassassin', options());
    const verdict = await chain.ask('message', session(), message(plain));
    expect(verdict.word).toBe('pass');
    expect(verdict.headers!.map(([name]) => name)).toEqual(['X-Spam-Score', 'X-Spam-Status']);
    expect(verdict.headers![1]![1]).toMatch(/^No, score=-?\d+\.\d required=5\.0 tests=/);
  });

  test('GTUBE is refused', async () => {
    const chain = await chainOf('spamassassin', options());
    const verdict = await chain.ask('message', session(), message(`${plain}${gtube}\r\n`));
    expect(verdict).toMatchObject({ word: 'reject', say: 'Message refused: it looks like spam' });
    expect(verdict.log).toMatch(/score=1\d\d\d\.\d .*GTUBE/);
  });

  test('GTUBE is tagged where the admin refuses nothing so low', async () => {
    const chain = await chainOf('spamassassin', { ...options(), reject_score: 5000 });
    const verdict = await chain.ask('message', session(), message(`${plain}${gtube}\r\n`));
    expect(verdict.word).toBe('pass');
    expect(verdict.headers![0]).toEqual(['X-Spam-Flag', 'YES']);
    expect(verdict.score).toBeGreaterThan(999);
  });

  test('a message over size_max passes, and says so', async () => {
    const chain = await chainOf('spamassassin', { ...options(), size_max: '1KiB' });
    const verdict = await chain.ask(
      'message',
      session(),
      message(`${plain}${'x'.repeat(2000)}\r\n${gtube}\r\n`),
    );
    expect(verdict).toMatchObject({
      word: 'pass',
      headers: [['X-Spam-Status', expect.stringMatching(/^No, not scored/)]],
    });
  });

  const answers: readonly [what: string, text: string, result: object | RegExp][] = [
    [
      'a whole answer',
      'SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 15.3 / 5.0\r\n\r\nA,B_1',
      { spam: true, score: 15.3, threshold: 5, tests: ['A', 'B_1'] },
    ],
    [
      'no rules',
      'SPAMD/1.1 0 EX_OK\r\nSpam: False ; -0.1 / 5.0\r\n\r\n',
      { spam: false, score: -0.1, threshold: 5, tests: [] },
    ],
    [
      'half an answer',
      'SPAMD/1.1 0 EX_OK\r\nContent-length: 50\r\nSpam: False ; 0 / 5\r\n\r\nA',
      /cut short/,
    ],
    ['no end of the head', 'SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0 / 5\r\n', /not an answer/],
    ['an error', 'SPAMD/1.0 76 Bad header line\r\n\r\n', /spamd says 76/],
    ['no score', 'SPAMD/1.1 0 EX_OK\r\n\r\n', /without a score/],
    ['a score that is no number', 'SPAMD/1.1 0 EX_OK\r\nSpam: False ; NaN / 5\r\n\r\n', /without a score/],
    ['nothing', '', /not an answer/],
    ['a web page', 'HTTP/1.1 200 OK\r\n\r\nSpam: False ; 0 / 5\r\n', /not an answer/],
  ];
  test.each(answers)('reads %s', (_, text, result) => {
    if (result instanceof RegExp) expect(() => readSpamdAnswer(text)).toThrow(result);
    else expect(readSpamdAnswer(text)).toEqual(result);
  });
});

describe.each(['clamav', 'spamassassin'])('%s on a bad day', (use) => {
  const proxy = (): ToxicProxy => (use === 'clamav' ? clamProxy : spamProxy);
  const text = `${plain}${'lorem ipsum dolor sit amet\r\n'.repeat(8000)}`; // more than a socket's buffers hold

  const modes: readonly Toxic[] = ['silent', 'deaf', 'drip', 'reset', 'garbage', 'close'];
  test.each(modes)('%s: deferred within the deadline, nothing left open, well again after', async (mode) => {
    const chain = await chainOf(use, { server: `127.0.0.1:${proxy().port}`, timeout: '700ms' });
    proxy().mode = mode;
    const began = performance.now();
    expect((await chain.ask('message', session(), message(text))).word).toBe('defer');
    // Without a deadline it would be never, or a second for each byte of the answer.
    expect(performance.now() - began).toBeLessThan(busyMsMax);
    // That a loaded machine took its time is logged as well, and not meant here.
    const told = records.map((record) => record.text).filter((line) => !line.includes('event loop'));
    expect(told).toEqual(['plugin failed']);
    proxy().mode = 'none';
    // The real scanner may need more than this chain's 700 ms when the machine is loaded: it gets another message.
    const healed = performance.now();
    while ((await chain.ask('message', session(), message(plain))).word !== 'pass')
      expect(performance.now() - healed).toBeLessThan(20_000);
    for (let i = 0; i < 100 && (await openTo(proxy().port)) > 0; i++) await setTimeout(20);
    expect(await openTo(proxy().port)).toBe(0);
  });

  test('the outer deadline holds even where the inner one is longer', async () => {
    const chain = await chainOf(use, {
      server: `127.0.0.1:${proxy().port}`,
      timeout: '20s',
      deadline: '300ms',
      on_failure: 'pass',
    });
    proxy().mode = 'silent';
    const began = performance.now();
    expect((await chain.ask('message', session(), message(plain))).word).toBe('pass');
    expect(performance.now() - began).toBeLessThan(busyMsMax);
  });

  test('nobody listens: deferred at once', async () => {
    const chain = await chainOf(use, { server: '127.0.0.1:1' });
    const began = performance.now();
    expect((await chain.ask('message', session(), message(plain))).word).toBe('defer');
    expect(performance.now() - began).toBeLessThan(busyMsMax);
  });

  test('more than may wait: deferred at once', async () => {
    const chain = await chainOf(use, {
      server: `127.0.0.1:${proxy().port}`,
      timeout: '500ms',
      concurrent_max: 1,
      waiting_max: 1,
    });
    proxy().mode = 'silent';
    const before = proxy().taken;
    const words = await Promise.all(
      Array.from({ length: 5 }, async () => (await chain.ask('message', session(), message(plain))).word),
    );
    expect(words).toEqual(Array(5).fill('defer'));
    expect(proxy().taken - before).toBeLessThanOrEqual(2);
    expect(records.filter((record) => /waiting already/.test(String(record.facts.error)))).toHaveLength(3);
  });
});

test('a scanner that is killed defers, and passes mail again once it is back', async () => {
  const chain = await chainOf('clamav', { server: `127.0.0.1:${clamd.port}` });
  const word = async (): Promise<string> => (await chain.ask('message', session(), message(plain))).word;
  expect(await word()).toBe('pass');
  await clamd.kill();
  for (let i = 0; i < 7; i++) expect(await word()).toBe('defer');
  await clamd.start();
  const began = performance.now();
  while ((await word()) !== 'pass') {
    expect(performance.now() - began).toBeLessThan(8000);
    await setTimeout(100);
  }
});
