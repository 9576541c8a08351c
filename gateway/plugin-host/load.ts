/**
 * From `[[plugin]]` in the configuration to a plugin: finds the module, checks
 * that it is one, and reads its options against what it declares.
 */
import { createRequire, registerHooks } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { nearest, type PluginEntry } from '../../base/config-file.ts';
import { errnoOf, Fault } from '../../base/fault.ts';
import { readSetting, type Setting, type SettingsTable, type ValuesOf } from '../../base/settings.ts';
import type { PluginDefinition } from '../plugins/api.ts';

/** Options every entry may have, beside the plugin's own. */
export const entryOptions = {
  deadline: {
    kind: 'duration',
    default: '10s',
    min: '10ms',
    max: '10m',
    doc: 'Longest a question may take.',
  },
  on_failure: {
    kind: 'choice',
    default: 'by-question',
    choices: ['by-question', 'pass', 'defer'],
    doc: 'What a plugin that throws or does not answer in time means. by-question: what the plugin says; else defer for messages and pass for all other questions.',
  },
} as const satisfies Record<string, Setting>;

export interface LoadedPlugin {
  readonly entry: PluginEntry;
  readonly definition: PluginDefinition;
  /** The plugin's own options, in code units, defaults filled in. */
  readonly options: ValuesOf<SettingsTable>;
  readonly deadlineMs: number;
  /** `undefined`: as the question has it. */
  readonly onFailure: 'pass' | 'defer' | undefined;
}

/** The import name of the plugin API for a site's own plugins, wherever they stand. */
export const apiSpecifier = 'postern/plugin';
/** The same for their tests. */
export const testKitSpecifier = 'postern/plugin-test';

const bundledDir = path.resolve(import.meta.dirname, '../plugins');

/** Modules of `gateway/plugins/` that are not plugins. */
const notPlugins: ReadonlySet<string> = new Set(['api']);

/**
 * Loads one plugin and checks its options. Does not start it.
 * @param configDir  What paths in the entry are relative to; absolute.
 * @throws {Fault} `bad-config` with file, line and remedy.
 */
export async function loadPlugin(entry: PluginEntry, configDir: string): Promise<LoadedPlugin> {
  return readOptions(checkDefinition(await importPlugin(entry, configDir), entry), entry);
}

/** Reads what an entry says against what the plugin declares. @throws {Fault} `bad-config` with file, line and remedy. */
export function readOptions(definition: PluginDefinition, entry: PluginEntry): LoadedPlugin {
  const table: Record<string, Setting> = { ...definition.options };
  const known = [...Object.keys(table), ...Object.keys(entryOptions), 'use', 'mode'];
  for (const key of Object.keys(entry.options)) {
    if (Object.hasOwn(table, key) || Object.hasOwn(entryOptions, key)) continue;
    const near = nearest(key, known);
    const remedy = near ? `did you mean "${near}"?` : `it has: ${known.join(', ')}`;
    throw new Fault(
      'bad-config',
      `${entry.place(key)}: plugin ${definition.name} has no such option; ${remedy}`,
    );
  }
  const options: Record<string, ValuesOf<SettingsTable>[string]> = {};
  for (const [key, setting] of Object.entries(table)) {
    const raw = Object.hasOwn(entry.options, key) ? entry.options[key] : setting.default;
    options[key] = readSetting(setting, raw, key, entry.place) as ValuesOf<SettingsTable>[string];
  }
  const deadline = entry.options.deadline ?? definition.deadline ?? entryOptions.deadline.default;
  return {
    entry,
    definition,
    options,
    deadlineMs: readSetting(entryOptions.deadline, deadline, 'deadline', entry.place) as number,
    onFailure: onFailureOf(entry, definition),
  };
}

function onFailureOf(entry: PluginEntry, definition: PluginDefinition): LoadedPlugin['onFailure'] {
  const asked = entry.options.on_failure ?? definition.onFailure ?? entryOptions.on_failure.default;
  const read = readSetting(entryOptions.on_failure, asked, 'on_failure', entry.place);
  const chosen = read === 'by-question' ? definition.onFailure : read;
  return chosen === 'pass' || chosen === 'defer' ? chosen : undefined;
}

async function importPlugin(entry: PluginEntry, configDir: string): Promise<unknown> {
  const { use } = entry;
  const at = entry.place('use');
  try {
    if (/^\.{0,2}\//.test(use)) {
      letSitePluginsFindTheApi();
      return await import(pathToFileURL(path.resolve(configDir, use)).href);
    }
    if (/^[a-z][a-z0-9-]*$/.test(use) && !notPlugins.has(use)) {
      const bundled = await import(pathToFileURL(path.join(bundledDir, `${use}.ts`)).href).catch(
        (error: unknown) => {
          if (isNotFound(error, `${use}.ts`)) return undefined;
          throw error;
        },
      );
      if (bundled !== undefined) return bundled;
    }
    letSitePluginsFindTheApi();
    return await import(pathToFileURL(createRequire(path.join(configDir, 'postern.toml')).resolve(use)).href);
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new Fault(
      'bad-config',
      isNotFound(error, use)
        ? `${at}: there is no plugin "${use}"; name a bundled one, an installed npm package, or a file as "./${use}.ts"`
        : `${at}: plugin "${use}" cannot be loaded: ${reason}`,
      { cause: error },
    );
  }
}

/** Was it the module itself that is missing, not one it imports? */
function isNotFound(error: unknown, name: string): boolean {
  if (!['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'].includes(errnoOf(error))) return false;
  const wanted = /'([^']+)'/.exec((error as Error).message)?.[1] ?? '';
  return (
    wanted === name ||
    wanted.endsWith(`/${path.basename(name)}`) ||
    wanted.endsWith(`/${path.basename(name)}.ts`)
  );
}

function checkDefinition(module: unknown, entry: PluginEntry): PluginDefinition {
  const found = (module as { default?: unknown }).default as Partial<PluginDefinition> | undefined;
  const good =
    typeof found === 'object' &&
    found !== null &&
    typeof found.name === 'string' &&
    /^[a-z][a-z0-9-]{0,63}$/.test(found.name) &&
    typeof found.start === 'function' &&
    (found.options === undefined || (typeof found.options === 'object' && found.options !== null));
  if (!good) {
    throw new Fault(
      'bad-config',
      `${entry.place('use')}: "${entry.use}" is not a plugin; it needs "export default definePlugin({ name, options, start })"`,
    );
  }
  return { ...found, options: found.options ?? {}, start: found.start!.bind(found) } as PluginDefinition;
}

let apiFound = false;

/**
 * A file of the site's own may stand anywhere, so no relative path leads from it to us:
 * `import { definePlugin } from 'postern/plugin'` is led to the API by this hook.
 */
export function letSitePluginsFindTheApi(): void {
  if (apiFound) return;
  apiFound = true;
  const urls = new Map(
    [
      [apiSpecifier, path.join(bundledDir, 'api.ts')],
      [testKitSpecifier, path.resolve(bundledDir, '../plugin-kit/plugin-test.ts')],
    ].map(([specifier, file]) => [specifier, pathToFileURL(file!).href]),
  );
  try {
    registerHooks({
      resolve(specifier, context, next) {
        const url = urls.get(specifier);
        return url === undefined
          ? next(specifier, context)
          : { url, format: 'module-typescript', shortCircuit: true };
      },
    });
  } catch {
    // A loader that is not Node's own (a test runner's) takes no hooks: there, plugins import the API by its path.
  }
}
