/** The log holds what its promises are about: whole lines, short values, no secrets, and an end that ends. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { flushLog, logValueCharsMax, openLog } from '../../base/log.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'postern-log-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const linesOf = async (file: string): Promise<Record<string, unknown>[]> =>
  (await readFile(file, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('one record is one line with time, level and member, whatever a client sent', async () => {
  const file = path.join(dir, 'one', 'member.log');
  const log = openLog({ member: 'gateway-1', file });
  const hostile = `a\r\nb\u001b[2J\u0085\u2028${'x'.repeat(1_000_000)}`;
  log.info({ trace: 't', user: hostile, password: 'secret', login: { token: 'secret' } }, 'login');
  await flushLog(log);
  const text = await readFile(file, 'utf8');
  expect(text).not.toContain('secret');
  expect(text.length).toBeLessThan(logValueCharsMax + 400);
  expect(text).toMatch(/^[\x20-\x7e…]*\n$/);
  expect(await linesOf(file)).toMatchObject([
    { level: 'info', member: 'gateway-1', msg: 'login', trace: 't' },
  ]);
});

test('a process that ends right after it opened its log ends, with its code and its line', async () => {
  const file = path.join(dir, 'two.log');
  const script = `
    const { openLog } = await import(${JSON.stringify(path.resolve(import.meta.dirname, '../../base/log.ts'))});
    process.on('uncaughtException', () => {}); // as a gateway has it
    setInterval(() => {}, 1000);
    openLog({ member: 'x', file: ${JSON.stringify(file)} }).info({}, 'last words');
    process.exit(78);`;
  const env = { ...process.env, NODE_OPTIONS: '--disable-warning=ExperimentalWarning' };
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { env, stdio: 'ignore' });
  expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(78);
  expect(await linesOf(file)).toMatchObject([{ msg: 'last words' }]);
});

test.each([
  ['in an error', { err: Object.assign(new Error('no'), { credentials: 'geheim' }) }],
  ['in an error under another name', { cause: Object.assign(new Error('no'), { credentials: 'geheim' }) }],
  ['beside an array', { list: [1, 2], session: { token: 'geheim' } }],
])('a secret %s is hidden, and the caller keeps its objects as they were', async (where, record) => {
  const file = path.join(dir, where, 'member.log');
  const log = openLog({ member: 'm', file });
  const before = JSON.stringify(record);
  log.child({ auth: 'geheim', account: 'ann' }).info(record, 'words');
  await flushLog(log);
  const text = await readFile(file, 'utf8');
  expect(text).not.toContain('geheim');
  expect(text).toContain('"account":"ann"');
  expect(JSON.stringify(record)).toBe(before);
});
