/** `postern plugin replay`: recorded mail through today's chain and a changed one, as tables. */
import path from 'node:path';
import { type ConfigFile, emptyConfig, readConfigFile } from '../base/config-file.ts';
import { Fault } from '../base/fault.ts';
import { defaultPlugins } from '../gateway/plugin-host/open-chain.ts';
import { recordedMail } from '../gateway/plugin-kit/recorded-mail.ts';
import { type Replayed, replay } from '../gateway/plugin-kit/replay.ts';
import { type CommandCall, exitCode } from './command.ts';

const concurrentMax = 100;

/** By label and plugin: how many messages it would have done what to. */
export type ReplayCounts = Readonly<
  Record<string, Readonly<Record<string, Readonly<Record<string, number>>>>>
>;

export interface ReplaySummary {
  readonly messages: Readonly<Record<string, number>>;
  readonly plugins: ReplayCounts;
  /** What would have become of the messages, by label. */
  readonly outcome: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

interface Run {
  readonly summary: ReplaySummary;
  readonly outcomes: ReadonlyMap<string, string>;
}

export async function replayFolder(call: CommandCall): Promise<number> {
  const folder = path.resolve(call.positionals[0]!);
  const concurrent = numberOf(call, 'concurrent', 8, concurrentMax);
  const shownMax = numberOf(call, 'differences', 20, 100_000);
  const { config = '' } = call.where;
  const today = await run(folder, config, concurrent);
  const { against } = call.values;
  if (typeof against !== 'string') {
    call.print(today.summary, summaryText(today.summary));
    return exitCode.done;
  }
  const changed = await run(folder, path.resolve(against), concurrent);
  const differences = [...today.outcomes]
    .filter(([name, word]) => changed.outcomes.get(name) !== word)
    .map(([name, word]) => ({ name, today: word, changed: changed.outcomes.get(name) ?? '' }));
  const lines = [
    'today',
    summaryText(today.summary),
    `changed (${path.basename(against)})`,
    summaryText(changed.summary),
    `${differences.length} of ${today.outcomes.size} messages would be treated otherwise`,
    ...differences.slice(0, shownMax).map((one) => `  ${one.name}: ${one.today} -> ${one.changed}`),
    ...(differences.length > shownMax
      ? [`  and ${differences.length - shownMax} more (--differences N)`]
      : []),
    '',
  ];
  call.print({ today: today.summary, changed: changed.summary, differences }, lines.join('\n'));
  return exitCode.done;
}

async function run(folder: string, configFile: string, concurrent: number): Promise<Run> {
  const config: ConfigFile = configFile === '' ? emptyConfig : await readConfigFile(configFile);
  const plugins = config.plugins ?? defaultPlugins;
  const configDir = configFile === '' ? process.cwd() : path.dirname(path.resolve(configFile));
  const outcomes = new Map<string, string>();
  const counter = new Counter();
  await replay(recordedMail(folder), { plugins, configDir, concurrent }, (replayed) => {
    outcomes.set(replayed.name, replayed.word);
    counter.add(replayed);
  });
  return { summary: counter.summary(), outcomes };
}

type Counts = Record<string, number>;

class Counter {
  readonly #messages: Counts = {};
  readonly #plugins: Record<string, Record<string, Counts>> = {};
  readonly #outcome: Record<string, Counts> = {};

  add({ label, said, word }: Replayed): void {
    count(this.#messages, label);
    this.#outcome[label] ??= {};
    count(this.#outcome[label], word);
    for (const [plugin, { word: own }] of said) {
      this.#plugins[plugin] ??= {};
      this.#plugins[plugin][label] ??= {};
      count(this.#plugins[plugin][label], own);
    }
  }

  summary(): ReplaySummary {
    return { messages: this.#messages, plugins: this.#plugins, outcome: this.#outcome };
  }
}

function count(counts: Counts, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** One line for each label: what became of it, and what each plugin said to it. */
function summaryText({ messages, plugins, outcome }: ReplaySummary): string {
  const labels = Object.keys(messages).sort();
  const words = (counts: Readonly<Record<string, number>> = {}): string =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([word, count]) => `${word} ${count}`)
      .join(', ') || '-';
  const rows = [
    ['', ...labels.map((label) => `${label || 'mail'} (${messages[label]})`)],
    ['all together', ...labels.map((label) => words(outcome[label]))],
    ...Object.entries(plugins).map(([plugin, counts]) => [
      plugin,
      ...labels.map((label) => words(counts[label])),
    ]),
  ];
  const widths = rows[0]!.map((_cell, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(
      (row) =>
        `  ${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function numberOf(call: CommandCall, option: string, otherwise: number, most: number): number {
  const given = call.values[option];
  if (typeof given !== 'string') return otherwise;
  const number = Number(given);
  if (Number.isInteger(number) && number >= 1 && number <= most) return number;
  throw new Fault('bad-argument', `--${option}: "${given}" is not a number from 1 to ${most}`);
}
