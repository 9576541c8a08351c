/** The words of `--help` and the reference page of the command, made from the declarations. */
import { type Command, commonOptions, type Option, usageOf } from './command.ts';

export function overview(commands: readonly Command[], group?: string): string {
  const shown = commands.filter((command) => group === undefined || command.words[0] === group);
  const width = Math.max(...shown.map((command) => command.words.join(' ').length));
  return [
    'Usage: postern COMMAND [OPTION ...]',
    '',
    ...shown.map((command) => `  ${command.words.join(' ').padEnd(width)}  ${command.summary}`),
    '',
    'Every command takes:',
    ...optionLines(commonOptions),
    '',
    'Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 78 mistake in the configuration.',
    '',
  ].join('\n');
}

export function helpOf(command: Command): string {
  const own =
    Object.keys(command.options).length === 0 ? [] : ['Options:', ...optionLines(command.options), ''];
  return [
    `Usage: ${usageOf(command)}`,
    '',
    command.summary,
    ...(command.more === undefined ? [] : ['', ...wrapped(command.more, 100)]),
    '',
    ...own,
    'Every command takes:',
    ...optionLines(commonOptions),
    '',
  ].join('\n');
}

/** `docs/reference/command.md` */
export function commandPage(commands: readonly Command[]): string {
  const lines = [
    '# The command',
    '',
    '<!-- Made from the declarations in command/commands.ts: npx postern help --reference > docs/reference/command.md -->',
    '',
    '`npx postern COMMAND` in the project, or `bin/postern.mjs COMMAND` from anywhere. All commands but `start` and',
    '`check-config` talk to the running cluster through the socket in its data directory; when nothing runs there they',
    'say so and exit with 1.',
    '',
    '| every command takes | |',
    '| --- | --- |',
    ...Object.entries(commonOptions).map(
      ([name, option]) => `| \`${spelled(name, option)}\` | ${option.doc} |`,
    ),
    '',
    '| exit code | |',
    '| --- | --- |',
    '| 0 | done; `start`: stopped in order |',
    '| 1 | refused or failed; one line on standard error says what and what to do |',
    '| 2 | wrong usage |',
    '| 78 | a mistake in the configuration (EX_CONFIG) |',
    '',
    'With `--json` a failure is one line `{"error": CODE, "message": TEXT}` on standard output as well.',
    '',
  ];
  for (const command of commands) {
    lines.push(
      `## ${command.words.join(' ')}`,
      '',
      '```',
      usageOf(command),
      '```',
      '',
      ...wrapped(command.summary, 110),
    );
    if (command.more !== undefined) lines.push('', ...wrapped(command.more, 110));
    const options = Object.entries(command.options);
    if (options.length > 0) {
      lines.push('', '| option | |', '| --- | --- |');
      for (const [name, option] of options) lines.push(`| \`${spelled(name, option)}\` | ${option.doc} |`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

function optionLines(options: Readonly<Record<string, Option>>): string[] {
  const entries = Object.entries(options).map(
    ([name, option]) => [spelled(name, option), option.doc] as const,
  );
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, doc]) => `  ${name.padEnd(width)}  ${doc}`);
}

const spelled = (name: string, option: Option): string =>
  option.value === undefined ? `--${name}` : `--${name} ${option.value}`;

export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines;
}
