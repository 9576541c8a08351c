/** The real command: first start, second start, deaths of members and of the supervisor, refusals, and stopping. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../base/layout.ts';
import { freePorts } from '../support/process.ts';

const projectDir = path.resolve(import.meta.dirname, '../..');
const node = path.join(projectDir, 'node_modules/.bin/node');
const env: NodeJS.ProcessEnv = { ...process.env };
delete env.NODE_OPTIONS;

/** So long that nobody can mistake waiting for it for anything else. */
const leaseMs = 20_000;

let dir: string;
let data: string;
let config: string;
let ports: number[];

interface Started {
  readonly pid: number;
  output(): string;
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
}
const running = new Set<number>();

function postern(words: readonly string[], input?: string): Started {
  const child = spawn(
    node,
    ['--disable-warning=ExperimentalWarning', path.join(projectDir, 'postern.ts'), ...words],
    {
      cwd: dir,
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk));
  child.stderr.on('data', (chunk: Buffer) => (text += chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(input ?? '');
  running.add(child.pid!);
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child.pid!);
    return { code: code as number | null, signal: signal as string | null };
  });
  return { pid: child.pid!, output: () => text, ended };
}

async function run(
  words: readonly string[],
  input?: string,
): Promise<{ code: number | null; output: string }> {
  const started = postern(words, input);
  const { code } = await started.ended;
  return { code, output: started.output() };
}
const here = () => ['--data', data, '--config', config];

