/** Scanners down, silent, slow and broken, in front of a real cluster: nothing unscanned gets in (CASES 52, 53). */

import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Clamd, eicar, startClamd } from '../support/clamd.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { type SmtpAnswer, SmtpConnection, withoutAddedHeaders } from '../support/mail-sender.ts';
import { gtube, type Spamd, startSpamd } from '../support/spamd.ts';
import { startToxic, type Toxic, type ToxicProxy } from '../support/toxic.ts';
import { storedMessages } from './stored-messages.ts';

let clamd: Clamd;
let spamd: Spamd;
let proxies: Record<'clamav' | 'spamassassin', ToxicProxy>;
let cluster: Cluster;
let number = 0;

beforeAll(async () => {
  [clamd, spamd] = await Promise.all([startClamd(), startSpamd()]);
  proxies = { clamav: await startToxic(clamd.port), spamassassin: await startToxic(spamd.port) };
  const entry = (use: 'clamav' | 'spamassassin'): string =>
    `[[plugin]]\nuse = "${use}"\nserver = "127.0.0.1:${proxies[use].port}"\ntimeout = "1s"\n`;
  cluster = await startCluster({ config: entry('clamav') + entry('spamassassin') });
}, 120_000);

afterAll(async () => {
  await cluster?.stop();
  await Promise.all(Object.values(proxies ?? {}).map((proxy) => proxy.stop()));
  await Promise.all([clamd?.stop(), spamd?.stop()]);
});

beforeEach(() => {
  for (const proxy of Object.values(proxies)) proxy.mode = 'none';
});

const head = (subject: string): string =>
  `From: Ann <a@example.org>\r\nTo: Demo <demo@postern.test>\r\nDate: ${new Date().toUTCString().replace('GMT', '+0000')}\r\n` +
  `Message-ID: <${++number}@example.org>\r\nSubject: ${subject}\r\n\r\n`;

async function send(text: string): Promise<SmtpAnswer> {
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  try {
    return await connection.send('a@example.org', [cluster.account.address], Buffer.from(text));
  } finally {
    connection.destroy();
  }
}

const subjects = async (): Promise<string[]> => (await storedMessages(cluster)).map(({ subject }) => subject);

/** The same bytes again, as a sender does, until they are taken. */
async function sendUntilTaken(text: string): Promise<void> {
  const began = performance.now();
  for (;;) {
    const { code } = await send(text);
    if (code === 250) return;
    expect(code).toBe(451);
    expect(performance.now() - began).toBeLessThan(45_000);
    await setTimeout(200);
  }
}

test('an ordinary message is scored and stored with its tags, its own bytes untouched', async () => {
  const text = `${head('ordinary')}How are you?\r\n`;
  expect((await send(text)).code).toBe(250);
  const [stored] = await storedMessages(cluster);
  expect(stored!.bytes.toString()).toMatch(/^X-Spam-Score: -?\d+\.\d\r$/m);
  expect(stored!.bytes.toString()).toMatch(/^X-Spam-Status: No, score=/m);
  expect(withoutAddedHeaders(stored!.bytes).toString()).toBe(text);
});

test('EICAR is refused for good', async () => {
  expect((await send(`${head('eicar')}${eicar}\r\n`)).code).toBe(554);
  expect(await subjects()).not.toContain('eicar');
});

test('GTUBE is refused for good', async () => {
  expect((await send(`${head('gtube')}${gtube}\r\n`)).code).toBe(554);
  expect(await subjects()).not.toContain('gtube');
});

describe.each(['clamav', 'spamassassin'] as const)('%s', (use) => {
  const modes: readonly Toxic[] = ['silent', 'deaf', 'drip', 'reset', 'garbage', 'close'];
  test.each(modes)('%s: 451 within the deadline, and the mail flows again after', async (mode) => {
    const subject = `${use} ${mode}`;
    const text = `${head(subject)}${'lorem ipsum dolor sit amet\r\n'.repeat(8000)}`;
    proxies[use].mode = mode;
    const began = performance.now();
    expect((await send(text)).code).toBe(451);
    expect(performance.now() - began).toBeLessThan(4000);
    expect(await subjects()).not.toContain(subject);
    proxies[use].mode = 'none';
    await sendUntilTaken(text);
    expect((await subjects()).filter((one) => one === subject)).toHaveLength(1);
  });
});

test('a scanner that stays down costs no deadline once the breaker is open, and is found again', async () => {
  proxies.clamav.mode = 'silent';
  for (let i = 0; i < 5; i++) expect((await send(`${head('down')}x\r\n`)).code).toBe(451);
  const taken = proxies.clamav.taken;
  const began = performance.now();
  for (let i = 0; i < 10; i++) expect((await send(`${head('down')}x\r\n`)).code).toBe(451);
  expect(performance.now() - began).toBeLessThan(2000);
  expect(proxies.clamav.taken - taken).toBeLessThanOrEqual(1);
  proxies.clamav.mode = 'none';
  await sendUntilTaken(`${head('up again')}x\r\n`);
  expect(await subjects()).toContain('up again');
  expect(await subjects()).not.toContain('down');
});

test('clamd killed in the middle of a flow: 451s, nothing lost, nothing twice, nothing unscanned', async () => {
  const texts = Array.from({ length: 60 }, (_, index) => `${head(`flow ${index}`)}x\r\n`);
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < texts.length; index = next++) await sendUntilTaken(texts[index]!);
  };
  const lanes = Promise.all([lane(), lane(), lane(), lane()]);
  await setTimeout(50);
  await clamd.kill();
  expect((await send(`${head('eicar meanwhile')}${eicar}\r\n`)).code).toBe(451);
  await clamd.start();
  await lanes;
  const stored = (await subjects()).filter((subject) => subject.startsWith('flow '));
  expect(stored.sort()).toEqual(texts.map((_, index) => `flow ${index}`).sort());
  expect(await subjects()).not.toContain('eicar meanwhile');
});
