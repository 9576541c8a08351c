// Runs one TypeScript entry under the project's own Node: `node bin/run.mjs FILE [ARG ...]`.
import { runProject } from './project.mjs';

const [entry, ...rest] = process.argv.slice(2);
process.exitCode = await runProject([entry, ...rest], { dev: true });
