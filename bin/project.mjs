// What every npm script needs before TypeScript can run: the packages, and Node 24.
// Plain JavaScript without dependencies, because it runs before anything is installed, on Node 20 or later.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const projectDir = path.resolve(
  import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname),
  '..',
);
const modulesDir = path.join(projectDir, 'node_modules');
const stampFile = path.join(modulesDir, '.postern-installed');

/** Installs the locked packages when they are missing or the lock file changed. `dev`: the test tools too. */
export function ensureInstalled({ dev }) {
  const lockText = readFileSync(path.join(projectDir, 'package-lock.json'));
  const lock = createHash('sha256').update(lockText).digest('hex');
  const stamp = readIfThere(stampFile).trim();
  const [stampLock, stampScope] = stamp.split(' ');
  if (stampLock === lock && (stampScope === 'dev' || !dev)) return;
  const found = scopeInstalled(JSON.parse(lockText));
  if (found === 'dev' || (found === 'run' && !dev)) {
    writeStamp(`${lock} ${found}\n`);
    return;
  }
  const scope = dev || stampScope === 'dev' ? 'dev' : 'run';
  process.stderr.write(`postern: installing packages${scope === 'dev' ? ' and test tools' : ''} ...\n`);
  const npm = (command, stdio) =>
    spawnSync(
      'npm',
      [...command, '--no-audit', '--no-fund', '--loglevel=error', ...(scope === 'run' ? ['--omit=dev'] : [])],
      { cwd: projectDir, stdio: ['ignore', stdio, stdio] },
    ).status === 0;
  // `npm ci` refuses a lock file that lists optional packages of one platform only (npm 11 does, where a
  // registry holds no others); `npm install` takes the same locked versions and leaves the lock file alone.
  if (!npm(['ci'], 'ignore') && !npm(['install', '--no-save'], 2)) {
    process.stderr.write('postern: "npm install" failed (see above); mend that and start again\n');
    process.exit(1);
  }
  writeStamp(`${lock} ${scope}\n`);
}

/**
 * What an `npm ci` by hand has installed: npm writes it down in node_modules. `dev`: everything; `run`: what
 * running needs; undefined: not all of it, or other versions.
 */
function scopeInstalled(lock) {
  let installed;
  try {
    installed = JSON.parse(readIfThere(path.join(modulesDir, '.package-lock.json'))).packages;
  } catch {
    return undefined;
  }
  // Optional packages are for other systems, as a rule, and are left out there.
  const needed = Object.entries(lock.packages).filter(([where, entry]) => where !== '' && !entry.optional);
  const there = ([where, entry]) => installed?.[where]?.version === entry.version;
  if (!needed.filter(([, entry]) => !entry.dev && !entry.devOptional).every(there)) return undefined;
  return needed.every(there) ? 'dev' : 'run';
}

function readIfThere(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

function writeStamp(text) {
  try {
    writeFileSync(stampFile, text);
  } catch {
    // A read-only project: it is looked at again next time.
  }
}

/** The Node binary the project pins (the npm package `node`), so that an older one on the machine does no harm. */
export function projectNode() {
  const pinned = path.join(modulesDir, '.bin', 'node');
  return existsSync(pinned) ? pinned : process.execPath;
}

/** Runs `args` under the project's Node with our terminal, passes signals on, resolves to its exit code. */
export async function runProject(args, { dev, env = {} }) {
  ensureInstalled({ dev });
  const [entry, ...rest] = args;
  const entryPath = path.resolve(projectDir, entry);
  const node = spawn(projectNode(), ['--disable-warning=ExperimentalWarning', entryPath, ...rest], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => node.kill(signal));
  if (process.env.npm_lifecycle_event !== undefined) endWithParent(node);
  return new Promise((resolve) => {
    node.on('error', (error) => {
      process.stderr.write(`postern: ${error.message}\n`);
      resolve(1);
    });
    node.on('exit', (code, signal) => resolve(code ?? (signal ? 1 : 0)));
  });
}

/** Under npm: when npm or its shell is killed nobody passes its signals on any more, so our parent's end is one. */
function endWithParent(node) {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    node.kill('SIGTERM');
  }, 500);
  timer.unref();
}
