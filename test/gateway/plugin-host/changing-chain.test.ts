/** Plugins that become others while questions are asked. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { PluginEntry } from '../../../base/config-file.ts';
import { Fault } from '../../../base/fault.ts';
import { type Log, openLog } from '../../../base/log.ts';
import type { Chain } from '../../../gateway/plugin-host/chain.ts';
import { openChangingChain } from '../../../gateway/plugin-host/changing-chain.ts';
import { waitFor } from '../../support/process.ts';

const entry = (use: string): PluginEntry => ({ use, mode: 'enforce', options: {}, place: (key) => key });
const session = {} as never;

let directory = '';
let log: Log;
const opened: string[] = [];
const closed: string[] = [];
const waiting = new Map<string, PromiseWithResolvers<void>>();

/** A chain whose answers name its plugins; one called `bad` cannot start, one called `slow…` takes until it is let go. */
async function open(entries: readonly PluginEntry[]): Promise<Chain> {
  const name = entries.map(({ use }) => use).join('+');
  if (name === 'bad') throw new Fault('bad-config', 'postern.toml:3 plugin.use: bad cannot start');
  if (name.startsWith('slow')) {
    const turn = Promise.withResolvers<void>();
    waiting.set(name, turn);
    await turn.promise;
  }
  opened.push(name);
  return {
    ask: async () => ({ word: 'pass', plugin: name }),
    tell: () => {},
    wants: () => true,
    close: async () => void closed.push(name),
  };
}

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-chain-'));
  log = openLog({ member: 'test', file: path.join(directory, 'test.log') });
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test('the next question goes to the new plugins; what cannot start leaves the old ones', async () => {
  const chain = await openChangingChain([entry('one')], open, log);
  const who = async (): Promise<string | undefined> =>
    (await chain.ask('greeting', session, 'client.test')).plugin;
  expect(await who()).toBe('one');
  await chain.change([entry('two'), entry('three')]);
  expect(await who()).toBe('two+three');
  await chain.change([entry('bad')]);
  expect(await who()).toBe('two+three');
  expect(closed).toEqual([]);
  await chain.close();
  expect(closed.sort()).toEqual(['one', 'two+three']);
  await waitFor('the log', async () =>
    /bad cannot start/.test(await readFile(path.join(directory, 'test.log'), 'utf8')),
  );
});

test('changes that come while plugins start are taken together, and the last one counts', async () => {
  opened.length = 0;
  const chain = await openChangingChain([entry('first')], open, log);
  const changing = chain.change([entry('slow')]);
  void chain.change([entry('skipped')]);
  const done = chain.change([entry('last')]);
  expect((await chain.ask('greeting', session, 'client.test')).plugin).toBe('first');
  waiting.get('slow')!.resolve();
  await Promise.all([changing, done]);
  expect((await chain.ask('greeting', session, 'client.test')).plugin).toBe('last');
  expect(opened).toEqual(['first', 'slow', 'last']);
  await chain.close();
});

test('one that is closed while plugins start closes those too', async () => {
  closed.length = 0;
  const chain = await openChangingChain([entry('only')], open, log);
  const changing = chain.change([entry('slow late')]);
  await chain.close();
  waiting.get('slow late')!.resolve();
  await changing;
  expect(closed.sort()).toEqual(['only', 'slow late']);
});

test('the first plugins have to start', async () => {
  await expect(openChangingChain([entry('bad')], open, log)).rejects.toThrow(/bad cannot start/);
});
