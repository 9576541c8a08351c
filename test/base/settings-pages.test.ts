/** The committed example and reference pages say what the declarations say. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parseConfig, readSettings, refuseUnknownKeys } from '../../base/config-file.ts';
import { defaultsOf } from '../../base/settings.ts';
import { bundledPlugins } from '../../command/check-config.ts';
import { commands } from '../../command/commands.ts';
import { settingsTables } from '../../command/configuration.ts';
import { commandPage } from '../../command/help.ts';
import { exampleFile, settingsPage } from '../../command/settings-page.ts';
import { checkPlugins, defaultPlugins } from '../../gateway/plugin-host/open-chain.ts';

const projectDir = path.resolve(import.meta.dirname, '../..');
const plugins = await bundledPlugins();
const pages = [
  {
    file: 'postern.toml.example',
    words: 'check-config --example',
    made: exampleFile(settingsTables, plugins),
  },
  {
    file: 'docs/reference/settings.md',
    words: 'check-config --reference',
    made: settingsPage(settingsTables, plugins),
  },
  { file: 'docs/reference/command.md', words: 'help --reference', made: commandPage(commands) },
];

test.each(pages)('$file is what the declarations make', ({ file, words, made }) => {
  const committed = readFileSync(path.join(projectDir, file), 'utf8');
  const stale = committed === made ? '' : `stale; refresh it: npx postern ${words} > ${file}`;
  expect(stale).toBe('');
});

describe('the example', () => {
  const example = pages[0]!.made;

  test('means the same as no file, as it stands', () => {
    const file = parseConfig(example, 'example');
    refuseUnknownKeys(file, ...settingsTables);
    for (const table of settingsTables) expect(readSettings(file, table)).toEqual(defaultsOf(table));
    expect(file.plugins).toBeUndefined();
  });

  test('is valid with every setting and plugin uncommented, and still means the defaults', async () => {
    const file = parseConfig(example.replaceAll(/^#(?=[[a-z])/gm, ''), 'example');
    refuseUnknownKeys(file, ...settingsTables);
    for (const table of settingsTables) expect(readSettings(file, table)).toEqual(defaultsOf(table));
    const loaded = await checkPlugins(file.plugins ?? [], projectDir);
    expect(loaded.map(({ definition }) => definition.name)).toEqual(plugins.map(({ name }) => name));
    for (const { definition, options } of loaded) expect(options).toEqual(defaultsOf(definition.options));
  });

  test('names every bundled plugin, those of the default list first', () => {
    expect(plugins.slice(0, defaultPlugins.length).map(({ name }) => name)).toEqual(
      defaultPlugins.map(({ use }) => use),
    );
    expect(plugins.map(({ name }) => name)).toEqual(expect.arrayContaining(['clamav', 'spamassassin']));
  });
});
