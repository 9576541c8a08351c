/** Whatever a plugin does, the door gets one verdict (CASES 54). */

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { PluginEntry } from '../../../base/config-file.ts';
import { silentLog } from '../../../base/log.ts';
import type { ChainMetrics } from '../../../gateway/plugin-host/chain.ts';
import { openChain } from '../../../gateway/plugin-host/open-chain.ts';
import { temporaryDir } from '../../support/process.ts';
import { entry, message, quietWire, rememberingLog, session, writePlugins } from './fixtures.ts';

/** Name → what it answers to `connect` and `message`. */
const answers: Record<string, string> = {
  passes: `() => ({ word: 'pass' })`,
  accepts: `async () => ({ word: 'accept' })`,
  defers: `() => ({ word: 'defer', say: 'later' })`,
  rejects: `() => ({ word: 'reject', say: 'no', log: 'because' })`,
  disconnects: `() => ({ word: 'disconnect', say: 'bye' })`,
  throttles: `() => ({ word: 'throttle', delayMs: 60 })`,
  quarantines: `() => ({ word: 'pass', quarantine: true, log: 'smells' })`,
  drops: `() => ({ word: 'pass', dropFields: [{ name: 'X-Old' }, { name: 'Authentication-Results', valueStart: 'mx.test' }] })`,
  'drops-nonsense': `() => ({ word: 'pass', dropFields: ['X-Old'] })`,
  'tags-a': `() => ({ word: 'pass', headers: [['X-A', 'one']], score: 1 })`,
  'tags-b': `() => ({ word: 'pass', headers: [['X-B', 'two\\r\\nX-Evil: yes']], score: 2.5 })`,
  throws: `() => { throw new Error('boom') }`,
  rejecting: `async () => { throw new Error('boom') }`,
  silent: `() => new Promise(() => {})`,
  'nonsense-word': `() => ({ word: 'allow' })`,
  'nonsense-type': `() => 250`,
  nothing: `() => {}`,
  'bad-header': `() => ({ word: 'pass', headers: [['X A', 'one']] })`,
  'bad-delay': `() => ({ word: 'throttle', delayMs: Infinity })`,
  'bad-getter': `() => ({ get word() { throw new Error('boom') } })`,
  twice: `() => ({ then(settle) { settle({ word: 'pass' }); settle({ word: 'reject' }); } })`,
  'then-throws': `() => ({ then(settle) { settle({ word: 'pass' }); throw new Error('boom') } })`,
  late: `() => new Promise((resolve) => setTimeout(resolve, 400, { word: 'reject', say: 'late' }))`,
  'late-throw': `() => new Promise((_, fail) => setTimeout(fail, 400, new Error('late')))`,
  'throws-undefined': `() => { throw undefined }`,
};

let dir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dir = await temporaryDir('plugins');
  const bodies = Object.entries(answers).map(([name, answer]) => [
    name,
    `const answer = ${answer}; return { asked: { connect: answer, message: answer } };`,
  ]);
  await writePlugins(dir.path, {
    ...Object.fromEntries(bodies),
    'keeps-stream': `return { asked: { message: (s, m) => { m.stream(); return { word: 'pass' } } } };`,
    'holds-loop': `return { asked: { connect() { const end = performance.now() + 80; while (performance.now() < end); return { word: 'pass' } } } };`,
    'told-throws': `return { told: { connected() { throw new Error('boom') }, async disconnected() { throw new Error('boom') } } };`,
    'told-late': `return { told: { connected() { host.count('seen') } } };`,
    'no-work': ``,
    'start-throws': `throw new Error('no licence');`,
    counts: `const c = host.countWithin('shared', 60000); return { asked: { connect: (s) => { c.add('k'); return { word: c.of('k') > 2 ? 'reject' : 'pass' } } } };`,
  });
});

afterAll(() => dir.remove());

const chainOf = async (
  plugins: readonly PluginEntry[],
  options: { log?: typeof silentLog; metrics?: ChainMetrics } = {},
) => openChain({ plugins, configDir: dir.path, log: silentLog, stallMs: 0, ...options });

