/** The plugins that look into messages, asked as the SMTP door asks them. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { dkimSign } from 'mailauth/lib/dkim/sign.js';
import type { PluginEntry } from '../../../base/config-file.ts';
import { silentLog } from '../../../base/log.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import type { Message, Session } from '../../../gateway/plugins/api.ts';
import { type NameServer, startNameServer } from '../../support/dnsmasq.ts';
import { temporaryDir } from '../../support/process.ts';
import { entry, message, quietWire, session } from '../plugin-host/fixtures.ts';
import { mmdbOf } from './mmdb.ts';
import { zipOf } from './zip.ts';

const chainOf = (...plugins: readonly PluginEntry[]) =>
  openChain({ plugins, configDir: '/', log: silentLog, stallMs: 0 });

async function verdictOf(
  plugin: PluginEntry,
  text: string | Buffer,
  facts: { from?: string; session?: Session } = {},
) {
  const chain = await chainOf(plugin);
  const { from = 'a@example.org' } = facts;
  const asked: Message = { ...message(text), envelope: { from, to: ['demo@postern.test'] } };
  const verdict = await chain.ask('message', facts.session ?? session(), asked);
  await chain.close();
  return verdict;
}

const attached = (name: string, bytes: Buffer, type = 'application/octet-stream'): string =>
  [
    'From: a@example.org',
    'MIME-Version: 1.0',
    'Content-Type: multipart/mixed; boundary=b',
    '',
    '--b',
    'Content-Type: text/plain',
    '',
    'see there',
    '--b',
    `Content-Type: ${type}`,
    `Content-Disposition: attachment; filename="${name}"`,
    'Content-Transfer-Encoding: base64',
    '',
    bytes.toString('base64').replace(/.{76}/g, '$&\r\n'),
    '--b--',
    '',
  ].join('\r\n');

describe('attachment-policy', () => {
  const program = Buffer.from('MZ\x90\0 and so on');
  const word = (name: string, facts: { bomb?: boolean } = {}) => ({
    name,
    bytes: facts.bomb ? Buffer.alloc(20 * 1024 * 1024) : Buffer.from('words'),
  });
  const nested = (depth: number): Buffer =>
    depth === 0
      ? zipOf([{ name: 'a.txt', bytes: Buffer.from('x') }])
      : zipOf([{ name: 'in.zip', bytes: nested(depth - 1) }]);
  const rows: readonly [what: string, text: string, wanted: 'pass' | 'reject' | 'quarantine'][] = [
    ['a text', 'From: a@b\r\n\r\ntext', 'pass'],
    ['a picture', attached('a.png', Buffer.from('89504e470d0a1a0a', 'hex'), 'image/png'), 'pass'],
    ['a program by name', attached('a.EXE', Buffer.from('text')), 'reject'],
    ['a program by name, with a dot behind it', attached('a.exe. ', Buffer.from('text')), 'reject'],
    ['a program under a wrong name and type', attached('a.png', program, 'image/png'), 'reject'],
    ['a script', attached('notes', Buffer.from('#!/bin/sh\nrm -rf /')), 'reject'],
    ['a shortcut', attached('a.lnk', Buffer.from('x')), 'reject'],
    ['a name that hides its kind', attached('invoice.pdf.js', Buffer.from('x')), 'reject'],
    ['a name turned around', attached('=?utf-8?b?4oCuZnBkLmV4ZQ==?=', Buffer.from('x')), 'reject'],
    ['a zip of a text', attached('a.zip', zipOf([word('a.txt')])), 'pass'],
    [
      'a zip of a program',
      attached('a.zip', zipOf([word('a.txt'), { name: 'b/c.dat', bytes: program }])),
      'reject',
    ],
    ['a zip of a program by name', attached('a.zip', zipOf([word('run.vbs')])), 'reject'],
    ['a zip in a zip', attached('a.zip', nested(1)), 'pass'],
    [
      'a program in a zip in a zip',
      attached('a.zip', zipOf([{ name: 'in.zip', bytes: zipOf([word('x.exe')]) }])),
      'reject',
    ],
    ['zips too deep', attached('a.zip', nested(5)), 'quarantine'],
    ['an encrypted zip', attached('a.zip', zipOf([{ ...word('a.txt'), encrypted: true }])), 'quarantine'],
    ['a bomb', attached('a.zip', zipOf([word('a.txt', { bomb: true })])), 'quarantine'],
    [
      'a bomb that lies about its size',
      attached('a.zip', zipOf([{ ...word('in.zip', { bomb: true }), saysBytes: 100 }])),
      'quarantine',
    ],
    ['a broken zip', attached('a.zip', zipOf([word('a.txt')]).subarray(0, -10)), 'quarantine'],
    ['a document with macros', attached('a.docm', zipOf([word('word/vbaProject.bin')])), 'quarantine'],
  ];
  test.each(rows)('%s', async (_what, text, wanted) => {
    const verdict = await verdictOf(entry('attachment-policy', { deadline: '60s' }), text);
    expect(verdict.quarantine ? 'quarantine' : verdict.word).toBe(wanted);
  });

  test('what each kind means is the admin’s to say', async () => {
    const text = attached('a.exe', Buffer.from('x'));
    expect((await verdictOf(entry('attachment-policy', { programs: 'pass' }), text)).word).toBe('pass');
    expect((await verdictOf(entry('attachment-policy', { programs: 'quarantine' }), text)).quarantine).toBe(
      true,
    );
  });

  test('10,000 nested multiparts and 100,000 parts are looked at in bounded time', async () => {
    const deep = Array.from(
      { length: 10_000 },
      (_, at) => `Content-Type: multipart/mixed; boundary=b${at}\r\n\r\n--b${at}\r\n`,
    ).join('');
    const wide = `Content-Type: multipart/mixed; boundary=b\r\n\r\n${'--b\r\n\r\nx\r\n'.repeat(100_000)}--b--\r\n`;
    for (const text of [deep, wide])
      expect((await verdictOf(entry('attachment-policy', { deadline: '60s' }), text)).word).toBe('pass');
  });
});

describe('uri-blocklist', () => {
  let dns: NameServer;
  let dir: Awaited<ReturnType<typeof temporaryDir>>;
  beforeAll(async () => {
    dns = await startNameServer([
      'a:bad.test.list.test=127.0.1.2',
      'a:5.2.0.192.list.test=127.0.1.2',
      'a:asked.test.list.test=127.255.255.254',
    ]);
    dir = await temporaryDir('uri');
    await writeFile(path.join(dir.path, 'list'), '# own\nshady.example  # by hand\n');
  });
  afterAll(async () => {
    await dns?.stop();
    await dir?.remove();
  });
  const text = (body: string, type = 'text/plain'): string =>
    `From: a@b\r\nContent-Type: ${type}\r\n\r\n${body}\r\n`;
  const rows: readonly [what: string, text: string, wanted: string][] = [
    ['no link', text('hello'), 'pass'],
    ['a good one', text('see https://good.test/x'), 'pass'],
    ['a bad one', text('see https://bad.test/x'), 'reject'],
    ['a host in front of it', text('http://a.b.c.bad.test:8080/'), 'reject'],
    ['a user in front of it', text('https://good.test@bad.test/'), 'reject'],
    ['without a scheme', text('go to www.bad.test now'), 'reject'],
    ['in HTML, with entities', text('<a href="https:&#x2F;&#47;b&#97;d.test/">x</a>', 'text/html'), 'reject'],
    ['in an attribute without a scheme', text('<img src="//bad.test/a.png">', 'text/html'), 'reject'],
    ['an address', text('http://192.0.2.5/'), 'reject'],
    ['the same address, written in hex', text('http://0xc0.0x00.0x02.0x05/'), 'reject'],
    ['an answer that only says who may ask', text('https://asked.test/'), 'pass'],
    ['one of the site’s own list', text('https://www.shady.example/'), 'reject'],
    [
      'encoded',
      `From: a@b\r\nContent-Transfer-Encoding: base64\r\n\r\n${Buffer.from('https://bad.test/').toString('base64')}\r\n`,
      'reject',
    ],
  ];
  test.each(rows)('%s', async (_what, body, wanted) => {
    const options = { servers: [dns.address], zones: ['list.test'], file: path.join(dir.path, 'list') };
    expect((await verdictOf(entry('uri-blocklist', options), body)).word).toBe(wanted);
  });
});

describe('phishing', () => {
  const options = {
    own_domains: ['postern.test', 'northwind.example'],
    watched_domains: ['paypal.com', 'contoso-bank.com'],
    own_names: ['Ann Example'],
  };
  const mail = (head: string, body = 'hi', type = 'text/plain'): string =>
    `${head}\r\nContent-Type: ${type}; charset=utf-8\r\n\r\n${body}\r\n`;
  const idn = (name: string): string => new URL(`http://${name}/`).hostname;
  const rows: readonly [what: string, text: string, finding: RegExp | undefined][] = [
    ['an honest sender', mail('From: Bob <bob@example.org>'), undefined],
    ['one of the watched itself', mail('From: PayPal <service@mail.paypal.com>'), undefined],
    ['digits for letters', mail('From: x <x@paypa1.com>'), /paypa1\.com looks like paypal\.com/],
    ['Cyrillic letters', mail(`From: x <x@${idn('раураl.com')}>`), /mixes scripts.*looks like paypal\.com/],
    ['one letter off', mail('From: x <x@northwlnd.example>'), /northwind\.example/],
    ['two letters changed', mail('From: x <x@northwnid.example>'), /one letter from northwind\.example/],
    ['the name under another ending', mail('From: x <x@paypal.example>'), /carries the name of paypal\.com/],
    ['the name as a part', mail('From: x <x@paypal-secure.example>'), /carries the name of paypal\.com/],
    [
      'somebody of the house with another address',
      mail('From: "Ann Example" <x@example.org>'),
      /"ann example" writes from example\.org/,
    ],
    [
      'the same in encoded words',
      mail('From: =?utf-8?B?QW5uIEV4YW1wbGU=?= <x@example.org>'),
      /"ann example" writes from/,
    ],
    [
      'an address as a name',
      mail('From: "boss@postern.test" <x@example.org>'),
      /shows an address at postern\.test/,
    ],
    [
      'our own mail with answers elsewhere',
      mail('From: a@postern.test\r\nReply-To: a@example.org'),
      /would go to example\.org/,
    ],
    ['two From fields', mail('From: a@example.org\r\nFrom: b@example.org'), /more than one From/],
    [
      'a link that shows another site',
      mail('From: x@example.org', '<a href="https://evil.example/">www.paypal.com</a>', 'text/html'),
      /shows www\.paypal\.com and leads to evil\.example \(4\)/,
    ],
    [
      'a link to an imitation',
      mail('From: x@example.org', '<a class=x href=https://paypa1.com/login>here</a>', 'text/html'),
      /link paypa1\.com looks like/,
    ],
    [
      'a link that shows what it leads to',
      mail('From: x@example.org', '<a href="https://www.example.net/a">example.net</a>', 'text/html'),
      undefined,
    ],
  ];
  test.each(rows)('%s', async (_what, text, finding) => {
    const { log, headers } = await verdictOf(entry('phishing', { ...options, tag_weight: 1 }), text);
    const said = log ?? headers?.[0]?.[1].replace(/\r\n /g, ' ');
    if (finding === undefined) expect(said).toBeUndefined();
    else expect(said).toMatch(finding);
  });

  test('findings add up: tag, junk, refusal', async () => {
    const once = mail('From: "boss@postern.test" <x@example.org>');
    expect(await verdictOf(entry('phishing', options), once, { from: '' })).toMatchObject({
      word: 'pass',
      score: 2,
    });
    const twice = mail('From: "Ann Example" <x@example.org>');
    expect((await verdictOf(entry('phishing', options), twice, { from: '' })).quarantine).toBe(true);
    const thrice = mail(`From: "Ann Example" <x@paypa1.com>`);
    expect((await verdictOf(entry('phishing', options), thrice, { from: '' })).word).toBe('reject');
  });

  test('256 KiB of nothing but beginnings of links take bounded time', async () => {
    for (const piece of ['<a ', '<a href=', '<a href="http://a.b/">', '<a >']) {
      const text = mail(
        'From: x@example.org',
        piece.repeat(Math.floor((256 * 1024) / piece.length)),
        'text/html',
      );
      expect((await verdictOf(entry('phishing', { ...options, deadline: '60s' }), text)).word).toBe('pass');
    }
  });
});

describe('mail-auth', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const der = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  let dns: NameServer;
  beforeAll(async () => {
    dns = await startNameServer([
      'txt:strict.test=v=spf1 ip4:192.0.2.1 -all',
      'txt:_dmarc.strict.test=v=DMARC1; p=reject',
      'txt:_dmarc.junk.test=v=DMARC1; p=quarantine',
      'txt:_dmarc.watching.test=v=DMARC1; p=none',
      `txt:key._domainkey.strict.test=v=DKIM1; k=rsa; p=${der}`,
    ]);
  });
  afterAll(() => dns?.stop());
  const options = (more: object = {}) => ({
    name: 'mx.postern.test',
    servers: [dns.address],
    timeout: '2s',
    enforce: 'reject',
    ...more,
  });
  const plain = (domain: string, more = ''): string =>
    `${more}From: a@${domain}\r\nSubject: x\r\nDate: Tue, 1 Sep 2026 10:00:00 +0000\r\n\r\nbody\r\n`;

  const signed = async (domain: string): Promise<string> => {
    const key = {
      signingDomain: domain,
      selector: 'key',
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
    const { signatures } = await dkimSign(plain(domain), { ...key, signatureData: [key] });
    return `${signatures}${plain(domain)}`;
  };

  test('SPF alone can make DMARC pass', async () => {
    const verdict = await verdictOf(entry('mail-auth', options()), plain('strict.test'), {
      from: 'a@strict.test',
    });
    expect(verdict.word).toBe('pass');
    expect(verdict.headers?.[0]?.[0]).toBe('Authentication-Results');
    expect(verdict.headers?.[0]?.[1].replace(/\s+/g, ' ')).toMatch(
      /^mx\.postern\.test;.*spf=pass.*dmarc=pass/,
    );
  });

  test('DKIM alone too, and not when the body was changed', async () => {
    const text = await signed('strict.test');
    const elsewhere = { from: 'a@other.test', session: session({ address: '198.51.100.1' }) };
    const good = await verdictOf(entry('mail-auth', options()), text, elsewhere);
    expect(good.headers?.[0]?.[1]).toMatch(/dkim=pass/);
    expect(good.word).toBe('pass');
    const bad = await verdictOf(entry('mail-auth', options()), text.replace('body', 'b0dy'), elsewhere);
    expect(bad).toMatchObject({ word: 'reject', plugin: 'mail-auth' });
  });

  test.each([
    ['strict.test', 'reject', 'reject'],
    ['strict.test', 'quarantine', 'quarantine'],
    ['strict.test', 'none', 'pass'],
    ['junk.test', 'reject', 'quarantine'],
    ['watching.test', 'reject', 'pass'],
    ['nobody.test', 'reject', 'pass'],
  ])('a forged %s under enforce = %s: %s', async (domain, enforce, wanted) => {
    const verdict = await verdictOf(entry('mail-auth', options({ enforce })), plain(domain), {
      from: `a@${domain}`,
      session: session({ address: '198.51.100.1' }),
    });
    expect(verdict.quarantine ? 'quarantine' : verdict.word).toBe(wanted);
  });

  test('results under our name that the sender wrote are taken out', async () => {
    const verdict = await verdictOf(
      entry('mail-auth', options()),
      plain('nobody.test', 'Authentication-Results: mx.postern.test; dmarc=pass\r\n'),
    );
    expect(verdict.dropFields).toEqual([{ name: 'Authentication-Results', valueStart: 'mx.postern.test' }]);
  });

  test('DNS that stands still refuses nobody', async () => {
    dns.pause();
    try {
      const verdict = await verdictOf(
        entry('mail-auth', options({ timeout: '200ms' })),
        plain('strict.test'),
        { session: session({ address: '198.51.100.1' }) },
      );
      expect(verdict.word).toBe('pass');
    } finally {
      dns.resume();
    }
  });

  test('without a name it does not start', async () => {
    await expect(chainOf(entry('mail-auth'))).rejects.toThrow(/name is needed/);
  });
});

describe('geoip', () => {
  let dir: Awaited<ReturnType<typeof temporaryDir>>;
  beforeAll(async () => {
    dir = await temporaryDir('geoip');
    const country = (code: string) => ({ country: { iso_code: code } });
    await writeFile(
      path.join(dir.path, 'countries.mmdb'),
      mmdbOf([
        ['192.0.2.0/24', country('DE')],
        ['198.51.100.0/24', country('FR')],
      ]),
    );
    await writeFile(
      path.join(dir.path, 'networks.mmdb'),
      mmdbOf([['198.51.100.0/25', { autonomous_system_number: 64_496 }]]),
    );
  });
  afterAll(() => dir?.remove());
  const login = async (options: Record<string, unknown>, address: string): Promise<string> => {
    const chain = await chainOf(entry('geoip', options));
    return (await chain.ask('login', session({ address }), { user: 'a@b', mechanism: 'PLAIN' })).word;
  };
  const countries = (): string => path.join(dir.path, 'countries.mmdb');

  test.each([
    [{ allow_countries: ['de'] }, 'pass', 'reject', 'pass'],
    [{ deny_countries: ['FR'] }, 'pass', 'reject', 'pass'],
    [{ deny_countries: ['FR'], unknown: 'deny' }, 'pass', 'reject', 'reject'],
  ])('%j: from DE %s, from FR %s, from nowhere %s', async (options, de, fr, nowhere) => {
    const all = { country_file: countries(), ...options };
    expect([
      await login(all, '192.0.2.9'),
      await login(all, '198.51.100.9'),
      await login(all, '203.0.113.1'),
    ]).toEqual([de, fr, nowhere]);
  });

  test('networks by their number, at the connection', async () => {
    const chain = await chainOf(
      entry('geoip', {
        network_file: path.join(dir.path, 'networks.mmdb'),
        deny_networks: ['AS64496'],
        at: 'connect',
      }),
    );
    expect((await chain.ask('connect', session({ address: '198.51.100.9' }), quietWire)).word).toBe(
      'disconnect',
    );
    expect((await chain.ask('connect', session({ address: '198.51.100.200' }), quietWire)).word).toBe('pass');
  });

  test('without a file it does not start', async () => {
    await expect(chainOf(entry('geoip'))).rejects.toThrow(/country_file or network_file is needed/);
  });
});
