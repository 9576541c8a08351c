/**
 * Reads `postern.toml` against the declared settings. An error points at its
 * line: the TOML parser keeps no positions, so the line of a key is looked up
 * in the text again, which only happens when there is something to say.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { errnoOf, Fault } from './fault.ts';
import { type Place, readSetting, type SettingsTable, type ValuesOf } from './settings.ts';

/** One `[[plugin]]` of the file, not yet checked against the plugin's own options. */
export interface PluginEntry {
  /** Name of a bundled plugin, an npm package, or a path that starts with `.` or `/`. */
  readonly use: string;
  readonly mode: 'enforce' | 'watch';
  /** Everything else that stands in the entry. */
  readonly options: Readonly<Record<string, unknown>>;
  /** `postern.toml:14 plugin.window` for an option of this entry. */
  readonly place: Place;
}

export interface ConfigFile {
  /** The name errors use; empty when there is no file. */
  readonly name: string;
  readonly root: Readonly<Record<string, unknown>>;
  readonly place: Place;
  /** `undefined` when the file says nothing about plugins: the defaults apply. */
  readonly plugins: readonly PluginEntry[] | undefined;
}

/**
 * Parses the text of a configuration file.
 * @throws {Fault} `bad-config` with file and line.
 */
export function parseConfig(text: string, name: string): ConfigFile {
  let root: Record<string, unknown>;
  try {
    root = parse(text);
  } catch (error) {
    if (error instanceof TomlError) {
      const reason = error.message.split('\n')[0]!.replace(/^Invalid TOML document: /, '');
      throw new Fault('bad-config', `${name}:${error.line} ${reason}; see "postern check-config --example"`, {
        cause: error,
      });
    }
    throw error;
  }
  const lines = findKeyLines(text);
  const place: Place = (key) => `${name}:${lines.get(key) ?? lines.get(key.split('.')[0]!) ?? 1} ${key}`;
  return { name, root, place, plugins: readPlugins(root.plugin, place) };
}

/** What stands when there is no configuration file. */
export const emptyConfig: ConfigFile = { name: '', root: {}, place: (key) => key, plugins: undefined };

/**
 * The configuration a member was started with.
 * @param file  Empty for none.
 * @throws {Fault} `bad-config`
 */
export async function readConfigFile(file: string): Promise<ConfigFile> {
  if (file === '') return emptyConfig;
  try {
    return parseConfig(await readFile(file, 'utf8'), path.basename(file));
  } catch (error) {
    if (errnoOf(error) === '') throw error;
    throw new Fault('bad-config', `${file}: cannot be read (${errnoOf(error)})`, { cause: error });
  }
}

function readPlugins(raw: unknown, place: Place): readonly PluginEntry[] | undefined {
  if (raw === undefined) return undefined;
  if (!Array.isArray(raw))
    throw new Fault(
      'bad-config',
      `${place('plugin')}: a plugin is not a table; write [[plugin]], with double brackets`,
    );
  return raw.map((entry: Record<string, unknown>, index) => {
    const here: Place = (key) => place(`plugin[${index}].${key}`).replace(`plugin[${index}].`, 'plugin.');
    const { use, mode = 'enforce', ...options } = entry;
    if (typeof use !== 'string' || use === '')
      throw new Fault('bad-config', `${here('use')}: the plugin has no name; write use = "connection-limit"`);
    if (mode !== 'enforce' && mode !== 'watch')
      throw new Fault(
        'bad-config',
        `${here('mode')}: ${JSON.stringify(mode)} is not a mode; use "enforce" or "watch"`,
      );
    return { use, mode, options, place: here };
  });
}

/**
 * The values of a table from a file, with defaults for what it does not set.
 * @throws {Fault} `bad-config` with file, line and remedy.
 */
export function readSettings<const T extends SettingsTable>(file: ConfigFile, table: T): ValuesOf<T> {
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(table)) {
    const raw = lookUp(file.root, key);
    values[key] = readSetting(setting, raw === undefined ? setting.default : raw, key, file.place);
  }
  return values as ValuesOf<T>;
}

/** @throws {Fault} `bad-config` for the first key of the file that none of the tables declares. */
export function refuseUnknownKeys(file: ConfigFile, ...tables: readonly SettingsTable[]): void {
  const known = new Set(tables.flatMap((table) => Object.keys(table)));
  const visit = (value: unknown, path: string): void => {
    if (known.has(path)) return;
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)) {
      if (path === '' || [...known].some((key) => key.startsWith(`${path}.`))) {
        for (const [key, inner] of Object.entries(value)) visit(inner, path === '' ? key : `${path}.${key}`);
        return;
      }
    }
    if (path === 'plugin') return;
    if ([...known].some((key) => key.startsWith(`${path}.`)))
      throw new Fault(
        'bad-config',
        `${file.place(path)}: this is a table; write [${path}] and its settings below`,
      );
    const near = nearest(path, known);
    throw new Fault(
      'bad-config',
      `${file.place(path)}: there is no such setting${near ? `; did you mean "${near}"?` : '; see "postern check-config --example"'}`,
    );
  };
  visit(file.root, '');
}

/** The known word nearest to what was written, when it is near enough to be a slip. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 4)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.slice(0, 64), candidate.slice(0, 64));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/** What stands under a dotted key; `undefined` for nothing. */
export function lookUp(root: Readonly<Record<string, unknown>>, dotted: string): unknown {
  let value: unknown = root;
  for (const part of dotted.split('.')) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}

/** Line numbers of keys, tables and `[[plugin]]` entries: `listen.smtp` → 4, `plugin[0].mode` → 12. */
function findKeyLines(text: string): Map<string, number> {
  const found = new Map<string, number>();
  const counts = new Map<string, number>();
  let prefix = '';
  for (const [index, line] of text.split('\n').entries()) {
    const list = /^\s*\[\[\s*([\w.-]+)\s*\]\]/.exec(line);
    const table = /^\s*\[\s*([\w.-]+)\s*\]/.exec(line);
    const key = /^\s*"?([\w.-]+)"?\s*=/.exec(line);
    if (list) {
      const count = counts.get(list[1]!) ?? 0;
      counts.set(list[1]!, count + 1);
      prefix = `${list[1]}[${count}].`;
      if (!found.has(list[1]!)) found.set(list[1]!, index + 1);
      found.set(prefix.slice(0, -1), index + 1);
    } else if (table) {
      prefix = `${table[1]}.`;
      found.set(table[1]!, index + 1);
    } else if (key && !found.has(prefix + key[1])) {
      found.set(prefix + key[1], index + 1);
    }
  }
  return found;
}
