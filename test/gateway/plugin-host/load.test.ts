/** Plugins come from three places, and a mistake in an entry is told with its line and remedy. */

import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseConfig } from '../../../base/config-file.ts';
import { checkPlugins, defaultPlugins } from '../../../gateway/plugin-host/open-chain.ts';
import { temporaryDir } from '../../support/process.ts';

let dir: { path: string; remove(): Promise<void> };

const good = (name: string): string =>
  `export default { name: '${name}', options: { words: { kind: 'texts', default: [], doc: 'x' } }, start: () => ({}) };\n`;

beforeAll(async () => {
  dir = await temporaryDir('load');
  await writeFile(path.join(dir.path, 'site.mjs'), good('site'));
  await writeFile(path.join(dir.path, 'broken.mjs'), 'export default {;\n');
  await writeFile(path.join(dir.path, 'lost-import.mjs'), `import './nowhere.mjs';\n${good('lost')}`);
  await writeFile(path.join(dir.path, 'no-plugin.mjs'), 'export default 12;\n');
  await writeFile(path.join(dir.path, 'bad-name.mjs'), good('Bad Name'));
  const packageDir = path.join(dir.path, 'node_modules/postern-plugin-one');
  await mkdir(packageDir, { recursive: true });
  await writeFile(
    path.join(packageDir, 'package.json'),
    '{"name":"postern-plugin-one","version":"1.0.0","type":"module","main":"index.js"}',
  );
  await writeFile(path.join(packageDir, 'index.js'), good('one'));
});

afterAll(() => dir.remove());

const check = (toml: string) => checkPlugins(parseConfig(toml, 'postern.toml').plugins ?? [], dir.path);

describe('a plugin is found', () => {
  test.each([
    ['as a bundled name', 'guess-guard', 'guess-guard'],
    ['as a file beside the configuration', './site.mjs', 'site'],
    ['as an npm package', 'postern-plugin-one', 'one'],
  ])('%s', async (_, use, name) => {
    const [loaded] = await check(`[[plugin]]\nuse = "${use}"\n`);
    expect(loaded!.definition.name).toBe(name);
  });

  test('as an absolute path', async () => {
    const [loaded] = await check(`[[plugin]]\nuse = "${dir.path}/site.mjs"\n`);
    expect(loaded!.definition.name).toBe('site');
  });

  test('the plugins that run by default are bundled', async () => {
    const loaded = await checkPlugins(defaultPlugins, dir.path);
    expect(loaded.map((one) => one.definition.name)).toEqual([
      'connection-limit',
      'guess-guard',
      'early-talker',
    ]);
  });

  test.each(['clamav', 'spamassassin'])('%s is bundled, with every option documented', async (name) => {
    const [loaded] = await check(`[[plugin]]\nuse = "${name}"\n`);
    for (const option of Object.values(loaded!.definition.options)) expect(option.doc).toMatch(/^[A-Z].*\.$/);
    expect(loaded!.onFailure).toBe('defer');
  });
});

describe('options', () => {
  test('arrive in code units, with defaults', async () => {
    const [loaded] = await check('[[plugin]]\nuse = "guess-guard"\nwindow = "1h"\ndeadline = "2s"\n');
    expect(loaded).toMatchObject({ deadlineMs: 2000, options: { window: 3_600_000, failures_max: 10 } });
  });

  const rows: readonly [toml: string, words: string | RegExp][] = [
    [
      '\n[[plugin]]\nuse = "guess-guard"\nwindow = "10x"\n',
      'postern.toml:4 plugin.window: "10x" is not a duration; try "10m"',
    ],
    [
      '[[plugin]]\nuse = "guess-guard"\nfailure_max = 3\n',
      'postern.toml:3 plugin.failure_max: plugin guess-guard has no such option; did you mean "failures_max"?',
    ],
    [
      '[[plugin]]\nuse = "guess-guard"\nxyzzy = 3\n',
      /^postern\.toml:3 plugin\.xyzzy: plugin guess-guard has no such option; it has: failures_max, /,
    ],
    [
      '[[plugin]]\nuse = "guess-guard"\n[[plugin]]\nuse = "./site.mjs"\nwords = "a"\n',
      'postern.toml:5 plugin.words: "a" is not a list of texts; try ["one", "two"]',
    ],
    [
      '[[plugin]]\nuse = "guess-guard"\non_failure = "ignore"\n',
      'postern.toml:3 plugin.on_failure: "ignore" is not one of by-question, pass, defer; try "by-question"',
    ],
    [
      '[[plugin]]\nuse = "guess-guard"\ndeadline = "1ms"\n',
      'postern.toml:3 plugin.deadline: "1ms" is not at least 10ms; use 10ms or more',
    ],
    [
      '[[plugin]]\nuse = "nowhere"\n',
      /^postern\.toml:2 plugin\.use: there is no plugin "nowhere"; name a bundled one/,
    ],
    ['[[plugin]]\nuse = "api"\n', /^postern\.toml:2 plugin\.use: there is no plugin "api"/],
    [
      '[[plugin]]\nuse = "./nowhere.ts"\n',
      /^postern\.toml:2 plugin\.use: there is no plugin "\.\/nowhere\.ts"/,
    ],
    [
      '[[plugin]]\nuse = "./no-plugin.mjs"\n',
      /^postern\.toml:2 plugin\.use: "\.\/no-plugin\.mjs" is not a plugin; it needs/,
    ],
    ['[[plugin]]\nuse = "./bad-name.mjs"\n', /"\.\/bad-name\.mjs" is not a plugin/],
    [
      '[[plugin]]\nuse = "./broken.mjs"\n',
      /^postern\.toml:2 plugin\.use: plugin "\.\/broken\.mjs" cannot be loaded: /,
    ],
    ['[[plugin]]\nuse = "./lost-import.mjs"\n', /plugin "\.\/lost-import\.mjs" cannot be loaded: .*nowhere/],
    ['[[plugin]]\nuse = "../../etc/passwd"\n', /^postern\.toml:2 plugin\.use: /],
  ];
  test.each(rows)('%j is an error that points', async (toml, words) => {
    await expect(check(toml)).rejects.toMatchObject({ code: 'bad-config' });
    await expect(check(toml)).rejects.toThrow(words);
  });
});
