/** The command: `postern start`, `postern account add` … See `command/commands.ts`. */
import { enableCompileCache } from 'node:module';
import path from 'node:path';

// Before anything else is loaded: a second start reads compiled modules instead of compiling them again. Members
// inherit the place by the environment.
process.env.NODE_COMPILE_CACHE ??= path.join(import.meta.dirname, 'node_modules/.cache/postern');
enableCompileCache(process.env.NODE_COMPILE_CACHE);

const { main } = await import('./command/main.ts');
process.exitCode = await main(process.argv.slice(2));
