/** From what was typed to a command and its values, or to one line that says what is wrong with it. */
import { parseArgs } from 'node:util';
import { nearest } from '../base/config-file.ts';
import { Fault } from '../base/fault.ts';
import { type Command, commonOptions, usageOf } from './command.ts';

export type Parsed =
  | { readonly kind: 'help'; readonly command: Command | undefined; readonly group: string | undefined }
  | { readonly kind: 'version' }
  | {
      readonly kind: 'run';
      readonly command: Command;
      readonly positionals: readonly string[];
      readonly values: Readonly<Record<string, string | boolean | undefined>>;
    };

/**
 * @param args  What stands after `postern`.
 * @throws {Fault} `bad-argument`
 */
export function parseCommand(args: readonly string[], commands: readonly Command[]): Parsed {
  const wantsHelp = args.includes('--help') || args.includes('-h');
  const words = leadingWords(args);
  if (words[0] === 'help') return { kind: 'help', ...helpFor(words.slice(1), commands) };
  if (words.length === 0) {
    if (wantsHelp || args.length === 0) return { kind: 'help', command: undefined, group: undefined };
    if (args.includes('--version')) return { kind: 'version' };
  }
  const command = longestMatch(words, commands);
  if (command === undefined) {
    const found = wantsHelp ? helpFor(words, commands) : undefined;
    if (found?.group !== undefined) return { kind: 'help', ...found };
    throw unknownCommand(words, commands);
  }
  if (wantsHelp) return { kind: 'help', command, group: undefined };
  const { values, positionals } = readOptions(command, args);
  checkPositionals(command, positionals);
  return { kind: 'run', command, positionals, values };
}

/** The words before the first option; an option before the command is moved behind it by the reader of options. */
function leadingWords(args: readonly string[]): string[] {
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    if (arg === '--') break;
    if (!arg.startsWith('-')) words.push(arg);
    else if (arg === '--config' || arg === '--data') index++;
  }
  return words;
}

function longestMatch(words: readonly string[], commands: readonly Command[]): Command | undefined {
  return commands
    .filter((command) => command.words.every((word, index) => words[index] === word))
    .sort((a, b) => b.words.length - a.words.length)[0];
}

function readOptions(command: Command, args: readonly string[]) {
  const declared = { ...commonOptions, ...command.options };
  const options = Object.fromEntries(
    Object.entries(declared).map(([name, { type }]) => [name, { type }]),
  ) as Record<string, { type: 'string' | 'boolean' }>;
  // Not strict, so that the words about a mistake are ours.
  const { tokens } = parseArgs({
    args: [...args],
    options,
    strict: false,
    tokens: true,
    allowPositionals: true,
  });
  const values: Record<string, string | boolean | undefined> = {};
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const option = Object.hasOwn(declared, token.name)
      ? (declared as Record<string, { type: string; value?: string }>)[token.name]
      : undefined;
    if (option === undefined) {
      const near = nearest(token.name, Object.keys(declared));
      throw misuse(
        command,
        `there is no option ${token.rawName}${near === undefined ? '' : `; did you mean --${near}?`}`,
      );
    }
    if (option.type === 'boolean' && token.value !== undefined)
      throw misuse(command, `--${token.name} takes no value; write --${token.name}`);
    if (
      option.type === 'string' &&
      (token.value === undefined || token.value === '' || /^--\w/.test(token.value))
    )
      throw misuse(command, `--${token.name} needs a value; write --${token.name} ${option.value}`);
    if (Object.hasOwn(values, token.name))
      throw misuse(command, `--${token.name} is there twice; give it once`);
    values[token.name] = option.type === 'boolean' ? true : token.value;
  }
  return { values, positionals: positionals.slice(command.words.length) };
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const missing = command.positionals.find(
    ({ required }, index) => required && positionals[index] === undefined,
  );
  if (missing !== undefined) throw misuse(command, `${missing.name} is missing`);
  const extra = positionals[command.positionals.length];
  if (extra !== undefined) throw misuse(command, `"${extra}" is one word too many`);
}

function misuse(command: Command, what: string): Fault {
  return new Fault('bad-argument', `${command.words.join(' ')}: ${what} (${usageOf(command)})`);
}

function helpFor(words: readonly string[], commands: readonly Command[]) {
  const command = longestMatch(words, commands);
  if (command !== undefined) return { command, group: undefined };
  const group = commands.some((one) => one.words[0] === words[0]) ? words[0] : undefined;
  return { command: undefined, group };
}

function unknownCommand(words: readonly string[], commands: readonly Command[]): Fault {
  const [first, second] = words;
  if (first === undefined) return new Fault('bad-argument', 'there is no command; see "postern --help"');
  const group = commands.filter((command) => command.words[0] === first);
  if (group.length > 0) {
    const seconds = group.map((command) => command.words[1]!);
    if (second === undefined)
      return new Fault('bad-argument', `"${first}" needs one more word: ${seconds.join(', ')}`);
    const near = nearest(second, seconds);
    return new Fault(
      'bad-argument',
      `there is no command "${first} ${second}"; ${near === undefined ? `there is: ${seconds.join(', ')}` : `did you mean "${first} ${near}"?`}`,
    );
  }
  const known = new Set(commands.map((command) => command.words[0]!));
  const near = nearest(first, known);
  return new Fault(
    'bad-argument',
    `there is no command "${first}"; ${near === undefined ? 'see "postern --help"' : `did you mean "${near}"?`}`,
  );
}
