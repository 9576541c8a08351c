/** The plugins that watch connections and logins, asked as the doors ask them. */
import { describe, expect, test } from '@jest/globals';
import type { PluginEntry } from '../../../base/config-file.ts';
import { silentLog } from '../../../base/log.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import type { Session, Wire } from '../../../gateway/plugins/api.ts';
import { entry, quietWire, session } from '../plugin-host/fixtures.ts';

const chainOf = (plugins: readonly PluginEntry[]) =>
  openChain({ plugins, configDir: '/', log: silentLog, stallMs: 0 });

describe('connection-limit', () => {
  test('lets so many connections of a network in, and more when one has gone', async () => {
    const chain = await chainOf([entry('connection-limit', { per_network: 2 })]);
    const connect = async (address: string): Promise<[string, Session]> => {
      const one = session({ address });
      const { word } = await chain.ask('connect', one, quietWire);
      if (word === 'pass') chain.tell('connected', one);
      return [word, one];
    };
    const [, first] = await connect('192.0.2.1');
    expect((await connect('192.0.2.1'))[0]).toBe('pass');
    expect((await connect('192.0.2.1'))[0]).toBe('disconnect');
    expect((await connect('192.0.2.2'))[0]).toBe('pass');
    chain.tell('disconnected', first);
    chain.tell('disconnected', first);
    expect((await connect('192.0.2.1'))[0]).toBe('pass');
    expect((await connect('192.0.2.1'))[0]).toBe('disconnect');
  });

  test('counts the same when the report of the connection comes before the question', async () => {
    const chain = await chainOf([entry('connection-limit', { per_network: 1 })]);
    const words: string[] = [];
    for (const one of [session(), session()]) {
      chain.tell('connected', one);
      words.push((await chain.ask('connect', one, quietWire)).word);
    }
    expect(words).toEqual(['pass', 'disconnect']);
  });

  test('counts those that arrive together, before any is connected', async () => {
    const chain = await chainOf([entry('connection-limit', { per_network: 3 })]);
    const words = await Promise.all(
      Array.from({ length: 5 }, async () => (await chain.ask('connect', session(), quietWire)).word),
    );
    expect(words).toEqual(['pass', 'pass', 'pass', 'disconnect', 'disconnect']);
  });

  test('gives back what another plugin refused', async () => {
    const chain = await chainOf([
      entry('connection-limit', { per_network: 1 }),
      entry('early-talker', { wait: '10ms' }),
    ]);
    const words: string[] = [];
    for (const spoke of [true, true, false, false]) {
      words.push(
        (await chain.ask('connect', session(), { spokeFirst: async () => spoke })).plugin ?? 'nobody',
      );
    }
    expect(words).toEqual(['early-talker', 'early-talker', 'nobody', 'connection-limit']);
  });

  test('counts the wide network too', async () => {
    const chain = await chainOf([entry('connection-limit', { per_wide_network: 3 })]);
    const words: string[] = [];
    for (let host = 1; host <= 4; host++) {
      const one = session({ address: `192.0.2.${host}` });
      words.push((await chain.ask('connect', one, quietWire)).word);
      chain.tell('connected', one);
    }
    expect(words).toEqual(['pass', 'pass', 'pass', 'disconnect']);
  });
});

describe('guess-guard', () => {
  const attempt = (user = 'demo@postern.test') => ({ user, mechanism: 'PLAIN' });

  test('counts failures of a network over all protocols, and refuses it on each with a login', async () => {
    const chain = await chainOf([entry('guess-guard', { failures_max: 4 })]);
    for (const protocol of ['imap', 'pop3', 'submission', 'http'] as const) {
      const one = session({ protocol });
      expect((await chain.ask('login', one, attempt())).word).toBe('pass');
      chain.tell('loginFailed', one, attempt());
    }
    const rows: readonly [Session['protocol'], string][] = [
      ['imap', 'defer'],
      ['pop3', 'defer'],
      ['submission', 'defer'],
      ['http', 'defer'],
      ['smtp', 'pass'],
    ];
    for (const [protocol, word] of rows) {
      expect((await chain.ask('connect', session({ protocol }), quietWire)).word).toBe(word);
    }
    // on a connection that was open already
    expect((await chain.ask('login', session({ protocol: 'imap' }), attempt())).word).toBe('disconnect');
    // somebody else is served
    const other = session({ protocol: 'imap', address: '198.51.100.7' });
    expect((await chain.ask('connect', other, quietWire)).word).toBe('pass');
  });

  test('one account guessed from many networks is slowed; its owner, known from before, is not', async () => {
    const chain = await chainOf([
      entry('guess-guard', { account_failures_max: 5, account_delay: '200ms', failures_max: 3 }),
    ]);
    const home = { address: '203.0.113.9', protocol: 'imap' as const };
    chain.tell('loggedIn', session({ ...home, account: 'demo@postern.test' }));
    for (let host = 1; host <= 6; host++) {
      chain.tell('loginFailed', session({ address: `192.0.${host}.1` }), attempt());
    }
    const took = async (address: string, user?: string): Promise<[string, boolean]> => {
      const began = performance.now();
      const { word } = await chain.ask('login', session({ protocol: 'imap', address }), attempt(user));
      return [word, performance.now() - began > 150];
    };
    expect(await took('198.51.100.7')).toEqual(['pass', true]);
    expect(await took(home.address)).toEqual(['pass', false]);
    expect(await took('198.51.100.7', 'eve@postern.test')).toEqual(['pass', false]);
  });

  test('a network that tries one password on many accounts is refused as a whole', async () => {
    const chain = await chainOf([entry('guess-guard', { wide_failures_max: 20 })]);
    for (let host = 1; host <= 20; host++) {
      const one = session({ protocol: 'imap', address: `192.0.2.${host}` });
      chain.tell('loginFailed', one, attempt(`user${host}@postern.test`));
    }
    const next = session({ protocol: 'imap', address: '192.0.2.99' });
    expect((await chain.ask('connect', next, quietWire)).word).toBe('defer');
  });
});

describe('early-talker', () => {
  const wire = (speaks: boolean, waits: number[]): Wire => ({
    async spokeFirst(waitMs) {
      waits.push(waitMs);
      return speaks;
    },
  });

  test('turns away who speaks first on port 25, and makes nobody wait twice', async () => {
    const chain = await chainOf([entry('early-talker', { wait: '1s' })]);
    const waits: number[] = [];
    const ask = async (speaks: boolean, facts: Parameters<typeof session>[0] = {}) =>
      (await chain.ask('connect', session(facts), wire(speaks, waits))).word;
    expect(await ask(true)).toBe('disconnect');
    expect(await ask(false)).toBe('pass');
    expect(await ask(false)).toBe('pass');
    expect(await ask(true)).toBe('disconnect');
    expect(await ask(true, { protocol: 'submission' })).toBe('pass');
    expect(await ask(true, { protocol: 'imap' })).toBe('pass');
    expect(waits).toEqual([1000, 1000, 0, 0]);
  });
});
