// `npm start`: installs what is missing, then runs the whole one-machine cluster in the foreground.
import { runProject } from './project.mjs';

process.exitCode = await runProject(['postern.ts', 'start', ...process.argv.slice(2)], { dev: false });
