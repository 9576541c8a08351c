/**
 * What a command is: its words, its options and its work. Help, the reference
 * page and the check of what was typed are made from these declarations.
 */
import type { Where } from './configuration.ts';

export interface Option {
  readonly type: 'string' | 'boolean';
  /** What stands for the value in the help: `FILE`. Options without one are flags. */
  readonly value?: string;
  readonly doc: string;
}

export interface Positional {
  readonly name: string;
  readonly required: boolean;
}

export interface CommandCall {
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly where: Where;
  readonly json: boolean;
  /** The result: `value` as one JSON line with `--json`, else `text`. */
  print(value: unknown, text: string): void;
}

export interface Command {
  /** `['account', 'add']` */
  readonly words: readonly string[];
  readonly summary: string;
  /** Further paragraphs of the help. */
  readonly more?: string;
  readonly positionals: readonly Positional[];
  readonly options: Readonly<Record<string, Option>>;
  /** Resolves to the exit code; loads its parts when called, so that no command pays for another. */
  run(call: CommandCall): Promise<number>;
}

/** Options of every command. */
export const commonOptions = {
  config: {
    type: 'string',
    value: 'FILE',
    doc: 'Configuration file. Default: ./postern.toml when it exists.',
  },
  data: { type: 'string', value: 'DIR', doc: 'Data directory of this machine. Default: ./var.' },
  json: { type: 'boolean', doc: 'One line of JSON instead of text.' },
  help: { type: 'boolean', doc: 'What this command does.' },
} as const satisfies Record<string, Option>;

/** Exit codes, the same for every command. */
export const exitCode = { done: 0, failed: 1, usage: 2, badConfig: 78 } as const;

export function usageOf(command: Command): string {
  const positionals = command.positionals.map(({ name, required }) => (required ? name : `[${name}]`));
  const options = Object.entries(command.options).map(([name, { value }]) =>
    value === undefined ? `[--${name}]` : `[--${name} ${value}]`,
  );
  return ['postern', ...command.words, ...positionals, ...options].join(' ');
}
