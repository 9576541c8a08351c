/** What a member goes by: the cluster's settings before its file, applied while it runs or named. */

import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type PluginEntry, parseConfig, readSettings } from '../../base/config-file.ts';
import { overlaid } from '../../base/config-overlay.ts';
import { openLog } from '../../base/log.ts';
import type { SettingsTable } from '../../base/settings.ts';
import { changeAndRecord, historyEntriesMax, readHistory } from '../../cluster-protocol/change-history.ts';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../../cluster-protocol/registry.ts';
import { followSettings, type SharedSettings } from '../../cluster-protocol/shared-settings.ts';
import { temporaryDir, waitFor } from '../support/process.ts';

const table = {
  'box.size': { kind: 'size', default: '1MiB', cluster: 'live', doc: '' },
  'box.count': { kind: 'count', default: 3, max: 10, cluster: 'restart', doc: '' },
  'box.place': { kind: 'path', default: '', doc: '' },
} as const satisfies SettingsTable;
const file = parseConfig('[box]\ncount = 4\n[[plugin]]\nuse = "guard"\nmost = 5\n', 'postern.toml');

let dir: Awaited<ReturnType<typeof temporaryDir>>;
let embedded: EmbeddedRegistry;
const open: SharedSettings[] = [];

beforeAll(async () => {
  dir = await temporaryDir('shared-settings');
  embedded = await openEmbeddedRegistry(
    path.join(dir.path, 'registry.db'),
    path.join(dir.path, 'registry.sock'),
  );
});
afterAll(async () => {
  for (const shared of open) shared.close();
  await embedded?.close();
  await dir?.remove();
});

async function member(plugins: PluginEntry[][] = []) {
  const values = readSettings(file, table);
  const shared = await followSettings({
    registry: embedded.registry,
    file,
    sheets: [{ table, values }],
    log: openLog({ member: 'test', file: path.join(dir.path, 'test.log') }),
    plugins: { defaults: [], changed: (entries) => plugins.push([...entries]) },
  });
  open.push(shared);
  return { values: values as Record<string, unknown>, shared };
}
const put = (key: string, value: unknown) =>
  embedded.registry.transact([], [{ put: registryKey.setting(key), value: JSON.stringify(value) }]);
const remove = (key: string) => embedded.registry.transact([], [{ remove: registryKey.setting(key) }]);

describe('settings of the cluster', () => {
  test('go before the file, and are there when the member starts', async () => {
    await put('box.size', '2MiB');
    await put('box.count', 7);
    const { values } = await member();
    expect(values).toEqual({ 'box.size': 2 * 1024 ** 2, 'box.count': 7, 'box.place': '' });
    await remove('box.size');
    await remove('box.count');
  });

  test('reach a running member where they are live, and are left for its next start where not', async () => {
    const { values, shared } = await member();
    await put('box.count', 8);
    await put('box.size', '5MiB');
    await waitFor('the live one', () => values['box.size'] === 5 * 1024 ** 2);
    expect(values['box.count']).toBe(4);
    expect(shared.file.place('box.size')).toBe('cluster setting box.size');
    await remove('box.size');
    await waitFor('the default', () => values['box.size'] === 1024 ** 2);
    await remove('box.count');
  });

  test.each([
    ['is out of range', 'box.count', 11],
    ['is of another kind', 'box.size', true],
    ['is a matter of each machine', 'box.place', '/x'],
    ['is not known here', 'box.newer', 1],
  ])('that %s does no harm', async (_what, key, value) => {
    await put(key, value);
    const { values } = await member();
    expect(values).toEqual({ 'box.size': 1024 ** 2, 'box.count': 4, 'box.place': '' });
    await remove(key);
  });

  test('change the options of a plugin', async () => {
    const seen: PluginEntry[][] = [];
    await member(seen);
    await put('plugin.guard.most', 9);
    await put('plugin.guard.mode', 'watch');
    await waitFor('both', () => seen.at(-1)?.[0]?.mode === 'watch' && seen.at(-1)?.[0]?.options.most === 9);
    await remove('plugin.guard.most');
    await remove('plugin.guard.mode');
    await waitFor(
      'neither',
      () => seen.at(-1)?.[0]?.mode === 'enforce' && seen.at(-1)?.[0]?.options.most === 5,
    );
  });

  test('stay over a file that is read again', async () => {
    await put('box.size', '2MiB');
    const { values, shared } = await member();
    const next = parseConfig('[box]\nsize = "9MiB"\ncount = 5\n', 'postern.toml');
    expect(shared.fileChanged(next)).toEqual({ live: ['plugin'], atRestart: ['box.count'] });
    await remove('box.size');
    await waitFor('the new file', () => values['box.size'] === 9 * 1024 ** 2);
  });
});

test('nothing laid over a file reaches beyond it', () => {
  const over = new Map<string, unknown>([
    ['__proto__.polluted', 1],
    ['box.count', 9],
  ]);
  const { root } = overlaid(file, over);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  expect(root).toMatchObject({ box: { count: 9 } });
  expect(file.root).toMatchObject({ box: { count: 4 } });
});

describe('a change', () => {
  const wanted = (key: string, after: string | undefined) => ({
    by: 'root',
    what: key,
    key,
    after: () => after,
  });

  test('is recorded with what stood there before, in order, whoever else changes something', async () => {
    const { registry } = embedded;
    const before = (await readHistory(registry, 1)).at(-1)?.number ?? 0;
    await Promise.all(
      Array.from({ length: 8 }, (_, index) => changeAndRecord(registry, wanted(`test/${index}`, 'x'), index)),
    );
    await changeAndRecord(registry, wanted('test/0', 'y'), 9);
    expect(await changeAndRecord(registry, wanted('test/0', 'y'), 10)).toBeUndefined();
    await changeAndRecord(registry, wanted('test/0', undefined), 11);
    const records = await readHistory(registry, 10);
    expect(records.map(({ number }) => number - before)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(records.slice(-2)).toMatchObject([
      { by: 'root', key: 'test/0', before: 'x', after: 'y' },
      { atMs: 11, before: 'y' },
    ]);
    expect(records.at(-1)).not.toHaveProperty('after');
  });

  test('that is refused leaves no record', async () => {
    const { registry } = embedded;
    const [last] = await readHistory(registry, 1);
    const refused = changeAndRecord(
      registry,
      {
        ...wanted('test/1', 'z'),
        after: () => {
          throw new Error('no');
        },
      },
      1,
    );
    await expect(refused).rejects.toThrow('no');
    expect(await readHistory(registry, 1)).toEqual([last]);
  });

  test('takes the place of the oldest record once there are many', async () => {
    const { registry } = embedded;
    await registry.transact([], [{ put: registryKey.historyLast, value: String(historyEntriesMax + 2) }]);
    const first = (await readHistory(registry, historyEntriesMax))[0]!.number;
    await changeAndRecord(registry, wanted('test/many', 'x'), 1);
    expect((await readHistory(registry, historyEntriesMax)).some(({ number }) => number === 3)).toBe(false);
    expect(first).toBeLessThanOrEqual(3);
  });
});
