/**
 * A configuration file with values from elsewhere laid over it: what is set for
 * the whole cluster goes before what a machine's file says. Pure.
 */
import type { ConfigFile, PluginEntry } from './config-file.ts';

/** `plugin.guess-guard.failures_max`: an option of every entry of that plugin. */
export const pluginKeyPattern = /^plugin\.([a-z][a-z0-9-]{0,63})\.([a-z][a-z0-9_]{0,63})$/;

/**
 * @param over  Dotted keys and raw values, as the file would have them.
 * @param defaults  The plugins that run when the file names none.
 */
export function overlaid(
  file: ConfigFile,
  over: ReadonlyMap<string, unknown>,
  defaults: readonly PluginEntry[] = [],
): ConfigFile {
  if (over.size === 0) return file;
  const root = structuredClone(file.root) as Record<string, unknown>;
  const options = new Map<string, Record<string, unknown>>();
  for (const [key, value] of over) {
    const plugin = pluginKeyPattern.exec(key);
    if (plugin === null) put(root, key.split('.'), value);
    else options.set(plugin[1]!, { ...options.get(plugin[1]!), [plugin[2]!]: value });
  }
  return {
    name: file.name,
    root,
    place: (key) => (over.has(key) ? `cluster setting ${key}` : file.place(key)),
    plugins:
      options.size === 0
        ? file.plugins
        : (file.plugins ?? defaults).map((entry) => withOptions(entry, options.get(entry.use))),
  };
}

function withOptions(entry: PluginEntry, over: Record<string, unknown> | undefined): PluginEntry {
  if (over === undefined) return entry;
  const { mode = entry.mode, ...options } = over;
  return {
    use: entry.use,
    mode: mode === 'watch' ? 'watch' : 'enforce',
    options: { ...entry.options, ...options },
    place: (key) =>
      Object.hasOwn(over, key) ? `cluster setting plugin.${entry.use}.${key}` : entry.place(key),
  };
}

function put(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let table = root;
  for (const part of path.slice(0, -1)) {
    const inner = Object.hasOwn(table, part) ? table[part] : undefined;
    const next = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
    Object.defineProperty(table, part, { value: next, enumerable: true, writable: true, configurable: true });
    table = next;
  }
  Object.defineProperty(table, path.at(-1)!, { value, enumerable: true, writable: true, configurable: true });
}
