/** `postern start` */
import { flushCompileCache } from 'node:module';
import type { CommandCall } from './command.ts';
import { supervise } from './supervisor.ts';

export async function start(call: CommandCall): Promise<number> {
  const code = await supervise(call.where, {
    cwd: process.cwd(),
    say: (text) => {
      process.stdout.write(text);
      flushCompileCache();
    },
  });
  // What members or sockets may still hold open is over.
  process.exit(code);
}