const use = (name: string, options: Record<string, unknown> = {}, mode: 'enforce' | 'watch' = 'enforce') =>
  entry(`./${name}.mjs`, { deadline: '150ms', ...options }, mode);

describe('one plugin', () => {
  const rows: readonly [plugin: string, connect: string, message: string][] = [
    ['passes', 'pass', 'pass'],
    ['accepts', 'accept', 'accept'],
    ['defers', 'defer', 'defer'],
    ['rejects', 'reject', 'reject'],
    ['disconnects', 'disconnect', 'disconnect'],
    ['throttles', 'pass', 'pass'],
    ['twice', 'pass', 'pass'],
    ['then-throws', 'pass', 'pass'],
    // a failure: pass where nothing is let through by it, defer for a message
    ['throws', 'pass', 'defer'],
    ['rejecting', 'pass', 'defer'],
    ['silent', 'pass', 'defer'],
    ['nonsense-word', 'pass', 'defer'],
    ['nonsense-type', 'pass', 'defer'],
    ['nothing', 'pass', 'defer'],
    ['bad-header', 'pass', 'defer'],
    ['bad-delay', 'pass', 'defer'],
    ['drops-nonsense', 'pass', 'defer'],
    ['bad-getter', 'pass', 'defer'],
    ['late', 'pass', 'defer'],
    ['late-throw', 'pass', 'defer'],
    ['throws-undefined', 'pass', 'defer'],
  ];
  test.each(rows)('that %s means %s at connect and %s for a message', async (name, connect, atMessage) => {
    const chain = await chainOf([use(name)]);
    expect((await chain.ask('connect', session(), quietWire)).word).toBe(connect);
    expect((await chain.ask('message', session(), message('x'))).word).toBe(atMessage);
    await chain.close();
  });

  test.each([
    ['throws', 'pass', 'pass'],
    ['throws', 'defer', 'defer'],
    ['silent', 'pass', 'pass'],
    ['silent', 'defer', 'defer'],
  ])('that %s means what on_failure = "%s" says: %s', async (name, onFailure, word) => {
    const chain = await chainOf([use(name, { on_failure: onFailure })]);
    expect((await chain.ask('message', session(), message('x'))).word).toBe(word);
    expect((await chain.ask('connect', session(), quietWire)).word).toBe(word);
  });
});

