/**
 * `postern.toml.example` and `docs/reference/settings.md`, made from the same
 * declarations the code reads its settings with.
 */
import type { Setting, SettingsTable } from '../base/settings.ts';
import { wrapped } from './help.ts';

/** A bundled plugin as the pages show it. */
export interface PluginPage {
  readonly name: string;
  readonly options: SettingsTable;
  /** Options every entry may have. */
  readonly common: SettingsTable;
  /** Runs when the file says nothing about plugins. */
  readonly isDefault: boolean;
}

const widthMax = 100;

/** Settings by TOML table, in the order they are declared; `''` holds those outside any table. */
function grouped(tables: readonly SettingsTable[]): Map<string, [key: string, setting: Setting][]> {
  const groups = new Map<string, [string, Setting][]>();
  for (const [path, setting] of tables.flatMap((table) => Object.entries(table))) {
    const dot = path.lastIndexOf('.');
    const group = dot < 0 ? '' : path.slice(0, dot);
    const list = groups.get(group) ?? [];
    list.push([path.slice(dot + 1), setting]);
    groups.set(group, list);
  }
  return groups;
}

/** The commented example: as it stands, it means the same as no file. */
export function exampleFile(tables: readonly SettingsTable[], plugins: readonly PluginPage[]): string {
  const lines = [
    '# Settings of Postern. Lines that start with "#" and a name show a default: take the "#" away to change it.',
    '# Durations: "500ms", "30s", "10m", "2h", "7d". Sizes: "0B", "256KiB", "50MiB", "2GiB".',
    '# Check before you restart: npx postern check-config',
  ];
  for (const [group, settings] of grouped(tables)) {
    lines.push('');
    if (group !== '') lines.push(`[${group}]`);
    for (const [key, setting] of settings) lines.push(...comment(setting), `#${key} = ${written(setting)}`);
  }
  lines.push(
    '',
    '# Plugins run top to bottom; the first that refuses wins. One entry here replaces the whole default list,',
    `# which is: ${plugins
      .filter(({ isDefault }) => isDefault)
      .map(({ name }) => name)
      .join(', ')}.`,
    '# use = the name of a bundled plugin, an npm package, or a file: "./our-own-check.ts".',
    '# mode = "enforce", or "watch": logs what the plugin would have done, and does nothing.',
  );
  for (const plugin of plugins) {
    lines.push('', '#[[plugin]]', `#use = "${plugin.name}"`, '#mode = "enforce"');
    for (const [key, setting] of Object.entries(plugin.options))
      lines.push(...comment(setting), `#${key} = ${written(setting)}`);
  }
  const common = plugins[0]?.common ?? {};
  lines.push('', '# Every entry may also say:');
  for (const [key, setting] of Object.entries(common)) {
    for (const line of wrapped(`${key} = ${written(setting)}: ${textOf(setting)}`, widthMax - 4))
      lines.push(`#   ${line}`);
  }
  return `${lines.join('\n')}\n`;
}

/** The reference page, Markdown. */
export function settingsPage(tables: readonly SettingsTable[], plugins: readonly PluginPage[]): string {
  const lines = [
    '# Settings',
    '',
    '<!-- Made from the declarations in the code: npx postern check-config --reference > docs/reference/settings.md -->',
    '',
    'They stand in `postern.toml`, or the file `--config` names. `npx postern check-config` checks it; a mistake is one',
    'line with file, line number and remedy. Relative paths are relative to the file.',
    '',
    '* durations: `"500ms"`, `"30s"`, `"10m"`, `"2h"`, `"7d"`',
    '* sizes: `"0B"`, `"256KiB"`, `"50MiB"`, `"2GiB"`',
    '* addresses: a list of `"[::]:25"`, `"127.0.0.1:25"`; an empty list turns the listener off',
    '',
    'What is marked *cluster* can be set for all machines at once, with `postern settings set KEY VALUE`, and then goes before the file:',
    'cluster setting, then file, then default. *Live*: whatever begins after a change goes by it (a connection, a session, an account',
    'that is opened), be it by `settings set` or by `postern reload` after the file was changed; all else counts from the next',
    'start of a member. Options and modes of plugins are cluster and live, as `plugin.NAME.OPTION`: all plugins are started anew.',
    '',
  ];
  for (const [group, settings] of grouped(tables)) {
    lines.push(group === '' ? '## Outside any table' : `## [${group}]`, '');
    lines.push(...table(settings));
  }
  lines.push(
    '## [[plugin]]',
    '',
    'One entry per plugin; they run top to bottom, and the first that refuses wins. Entries in the file replace the',
    `default list, which is ${plugins
      .filter(({ isDefault }) => isDefault)
      .map(({ name }) => `\`${name}\``)
      .join(', ')}. Every entry has:`,
    '',
    '| key | kind | default | |',
    '| --- | --- | --- | --- |',
    '| `use` | text | | A bundled plugin, an npm package, or a file: `"./our-own-check.ts"`. |',
    '| `mode` | enforce, watch | `"enforce"` | `watch` logs what the plugin would have done, and does nothing. |',
    ...Object.entries(plugins[0]?.common ?? {}).map(row),
    '',
  );
  for (const plugin of plugins) {
    lines.push(`### ${plugin.name}`, '');
    const options = Object.entries(plugin.options);
    lines.push(...(options.length === 0 ? ['No options.', ''] : table(options)));
  }
  return lines.join('\n');
}

function table(settings: readonly (readonly [string, Setting])[]): string[] {
  return ['| key | kind | default | |', '| --- | --- | --- | --- |', ...settings.map(row), ''];
}

function row([key, setting]: readonly [string, Setting]): string {
  const kind = setting.kind === 'choice' ? setting.choices.join(', ') : kindWords[setting.kind];
  const scope =
    setting.cluster === undefined ? '' : setting.cluster === 'live' ? ' *Cluster, live.*' : ' *Cluster.*';
  return `| \`${key}\` | ${kind} | \`${written(setting)}\` | ${textOf(setting).replaceAll('|', '\\|')}${scope} |`;
}

const kindWords = {
  count: 'whole number',
  number: 'number',
  duration: 'duration',
  size: 'size',
  text: 'text',
  path: 'path',
  flag: 'true, false',
  choice: '',
  texts: 'list of texts',
  addresses: 'addresses',
} as const satisfies Record<Setting['kind'], string>;

function comment(setting: Setting): string[] {
  const choices = setting.kind === 'choice' ? ` One of: ${setting.choices.join(', ')}.` : '';
  return wrapped(textOf(setting) + choices, widthMax).map((line) => `# ${line}`);
}

/** Text, unit and range. */
function textOf(setting: Setting): string {
  const { min, max, unit } = setting as { min?: number | string; max?: number | string; unit?: string };
  const least = min === 0 || min === '0B' ? undefined : min;
  const range =
    min !== undefined && max !== undefined
      ? `${min} to ${max}`
      : least !== undefined
        ? `${least} or more`
        : max !== undefined
          ? `${max} or less`
          : '';
  const words = [unit, range].filter((word) => word !== undefined && word !== '').join(', ');
  return words === '' ? setting.doc : `${setting.doc} (${words})`;
}

/** The default as it stands in TOML. */
function written(setting: Setting): string {
  const value: unknown = setting.default;
  return Array.isArray(value)
    ? `[${value.map((one) => JSON.stringify(one)).join(', ')}]`
    : JSON.stringify(value);
}
