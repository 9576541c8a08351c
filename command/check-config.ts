/** `postern check-config`: everything the configuration says, plugins and their options included. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { PluginEntry } from '../base/config-file.ts';
import { entryOptions, loadPlugin } from '../gateway/plugin-host/load.ts';
import { checkPlugins, defaultPlugins } from '../gateway/plugin-host/open-chain.ts';
import { type CommandCall, exitCode } from './command.ts';
import { loadConfiguration, settingsTables } from './configuration.ts';
import { exampleFile, type PluginPage, settingsPage } from './settings-page.ts';

export async function checkConfig(call: CommandCall): Promise<number> {
  if (call.values.example === true) {
    process.stdout.write(exampleFile(settingsTables, await bundledPlugins()));
    return exitCode.done;
  }
  if (call.values.reference === true) {
    process.stdout.write(settingsPage(settingsTables, await bundledPlugins()));
    return exitCode.done;
  }
  const { configPath, file, layout } = loadConfiguration(call.where);
  const configDir = configPath === '' ? layout.data : path.dirname(configPath);
  const plugins = await checkPlugins(file.plugins ?? defaultPlugins, configDir);
  const names = plugins.map(({ definition, entry }) => ({ name: definition.name, mode: entry.mode }));
  const shown = names.map(({ name, mode }) => (mode === 'watch' ? `${name} (watch)` : name)).join(', ');
  call.print(
    { ok: true, config: configPath, plugins: names },
    `${configPath === '' ? 'no postern.toml here: the defaults apply' : `${configPath}: good`}\nplugins: ${shown || 'none'}\n`,
  );
  // A plugin may have opened something when it was loaded.
  setImmediate(() => process.exit());
  return exitCode.done;
}

/** Every plugin of `gateway/plugins/`, those of the default list first. */
export async function bundledPlugins(): Promise<PluginPage[]> {
  const directory = path.resolve(import.meta.dirname, '../gateway/plugins');
  const defaults = defaultPlugins.map(({ use }) => use);
  const names = (await readdir(directory))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts') && name !== 'api.ts')
    .map((name) => name.slice(0, -3))
    .sort();
  const ordered = [...defaults, ...names.filter((name) => !defaults.includes(name))];
  const pages: PluginPage[] = [];
  for (const use of ordered) {
    const entry: PluginEntry = { use, mode: 'enforce', options: {}, place: (key) => `${use} ${key}` };
    const { definition } = await loadPlugin(entry, directory);
    pages.push({
      name: use,
      options: definition.options,
      common: entryOptions,
      isDefault: defaults.includes(use),
    });
  }
  return pages;
}
