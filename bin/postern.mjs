#!/usr/bin/env node
// `npx postern ...`: the command, under the project's own Node whatever Node called us.
import { runProject } from './project.mjs';

process.exitCode = await runProject(['postern.ts', ...process.argv.slice(2)], { dev: false });
