/** Runs what was typed, and turns every failure into one line and an exit code. */
import { Fault } from '../base/fault.ts';
import { release } from '../base/release.ts';
import { type CommandCall, exitCode } from './command.ts';
import { commands } from './commands.ts';
import { commandPage, helpOf, overview } from './help.ts';
import { parseCommand } from './parse.ts';

/** @param args  What stands after `postern`. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  try {
    if (args[0] === 'help' && args.includes('--reference')) {
      write(commandPage(commands));
      return exitCode.done;
    }
    const parsed = parseCommand(args, commands);
    if (parsed.kind === 'version') {
      write(`${release}\n`);
      return exitCode.done;
    }
    if (parsed.kind === 'help') {
      write(parsed.command === undefined ? overview(commands, parsed.group) : helpOf(parsed.command));
      return args.length === 0 ? exitCode.usage : exitCode.done;
    }
    const text = (name: string): string | undefined => {
      const value = parsed.values[name];
      return typeof value === 'string' ? value : undefined;
    };
    const call: CommandCall = {
      positionals: parsed.positionals,
      values: parsed.values,
      where: { config: text('config'), data: text('data') },
      json,
      print: (value, words) => write(json ? `${JSON.stringify(value)}\n` : words),
    };
    return await parsed.command.run(call);
  } catch (error) {
    const fault = Fault.from(error);
    if (json) write(`${JSON.stringify({ error: fault.code, message: fault.message })}\n`);
    process.stderr.write(`postern: ${oneLine(fault.message)}\n`);
    if (fault.code === 'bug' && process.env.POSTERN_DEBUG) process.stderr.write(`${fault.stack}\n`);
    if (fault.code === 'bad-argument') return exitCode.usage;
    return fault.code === 'bad-config' ? exitCode.badConfig : exitCode.failed;
  }
}

function write(text: string): void {
  process.stdout.write(text);
}

const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/g, ' ');
