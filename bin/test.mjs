// `npm test`: installs what is missing, then types, lint and every suite. Arguments go to Jest: `npm test -- test/base`.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ensureInstalled, projectDir, projectNode } from './project.mjs';

ensureInstalled({ dev: true });

const node = projectNode();
const modules = path.join(projectDir, 'node_modules');
const failed = [];

/** Runs one step under the project's Node, which also stands first in PATH for what the step starts. */
function step(name, args, env = {}) {
  process.stderr.write(`\ntest: ${name}\n`);
  const began = Date.now();
  const { status } = spawnSync(node, args, {
    cwd: projectDir,
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: `${path.join(modules, '.bin')}${path.delimiter}${process.env.PATH ?? ''}`,
      ...env,
    },
  });
  const seconds = Math.round((Date.now() - began) / 1000);
  if (status !== 0) failed.push(name);
  process.stderr.write(`test: ${name} ${status === 0 ? 'passed' : 'FAILED'} (${seconds} s)\n`);
}

const jestArgs = process.argv.slice(2);
const whole = jestArgs.length === 0;

// What cannot be installed is said here; the suites that need it fail by themselves.
if (whole) step('Debian packages', [path.join(projectDir, 'test/support/debian.ts')]);
if (whole) step('types', [path.join(modules, 'typescript/bin/tsc'), '--noEmit']);
if (whole) step('lint and format', [path.join(modules, '@biomejs/biome/bin/biome'), 'check', '.']);
step('suites', [path.join(modules, 'jest/bin/jest.js'), ...jestArgs], {
  NODE_OPTIONS: '--experimental-vm-modules --disable-warning=ExperimentalWarning',
});

if (failed.length > 0) {
  process.stderr.write(`\nnpm test: FAILED: ${failed.join(', ')}\n`);
  process.exit(1);
}
process.stderr.write(`\nnpm test: everything passed${whole ? '' : ' (of what was chosen)'}\n`);
