// `npm test`: installs what is missing, then types, lint and every suite. Arguments go to Jest: `npm test -- test/base`.
// A few suites that failed beside others are run once more by themselves, and it is said which: whole clusters share two
// cores here with whatever else the machine does. What fails alone has failed.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
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
const suitesAgainMax = 4;
const results = path.join(tmpdir(), `postern-test-${process.pid}.json`);

function suites(name, args) {
  const jest = path.join(modules, 'jest/bin/jest.js');
  step(name, [jest, '--json', `--outputFile=${results}`, ...args], {
    NODE_OPTIONS: '--experimental-vm-modules --disable-warning=ExperimentalWarning',
  });
}

/** Files of the suites that failed; undefined when the runner itself did. */
function failedSuites() {
  try {
    const { testResults } = JSON.parse(readFileSync(results, 'utf8'));
    return testResults.filter(({ status }) => status === 'failed').map((suite) => suite.name);
  } catch {
    return undefined;
  } finally {
    rmSync(results, { force: true });
  }
}

suites('suites', jestArgs);
const again = failedSuites();
if (whole && failed.includes('suites') && again?.length > 0 && again.length <= suitesAgainMax) {
  process.stderr.write(`\ntest: failed beside others, run again alone: ${again.join(' ')}\n`);
  failed.splice(failed.indexOf('suites'), 1);
  suites('suites that failed', ['--runInBand', '--runTestsByPath', ...again]);
  failedSuites();
}

if (failed.length > 0) {
  process.stderr.write(`\nnpm test: FAILED: ${failed.join(', ')}\n`);
  process.exit(1);
}
process.stderr.write(`\nnpm test: everything passed${whole ? '' : ' (of what was chosen)'}\n`);
