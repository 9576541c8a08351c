/** `postern settings …` and `postern reload` */
import path from 'node:path';
import { parse } from 'smol-toml';
import type { PluginEntry } from '../base/config-file.ts';
import { pluginKeyPattern } from '../base/config-overlay.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { ChangeRecord } from '../cluster-protocol/change-history.ts';
import { loadPlugin } from '../gateway/plugin-host/load.ts';
import { askCluster, whoAsks } from './admin-client.ts';
import { changeLines, countOf } from './cluster.ts';
import { type CommandCall, exitCode } from './command.ts';
import { loadConfiguration } from './configuration.ts';
import type { Reloaded, ShownSetting } from './settings-work.ts';

export async function set(call: CommandCall): Promise<number> {
  const [key, text] = call.positionals as [string, string];
  const value = valueIn(text);
  await checkPluginOption(call, key, value);
  const done = await askCluster<{ applies: 'live' | 'restart'; number?: number }>(call.where, {
    ...{ op: 'settings-set', key, value, by: whoAsks() },
  });
  const words =
    done.number === undefined
      ? 'stood there already'
      : `change ${done.number}; ${done.applies === 'live' ? 'every member has it within a second' : 'takes effect when a member is started next (postern member restart MEMBER)'}`;
  call.print(done, `${key} = ${JSON.stringify(value)}: ${words}\n`);
  return exitCode.done;
}

export async function unset(call: CommandCall): Promise<number> {
  const key = call.positionals[0]!;
  const done = await askCluster<{ number: number }>(call.where, { op: 'settings-unset', key, by: whoAsks() });
  call.print(done, `${key} is what the file of each machine says: change ${done.number}\n`);
  return exitCode.done;
}

export async function show(call: CommandCall): Promise<number> {
  const { settings } = await askCluster<{ settings: ShownSetting[] }>(call.where, { op: 'settings-show' });
  const line = ({ key, cluster, file, default: usual, change, applies }: ShownSetting): string => {
    const also = [
      ...(file === undefined ? [] : [`file ${JSON.stringify(file)}`]),
      ...(usual === undefined ? [] : [`default ${JSON.stringify(usual)}`]),
      ...(change === undefined ? [] : [`change ${change.number} by ${change.by || '-'}`]),
      ...(applies === 'restart' ? ['from the next start of a member on'] : []),
    ];
    return `${key} = ${JSON.stringify(cluster)}${also.length === 0 ? '' : `  (${also.join(', ')})`}\n`;
  };
  const none = 'nothing is set for the whole cluster: the file of each machine counts\n';
  call.print({ settings }, settings.length === 0 ? none : settings.map(line).join(''));
  return exitCode.done;
}

export async function history(call: CommandCall): Promise<number> {
  const { changes } = await askCluster<{ changes: ChangeRecord[] }>(call.where, {
    op: 'settings-history',
    countMax: countOf(call),
  });
  call.print({ changes }, changeLines(changes));
  return exitCode.done;
}

export async function revert(call: CommandCall): Promise<number> {
  const text = call.positionals[0]!;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new Fault(
      'bad-argument',
      `settings revert: "${text}" is no number of a change; see "postern settings history"`,
    );
  const request = { op: 'settings-revert', number: Number(text), by: whoAsks() } as const;
  const done = await askCluster<{ number: number; what: string }>(call.where, request);
  call.print(done, `${done.what}: change ${done.number}\n`);
  return exitCode.done;
}

export async function reload(call: CommandCall): Promise<number> {
  const done = await askCluster<Reloaded>(call.where, { op: 'reload', by: whoAsks() });
  const failed = Object.entries(done.failed);
  const lines = [
    done.live.length === 0 ? 'nothing that applies at once has changed' : `applied: ${done.live.join(', ')}`,
    ...(done.atRestart.length === 0 ? [] : [`after a restart: ${done.atRestart.join(', ')}`]),
    ...failed.map(([id, error]) => `${id} keeps its old configuration: ${error}`),
  ];
  call.print(done, lines.map((line) => `${line}\n`).join(''));
  return failed.length === 0 ? exitCode.done : exitCode.failed;
}

/** As in the file, where that is what was meant: `100`, `true`, `["a"]`; else a text: `10m`, `example.org`. */
function valueIn(text: string): unknown {
  try {
    const { value } = parse(`value = ${text}`);
    if (['string', 'number', 'boolean'].includes(typeof value) || Array.isArray(value)) return value;
  } catch {
    // No TOML: a text without quotes, as a shell leaves it.
  }
  return text;
}

/** An option of a plugin is checked by loading the plugin: here, in a process that ends. */
async function checkPluginOption(call: CommandCall, key: string, value: unknown): Promise<void> {
  const found = pluginKeyPattern.exec(key);
  if (found === null) return;
  const [, use, option] = found as unknown as [string, string, string];
  const { configPath, layout } = loadConfiguration(call.where);
  const place = (name: string): string => `plugin.${use}.${name}`;
  if (option === 'mode' && value !== 'enforce' && value !== 'watch')
    throw new Fault(
      'bad-argument',
      `${key}: ${JSON.stringify(value)} is not a mode; use "enforce" or "watch"`,
    );
  const options = option === 'mode' ? {} : { [option]: value };
  const entry: PluginEntry = { use, mode: 'enforce', options, place };
  try {
    await loadPlugin(entry, configPath === '' ? layout.data : path.dirname(configPath));
  } catch (error) {
    if (isFault(error, 'bad-config')) throw new Fault('bad-argument', error.message, { cause: error });
    throw error;
  }
}
