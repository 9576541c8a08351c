/** The plugins that judge clients, names and rates, asked as the doors ask them. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { PluginEntry } from '../../../base/config-file.ts';
import { silentLog } from '../../../base/log.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import { reversedAddress } from '../../../gateway/plugins/dns-blocklist.ts';
import { type NameServer, startNameServer } from '../../support/dnsmasq.ts';
import { entry, message, quietWire, session } from '../plugin-host/fixtures.ts';

const chainOf = (...plugins: readonly PluginEntry[]) =>
  openChain({ plugins, configDir: '/', log: silentLog, stallMs: 0 });

describe('rate-limit', () => {
  test('a network has so many connections, another one has its own', async () => {
    const chain = await chainOf(
      entry('rate-limit', { per: '1h', network_connections: 20, burst: 0.1, slow_down: '0ms' }),
    );
    const connect = async (address: string): Promise<string> =>
      (await chain.ask('connect', session({ address }), quietWire)).word;
    expect([await connect('192.0.2.1'), await connect('192.0.2.1'), await connect('192.0.2.1')]).toEqual([
      'pass',
      'pass',
      'defer',
    ]);
    expect(await connect('192.0.2.2')).toBe('pass');
  });

  test('who is a little early is made to wait', async () => {
    const chain = await chainOf(
      entry('rate-limit', { per: '1s', network_connections: 10, burst: 0.1, slow_down: '1s' }),
    );
    const began = performance.now();
    for (let count = 0; count < 3; count++) {
      expect((await chain.ask('connect', session(), quietWire)).word).toBe('pass');
    }
    expect(performance.now() - began).toBeGreaterThan(80);
  });

  test('an account has so many recipients, whatever its network', async () => {
    const chain = await chainOf(entry('rate-limit', { account_recipients: 3, burst: 1, slow_down: '0ms' }));
    const words: string[] = [];
    for (let count = 0; count < 5; count++) {
      const own = session({ account: 'ann@postern.test', address: `192.0.2.${count}` });
      words.push((await chain.ask('recipient', own, 'x@example.org', 'ann@postern.test')).word);
    }
    expect(words).toEqual(['pass', 'pass', 'pass', 'defer', 'defer']);
  });

  test("a sender's domain has so many messages, bounces none of them", async () => {
    const chain = await chainOf(entry('rate-limit', { domain_messages: 1, burst: 1, slow_down: '0ms' }));
    const send = async (from: string): Promise<string> => (await chain.ask('sender', session(), from)).word;
    expect([
      await send('a@EXAMPLE.org'),
      await send('b@example.org'),
      await send(''),
      await send(''),
    ]).toEqual(['pass', 'defer', 'pass', 'pass']);
  });
});

describe('helo-checks', () => {
  const rows: readonly [name: string, word: string][] = [
    ['mail.example.org', 'pass'],
    ['MAIL.example.org.', 'pass'],
    ['[192.0.2.1]', 'pass'],
    ['[192.0.2.9]', 'reject'],
    ['[IPv6:2001:db8::1]', 'reject'],
    ['[nonsense]', 'reject'],
    ['192.0.2.1', 'reject'],
    ['2001:db8::1', 'reject'],
    ['mx.postern.test', 'reject'],
    ['MX.Postern.TEST', 'reject'],
    ['localhost', 'reject'],
    ['localhost.localdomain', 'reject'],
    ['desktop', 'pass'],
  ];
  test.each(rows)('%s: %s', async (name, word) => {
    const chain = await chainOf(entry('helo-checks', { own_names: ['mx.postern.test'] }));
    expect((await chain.ask('greeting', session(), name)).word).toBe(word);
  });

  test('a literal of the same IPv6 address, spelled otherwise, is its own', async () => {
    const chain = await chainOf(entry('helo-checks'));
    const own = session({ address: '2001:db8::1' });
    expect((await chain.ask('greeting', own, '[IPv6:2001:0DB8:0:0::1]')).word).toBe('pass');
  });

  test('a single word is refused where the site wants that; users are left alone', async () => {
    const chain = await chainOf(entry('helo-checks', { single_word: true }));
    expect((await chain.ask('greeting', session(), 'desktop')).word).toBe('reject');
    expect((await chain.ask('greeting', session({ protocol: 'submission' }), 'localhost')).word).toBe('pass');
  });
});

describe('dns-blocklist', () => {
  let dns: NameServer;
  beforeAll(async () => {
    dns = await startNameServer([
      'a:5.2.0.192.bad.test=127.0.0.2',
      'a:6.2.0.192.bad.test=127.0.0.9',
      'a:7.2.0.192.bad.test=192.0.2.7',
      'a:8.2.0.192.half.test=127.0.0.2',
      'a:9.2.0.192.half.test=127.0.0.2',
      'a:9.2.0.192.other.test=127.0.0.2',
      'a:5.2.0.192.good.test=127.0.0.3',
      `a:${reversedAddress('2001:db8::5')}.bad.test=127.0.0.2`,
    ]);
  });
  afterAll(() => dns?.stop());

  const rows: readonly [what: string, address: string, options: object, word: string][] = [
    ['one that is on no list', '192.0.2.4', { block: ['bad.test'] }, 'pass'],
    ['one that is', '192.0.2.5', { block: ['bad.test'] }, 'reject'],
    ['IPv6', '2001:db8::5', { block: ['bad.test'] }, 'reject'],
    ['an answer that does not count', '192.0.2.6', { block: ['bad.test=127.0.0.2'] }, 'pass'],
    ['an answer outside 127/8', '192.0.2.7', { block: ['bad.test'] }, 'pass'],
    ['a list of half a weight', '192.0.2.8', { block: ['half.test*0.5', 'other.test*0.5'] }, 'pass'],
    ['two of them', '192.0.2.9', { block: ['half.test*0.5', 'other.test*0.5'] }, 'reject'],
    ['one that is on a good list too', '192.0.2.5', { block: ['bad.test'], allow: ['good.test'] }, 'accept'],
    ['this machine', '127.0.0.1', { block: ['bad.test'] }, 'pass'],
  ];
  test.each(rows)('%s: %s', async (_what, address, options, word) => {
    const chain = await chainOf(entry('dns-blocklist', { servers: [dns.address], ...options }));
    expect((await chain.ask('connect', session({ address }), quietWire)).word).toBe(word);
    await chain.close();
  });

  test('a list that does not answer stops nobody, and answers are remembered', async () => {
    const chain = await chainOf(
      entry('dns-blocklist', { servers: [dns.address], block: ['bad.test'], timeout: '300ms' }),
    );
    const ask = async (address: string): Promise<string> =>
      (await chain.ask('connect', session({ address }), quietWire)).word;
    expect(await ask('192.0.2.5')).toBe('reject');
    dns.pause();
    try {
      expect(await ask('192.0.2.5')).toBe('reject');
      expect(await ask('192.0.2.44')).toBe('pass');
    } finally {
      dns.resume();
    }
    await chain.close();
  });

  test('what is no list is an error that points', async () => {
    await expect(chainOf(entry('dns-blocklist', { block: ['not a zone'] }))).rejects.toThrow(
      /postern\.toml:7 plugin\.use: plugin dns-blocklist cannot start: "not a zone" is not a list/,
    );
  });
});

describe('greylist', () => {
  test('comes again after the wait, and then need not any more', async () => {
    const chain = await chainOf(entry('greylist', { wait: '1s', trust_after: 2 }));
    const ask = async (to: string, address = '192.0.2.1'): Promise<string> =>
      (await chain.ask('recipient', session({ address }), to, 'a@example.org')).word;
    expect([await ask('u1@x'), await ask('u1@x'), await ask('u2@x')]).toEqual(['defer', 'defer', 'defer']);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect([await ask('u1@x'), await ask('u3@x'), await ask('u2@x', '192.0.2.77')]).toEqual([
      'pass',
      'defer',
      'pass',
    ]);
    // The /24 has come again twice.
    expect(await ask('u4@x', '192.0.2.200')).toBe('pass');
    expect(await ask('u4@x', '198.51.100.1')).toBe('defer');
  });

  test('users are not asked to come again', async () => {
    const chain = await chainOf(entry('greylist'));
    const own = session({ protocol: 'submission', account: 'ann@postern.test' });
    expect((await chain.ask('recipient', own, 'x@y', 'ann@postern.test')).word).toBe('pass');
  });
});

describe('honeypot-address', () => {
  test('who writes to one, or logs in as one, is turned away on every protocol', async () => {
    const chain = await chainOf(entry('honeypot-address', { addresses: ['Trap@postern.test', '@old.test'] }));
    expect((await chain.ask('recipient', session(), 'trap@POSTERN.test', 'a@b')).word).toBe('reject');
    expect((await chain.ask('connect', session({ protocol: 'imap' }), quietWire)).word).toBe('defer');
    const other = session({ address: '192.0.2.2', protocol: 'pop3' });
    chain.tell('loginFailed', other, { user: 'anybody@old.test', mechanism: 'PLAIN' });
    expect((await chain.ask('connect', other, quietWire)).word).toBe('defer');
    expect((await chain.ask('connect', session({ address: '192.0.2.3' }), quietWire)).word).toBe('pass');
  });
});

describe('tarpit', () => {
  test('waits longer with each refusal, and not for others', async () => {
    const chain = await chainOf(entry('tarpit', { step: '60ms', free: 0 }));
    const timed = async (address: string): Promise<number> => {
      const began = performance.now();
      expect((await chain.ask('sender', session({ address }), 'a@b')).word).toBe('pass');
      return performance.now() - began;
    };
    for (let count = 0; count < 3; count++) {
      chain.tell('loginFailed', session({ address: '192.0.2.1' }), { user: 'x', mechanism: 'PLAIN' });
    }
    expect(await timed('192.0.2.1')).toBeGreaterThan(170);
    expect(await timed('192.0.2.2')).toBeLessThan(150);
  });

  test('holds only so many at once', async () => {
    const chain = await chainOf(entry('tarpit', { step: '10s', free: 0, held_max: 1 }));
    for (const address of ['192.0.2.1', '192.0.2.2']) {
      chain.tell('loginFailed', session({ address }), { user: 'x', mechanism: 'PLAIN' });
    }
    const held = chain.ask('sender', session({ address: '192.0.2.1' }), 'a@b');
    expect((await chain.ask('sender', session({ address: '192.0.2.2' }), 'a@b')).word).toBe('pass');
    await chain.close();
    await held;
  });
});

describe('bounce-guard', () => {
  test('a mailbox gets so many bounces; other mail is not counted', async () => {
    const chain = await chainOf(entry('bounce-guard', { per_recipient: 2 }));
    const ask = async (to: string, from: string): Promise<string> =>
      (await chain.ask('recipient', session(), to, from)).word;
    expect([
      await ask('u@x', ''),
      await ask('U@x', ''),
      await ask('u@x', ''),
      await ask('u@x', 'a@b'),
    ]).toEqual(['pass', 'pass', 'defer', 'pass']);
    expect(await ask('v@x', '')).toBe('pass');
  });

  test('a bounce has one recipient', async () => {
    const chain = await chainOf(entry('bounce-guard'));
    const bounce = { ...message('Subject: x\r\n\r\n'), envelope: { from: '', to: ['a@x', 'b@x'] } };
    expect((await chain.ask('header', session(), bounce)).word).toBe('reject');
    expect(
      (await chain.ask('header', session(), { ...bounce, envelope: { from: '', to: ['a@x'] } })).word,
    ).toBe('pass');
  });
});

test('addresses are reversed as lists want them (RFC 5782)', () => {
  expect(reversedAddress('192.0.2.99')).toBe('99.2.0.192');
  expect(reversedAddress('2001:db8:1:2:3:4:567:89ab')).toBe(
    'b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2',
  );
  expect(reversedAddress('::1')).toBeUndefined();
});