async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited too long for ${what}`);
    await sleep(20);
  }
}

async function start(): Promise<Started> {
  const started = postern(['start', ...here()]);
  let over = false;
  void started.ended.then(() => {
    over = true;
  });
  await until('ready', () => {
    if (over) throw new Error(`it ended: ${started.output()}`);
    return /^ready/m.test(started.output());
  });
  return started;
}

async function status(): Promise<{
  members: { id: string; pid: number; ready: boolean; registered: boolean }[];
  freeShards: number;
}> {
  const { code, output } = await run(['cluster', 'status', '--json', ...here()]);
  if (code !== 0) throw new Error(output);
  return JSON.parse(output);
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'postern-life-'));
  data = path.join(dir, 'var');
  config = path.join(dir, 'postern.toml');
  ports = await freePorts(9);
  const names = ['smtp', 'submission', 'submissions', 'imap', 'imaps', 'pop3', 'pop3s', 'https', 'health'];
  const listen = names.map((name, index) => `listen.${name} = ["127.0.0.1:${ports[index]}"]`);
  const lease = `cluster.lease = "${leaseMs / 1000}s"`;
  await writeFile(config, `hostname = "mx.postern.test"\n${listen.join('\n')}\n${lease}\n`);
});
afterAll(async () => {
  for (const pid of running) process.kill(pid, 'SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

describe('postern start', () => {
  test('makes everything once, serves, and finds everything again', async () => {
    const first = await start();
    const screen = first.output();
    expect(screen.trimEnd().split('\n').at(-1)).toMatch(/^ready/);
    for (const port of ports) expect(screen).toContain(`127.0.0.1:${port}`);
    const layout = layoutOf(data);
    const account = await readFile(layout.firstAccount, 'utf8');
    const password = /^password: (\S+)$/m.exec(account)![1]!;
    expect(screen).toContain(password);
    expect((await stat(layout.firstAccount)).mode & 0o777).toBe(0o600);
    expect((await stat(data)).mode & 0o777).toBe(0o700);
    expect((await stat(layout.adminSocket)).mode & 0o777).toBe(0o600);
    const cluster = await readFile(path.join(layout.storage, 'cluster.json'), 'utf8');
    expect(JSON.parse(cluster)).toEqual({ id: expect.any(String), shardCount: 4096, format: 1 });

    const second = await run(['start', ...here()]);
    expect(second.code).toBe(1);
    expect(second.output).toMatch(
      new RegExp(`^postern: .*runs here already \\(process ${first.pid}\\); .*\\n$`),
    );

    expect(await run(['domain', 'add', 'Example.ORG', ...here()])).toMatchObject({ code: 0 });
    expect(
      await run(['account', 'add', 'Ann@example.org', '--password-stdin', ...here()], 'right horse\n'),
    ).toMatchObject({ code: 0 });
    const refusals = [
      { words: ['domain', 'add', 'example.org'], said: /example\.org is a domain of this cluster already/ },
      { words: ['account', 'add', 'ann@example.org', '--password-stdin'], said: /already/ },
      {
        words: ['account', 'add', 'bob@example.net', '--password-stdin'],
        said: /postern domain add example\.net/,
      },
      { words: ['account', 'show', 'bob@example.org'], said: /no such account/ },
      { words: ['account', 'show', '../etc'], said: /local@domain/ },
      { words: ['cert', 'show', 'none'], said: /there is: ca, edge/ },
    ];
    for (const { words, said } of refusals) {
      const { code, output } = await run([...words, ...here()], 'x\n');
      expect(code).not.toBe(0);
      expect(output).toMatch(said);
      expect(output.trimEnd()).not.toContain('\n');
    }
    const list = await run(['account', 'list', '--json', ...here()]);
    expect(JSON.parse(list.output)).toEqual({ accounts: ['ann@example.org', 'demo@postern.test'] });

    process.kill(first.pid, 'SIGINT');
    process.kill(first.pid, 'SIGTERM'); // the same Ctrl-C, by way of npm
    const startMs = performance.now();
    expect(await first.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - startMs).toBeLessThan(5000);

    const again = await start();
    expect(again.output()).not.toContain(password);
    expect(await readFile(layout.firstAccount, 'utf8')).toBe(account);
    expect(await readFile(path.join(layout.storage, 'cluster.json'), 'utf8')).toBe(cluster);
    const listAgain = await run(['account', 'list', 'example.org', ...here()]);
    expect(listAgain.output).toBe('ann@example.org\n');
    process.kill(again.pid, 'SIGTERM');
    expect((await again.ended).code).toBe(0);
    expect(await run(['account', 'list', ...here()])).toEqual({
      code: 1,
      output: expect.stringMatching(/^postern: nothing runs in .*; start it with "npm start".*\n$/),
    });
  });

  test('has a killed member back, owning what it owned, in under two seconds', async () => {
    const started = await start();
    const tookMs: number[] = [];
    for (const id of ['backend-1', 'gateway-1', 'backend-1', 'gateway-1']) {
      const before = (await status()).members.find((member) => member.id === id)!;
      const killedAtMs = performance.now();
      process.kill(before.pid, 'SIGKILL');
      const mark = started.output().length;
      await until(`${id} to serve`, () => started.output().slice(mark).includes(`${id} serves again`));
      tookMs.push(performance.now() - killedAtMs);
      const after = await status();
      expect(after.freeShards).toBe(0);
      expect(after.members.find((member) => member.id === id)).toMatchObject({
        ready: true,
        registered: true,
      });
      expect(after.members.find((member) => member.id === id)!.pid).not.toBe(before.pid);
    }
    // Other suites may hold the processors at one moment or another; a lease that had to run out would be late each time.
    expect(Math.min(...tookMs)).toBeLessThan(2000);
    expect(Math.max(...tookMs)).toBeLessThan(leaseMs);
    // The supervisor itself: what it leaves is ended, and nobody waits for a lease to run out.
    const left = (await status()).members.map((member) => member.pid);
    for (const pid of left) process.kill(pid, 'SIGSTOP'); // they cannot notice that it is gone
    process.kill(started.pid, 'SIGKILL');
    await started.ended;
    const again = await start();
    for (const pid of left)
      expect(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => 'gone')).toMatch(/^gone|\) Z /);
    expect((await status()).freeShards).toBe(0);
    const members = (await status()).members.map((member) => member.pid);
    process.kill(again.pid, 'SIGKILL');
    await again.ended;
    // Members without a supervisor stop by themselves.
    await until(
      'members to leave',
      () => members.every((pid) => !isAlive(pid) || left.includes(pid)),
      10_000,
    );
  });

  test('refuses with one line that names place and remedy', async () => {
    const fails = async (words: readonly string[], said: RegExp, code = 1): Promise<void> => {
      const result = await run(['start', ...words]);
      expect(result.output).toMatch(said);
      expect(result.output.trimEnd()).not.toContain('\n');
      expect(result.code).toBe(code);
    };
    // a port that is taken
    const blocker = createServer().listen(ports[4], '127.0.0.1');
    await once(blocker, 'listening');
    await fails(here(), new RegExp(`^postern: .*listen\\.imaps.*127\\.0\\.0\\.1:${ports[4]}.*in use.*; `));
    blocker.close();
    // the storage root is not there: unmounted
    const { storage } = layoutOf(data);
    await rename(storage, `${storage}.away`);
    await fails(here(), /^postern: .*storage\/cluster\.json: missing, .*mount it, or correct storage\.root/);
    // an empty mount point is no root either, and stays empty
    await mkdir(storage);
    await fails(here(), /^postern: .*storage\/cluster\.json: missing, /);
    // the root of another cluster
    await writeFile(path.join(storage, 'cluster.json'), '{"id":"another","shardCount":4096,"format":1}');
    await fails(here(), /^postern: .*belongs to cluster another, not .*; mount the right one/);
    const fresh = path.join(dir, 'fresh');
    const other = path.join(dir, 'other.toml');
    await writeFile(other, `storage.root = "var/storage"\n`);
    await fails(
      ['--data', fresh, '--config', other],
      /^postern: .*belongs to cluster another, and .*fresh is a new data directory; /,
    );
    // no right to write
    const file = path.join(dir, 'file');
    await writeFile(file, '');
    await fails(
      ['--data', path.join(file, 'var'), '--config', config],
      /^postern: .*file\/var: cannot be written \(ENOTDIR\); /,
    );
    // a mistake in the configuration
    const bad = path.join(dir, 'bad.toml');
    await writeFile(bad, '[[plugin]]\nuse = "guess-guard"\nwindow = "10x"\n');
    await fails(
      ['--data', path.join(dir, 'fresh2'), '--config', bad],
      /^postern: bad\.toml:3 plugin\.window: "10x" is not a duration; try "10m"\n$/,
      78,
    );
    await chmod(dir, 0o700);
  });
});