describe('several plugins', () => {
  const rows: readonly [plugins: string[], word: string, plugin: string | undefined][] = [
    [[], 'pass', undefined],
    [['passes', 'passes'], 'pass', undefined],
    [['passes', 'rejects', 'defers'], 'reject', 'rejects'],
    [['defers', 'rejects'], 'defer', 'defers'],
    [['accepts', 'rejects'], 'accept', 'accepts'],
    [['throws', 'rejects'], 'defer', 'throws'],
    [['tags-a', 'tags-b', 'rejects'], 'reject', 'rejects'],
  ];
  test.each(rows)('%j make %s', async (names, word, plugin) => {
    const chain = await chainOf(names.map((name) => use(name)));
    expect(await chain.ask('message', session(), message('x'))).toMatchObject({ word, plugin });
  });

  test('headers and scores of those that pass add up, cleaned', async () => {
    const chain = await chainOf([use('tags-a'), use('tags-b'), use('accepts'), use('rejects')]);
    const verdict = await chain.ask('message', session(), message('x'));
    expect(verdict).toMatchObject({ word: 'accept', score: 3.5 });
    expect(verdict.headers).toEqual([
      ['X-A', 'one'],
      ['X-B', 'two X-Evil: yes'],
    ]);
  });

  test('delays add up', async () => {
    const chain = await chainOf([use('throttles'), use('throttles'), use('throttles')]);
    const began = performance.now();
    expect(await chain.ask('connect', session(), quietWire)).toEqual({ word: 'pass', plugin: undefined });
    expect(performance.now() - began).toBeGreaterThan(170);
  });

  test('a delay ends when the gateway stops', async () => {
    const chain = await chainOf(Array.from({ length: 50 }, () => use('throttles')));
    const asked = chain.ask('connect', session(), quietWire);
    const began = performance.now();
    setTimeout(() => void chain.close(), 50);
    await asked;
    expect(performance.now() - began).toBeLessThan(1500);
  });

  test('counters of one name are one counter', async () => {
    const chain = await chainOf([use('counts'), use('counts')]);
    expect((await chain.ask('connect', session(), quietWire)).word).toBe('pass');
    expect((await chain.ask('connect', session(), quietWire)).word).toBe('reject');
  });

  test('only questions somebody asks are wanted', async () => {
    const chain = await chainOf([use('keeps-stream')]);
    expect([chain.wants('message'), chain.wants('connect'), chain.wants('login')]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe('scanners side by side', () => {
  const seen: string[] = [];
  const gate = Promise.withResolvers<void>();
  const beside = `export default { name: 'NAME', sideBySide: true, options: {}, start() { return { asked: { message: BODY } } } };\n`;
  const write = (name: string, body: string): Promise<void> =>
    writeFile(path.join(dir.path, `${name}.mjs`), beside.replace('NAME', name).replace('BODY', body));

  beforeAll(async () => {
    Object.assign(globalThis, { besideSeen: seen, besideGate: gate.promise });
    const waits = (name: string, word: string): string =>
      `async () => { besideSeen.push('${name} begins'); await besideGate; besideSeen.push('${name} ends'); return { word: '${word}', say: '${name}', headers: [['X-${name}', '1']] } }`;
    await write('beside-a', waits('a', 'pass'));
    await write('beside-b', waits('b', 'pass'));
    await write('beside-c', `() => { besideSeen.push('c'); return { word: 'reject', say: 'c' } }`);
    await write(
      'beside-hangs',
      `(s, message) => new Promise((resolve) => message.stream().once('close', resolve).resume().pause())`,
    );
  });

  test('are asked at the same time, and count in their order', async () => {
    const chain = await chainOf(['beside-a', 'beside-b'].map((name) => use(name, { deadline: '30s' })));
    const asked = chain.ask('message', session(), message('x'));
    await new Promise(setImmediate);
    expect(seen).toEqual(['a begins', 'b begins']);
    gate.resolve();
    expect((await asked).headers).toEqual([
      ['X-a', '1'],
      ['X-b', '1'],
    ]);
  });

  test('one that refuses waits for those before it, and not for those behind it', async () => {
    const { log, records } = rememberingLog();
    const chain = await chainOf(
      ['beside-a', 'beside-c', 'beside-hangs'].map((name) => use(name, { deadline: '30s' })),
      { log },
    );
    const opened: Readable[] = [];
    const verdict = await chain.ask('message', session(), message('x'.repeat(200_000), opened));
    expect(verdict).toEqual({ word: 'reject', say: 'c', plugin: 'beside-c' });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(opened.map((stream) => stream.destroyed)).toEqual([true]);
    expect(records.filter(({ text }) => text === 'plugin failed')).toEqual([]);
  });

  test('one that is not a scanner stands between them', async () => {
    seen.length = 0;
    const chain = await chainOf([use('beside-c'), use('passes'), use('beside-a')]);
    expect((await chain.ask('message', session(), message('x'))).plugin).toBe('beside-c');
    expect(seen).toEqual(['c']);
  });
});

describe('quarantine and dropped fields', () => {
  test('are kept when all pass, and forgotten when one refuses', async () => {
    const chain = await chainOf([use('quarantines'), use('drops'), use('passes')]);
    expect(await chain.ask('message', session(), message('x'))).toEqual({
      word: 'pass',
      plugin: 'quarantines',
      log: 'smells',
      quarantine: true,
      dropFields: [{ name: 'X-Old' }, { name: 'Authentication-Results', valueStart: 'mx.test' }],
    });
    const refusing = await chainOf([use('quarantines'), use('drops'), use('rejects')]);
    expect(await refusing.ask('message', session(), message('x'))).toEqual({
      word: 'reject',
      say: 'no',
      log: 'because',
      plugin: 'rejects',
    });
  });
});

describe('watch mode', () => {
  test.each(['rejects', 'throws', 'silent', 'tags-a', 'throttles', 'accepts'])(
    '%s changes nothing',
    async (name) => {
      const chain = await chainOf([use(name, {}, 'watch'), use('passes')]);
      const verdict = await chain.ask('message', session(), message('x'));
      expect(verdict).toEqual({ word: 'pass', plugin: undefined });
    },
  );

  test('what it would have done is logged', async () => {
    const { log, records } = rememberingLog();
    const chain = await chainOf([use('rejects', {}, 'watch')], { log });
    await chain.ask('connect', session(), quietWire);
    expect(records).toContainEqual(
      expect.objectContaining({
        text: 'plugin would have answered',
        facts: expect.objectContaining({ plugin: 'rejects', verdict: 'reject', reason: 'because' }),
      }),
    );
  });
});

describe('the log and the counts', () => {
  test('a refusal is one line and one count, with plugin, question, verdict and reason', async () => {
    const { log, records } = rememberingLog();
    const counted: unknown[] = [];
    const chain = await chainOf([use('rejects')], {
      log,
      metrics: { count: (name, labels, amount) => counted.push([name, labels, amount]) },
    });
    const one = session();
    await chain.ask('connect', one, quietWire);
    expect(records).toEqual([
      {
        level: 'info',
        text: 'plugin answered',
        facts: {
          trace: one.id,
          protocol: 'smtp',
          client: '192.0.2.1',
          plugin: 'rejects',
          question: 'connect',
          verdict: 'reject',
          say: 'no',
          reason: 'because',
        },
      },
    ]);
    expect(counted).toEqual([
      [
        'postern_plugin_verdicts_total',
        { plugin: 'rejects', question: 'connect', verdict: 'reject', mode: 'enforce' },
        1,
      ],
    ]);
  });

  test('a plugin that holds the event loop is named', async () => {
    const { log, records } = rememberingLog();
    const chain = await chainOf([use('holds-loop')], { log });
    await chain.ask('connect', session(), quietWire);
    expect(records).toEqual([
      expect.objectContaining({ level: 'warn', facts: expect.objectContaining({ plugin: 'holds-loop' }) }),
    ]);
    expect(records[0]!.facts.spentMs).toBeGreaterThanOrEqual(79);
  });

  test('a report that throws reaches the others and is logged', async () => {
    const { log, records } = rememberingLog();
    const counted: string[] = [];
    const chain = await chainOf([use('told-throws'), use('told-late')], {
      log,
      metrics: { count: (name) => counted.push(name) },
    });
    chain.tell('connected', session());
    chain.tell('disconnected', session());
    await new Promise(setImmediate);
    expect(counted).toEqual(['postern_plugin_told_late_seen_total']);
    expect(records.map((record) => record.text)).toEqual(Array(2).fill('plugin failed at a report'));
  });
});

describe('a message', () => {
  test('its streams end with the question, read or not', async () => {
    const opened: Readable[] = [];
    const chain = await chainOf([use('keeps-stream')]);
    await chain.ask('message', session(), message('x'.repeat(200_000), opened));
    expect(opened.map((stream) => stream.destroyed)).toEqual([true]);
  });
});

describe('a plugin that keeps failing', () => {
  test('is given a rest after five failures in a row, and asked again later', async () => {
    const { log, records } = rememberingLog();
    const chain = await chainOf([use('silent', { deadline: '300ms' })], { log });
    for (let i = 0; i < 5; i++) await chain.ask('message', session(), message('x'));
    const began = performance.now();
    expect((await chain.ask('message', session(), message('x'))).word).toBe('defer');
    expect(performance.now() - began).toBeLessThan(250);
    expect(records.filter((record) => record.text === 'plugin breaker opened')).toHaveLength(1);
    expect(records.at(-1)!.facts).toMatchObject({ how: 'breaker-open' });
  });
});

describe('what cannot start', () => {
  test.each([
    ['no-work', /^postern\.toml:7 plugin\.use: plugin no-work cannot start: start returned nothing$/],
    ['start-throws', /^postern\.toml:7 plugin\.use: plugin start-throws cannot start: no licence$/],
  ])('%s is an error that points', async (name, words) => {
    await expect(chainOf([use(name)])).rejects.toThrow(words);
  });
});
