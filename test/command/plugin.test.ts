/** `postern plugin new`, `test` and `replay`, as somebody who writes a plugin uses them. */
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { temporaryDir } from '../support/process.ts';

const projectDir = path.resolve(import.meta.dirname, '../..');
let dir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dir = await temporaryDir('plugin-command');
});
afterAll(() => dir?.remove());

function postern(...words: string[]): { status: number | null; text: string } {
  const env = { ...process.env };
  delete env.NODE_OPTIONS; // Jest's own
  const { status, stdout, stderr } = spawnSync(
    path.join(projectDir, 'node_modules/.bin/node'),
    ['--disable-warning=ExperimentalWarning', path.join(projectDir, 'postern.ts'), ...words],
    { cwd: dir.path, env, encoding: 'utf8' },
  );
  return { status, text: stdout + stderr };
}

describe('plugin new', () => {
  test('a name that cannot be one is refused', () => {
    const { status, text } = postern('plugin', 'new', 'Not A Name');
    expect(status).not.toBe(0);
    expect(text).toMatch(/"Not A Name" cannot name a plugin; use lower case letters/);
  });

  test('writes a plugin and a test that passes at once, and says what to do next', () => {
    const made = postern('plugin', 'new', 'no-lottery');
    expect(made.text).toMatch(/npx postern plugin test no-lottery\.test\.ts/);
    expect(made.status).toBe(0);
    const tested = postern('plugin', 'test', 'no-lottery.test.ts');
    expect(tested.text).toMatch(/pass 2\b/);
    expect(tested.status).toBe(0);
  });

  test('leaves what is there alone', async () => {
    const before = await readFile(path.join(dir.path, 'no-lottery.ts'), 'utf8');
    const { status, text } = postern('plugin', 'new', 'no-lottery');
    expect(status).not.toBe(0);
    expect(text).toMatch(/no-lottery\.ts: is there already/);
    expect(await readFile(path.join(dir.path, 'no-lottery.ts'), 'utf8')).toBe(before);
  });

  test('what it wrote is a plugin for the gateway too', async () => {
    await writeFile(path.join(dir.path, 'own.toml'), '[[plugin]]\nuse = "./no-lottery.ts"\nwords = ["x"]\n');
    expect(postern('check-config', '--config', 'own.toml').status).toBe(0);
  });
});

describe('plugin test', () => {
  test('a test that fails fails', async () => {
    await writeFile(
      path.join(dir.path, 'bad.test.ts'),
      "import assert from 'node:assert';\nimport { test } from 'node:test';\ntest('x', () => assert.equal(1, 2));\n",
    );
    expect(postern('plugin', 'test', 'bad.test.ts').status).not.toBe(0);
  });

  test('an option that is wrong is said as the admin would read it', async () => {
    await writeFile(
      path.join(dir.path, 'wrong.test.ts'),
      [
        "import assert from 'node:assert';",
        "import { test } from 'node:test';",
        "import { startPlugin } from 'postern/plugin-test';",
        "import plugin from './no-lottery.ts';",
        "test('x', () => assert.rejects(startPlugin(plugin, { words: 'x' }), /options\\.words: .*a list of texts/));",
        'test(\'y\', () => assert.rejects(startPlugin(plugin, { wrods: [] }), /did you mean "words"/));',
        '',
      ].join('\n'),
    );
    const { status, text } = postern('plugin', 'test', 'wrong.test.ts');
    expect([status, /pass 2\b/.test(text)]).toEqual([0, true]);
  });

  test('a file that is not there', () => {
    expect(postern('plugin', 'test', 'nothing.test.ts').text).toMatch(/there is no such file or directory/);
  });
});

describe('plugin replay', () => {
  beforeAll(async () => {
    const mail = (subject: string): string =>
      `Received: from host.example (x [198.51.100.7])\nFrom: a@example.org\nSubject: ${subject}\n\nbody\n`;
    await mkdir(path.join(dir.path, 'mail/ham'), { recursive: true });
    await mkdir(path.join(dir.path, 'mail/spam'), { recursive: true });
    await writeFile(path.join(dir.path, 'mail/ham/1.eml'), mail('lunch'));
    await writeFile(path.join(dir.path, 'mail/ham/2.eml'), mail('the lottery of life'));
    await writeFile(path.join(dir.path, 'mail/spam/1.eml'), mail('You won the lottery'));
    await writeFile(path.join(dir.path, 'mail/spam/2.eml'), mail('a prize'));
    await writeFile(
      path.join(dir.path, 'today.toml'),
      '[[plugin]]\nuse = "./no-lottery.ts"\nwords = ["lottery"]\n',
    );
    await writeFile(
      path.join(dir.path, 'changed.toml'),
      '[[plugin]]\nuse = "./no-lottery.ts"\nwords = ["won the lottery", "prize"]\n[[plugin]]\nuse = "helo-checks"\nown_names = ["us.example"]\n',
    );
  });

  test('a folder without mail is an error', async () => {
    await mkdir(path.join(dir.path, 'empty'));
    expect(postern('plugin', 'replay', 'empty').text).toMatch(/there is no \.eml file in it/);
  });

  test('says what each plugin would have done, by label', () => {
    const { status, text } = postern('plugin', 'replay', 'mail', '--config', 'today.toml', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(text)).toEqual({
      messages: { ham: 2, spam: 2 },
      outcome: { ham: { pass: 1, reject: 1 }, spam: { pass: 1, reject: 1 } },
      plugins: { 'no-lottery': { ham: { reject: 1 }, spam: { reject: 1 } } },
    });
  });

  test('and what a changed configuration would do otherwise', () => {
    const { text } = postern(
      'plugin',
      'replay',
      'mail',
      '--config',
      'today.toml',
      '--against',
      'changed.toml',
    );
    expect(text).toMatch(/2 of 4 messages would be treated otherwise/);
    expect(text).toMatch(/ham\/2\.eml: reject -> pass/);
    expect(text).toMatch(/spam\/2\.eml: pass -> reject/);
    expect(text).toMatch(/^ {2}no-lottery +- +reject 2$/m);
  });

  test('sessions that were recorded count; a line that is none points', async () => {
    const file = path.join(dir.path, 'mail/sessions.jsonl');
    await writeFile(file, '{"file": "ham/1.eml", "client": "192.0.2.9", "greeting": "us.example"}\n');
    const { text } = postern('plugin', 'replay', 'mail', '--config', 'changed.toml', '--json');
    expect(JSON.parse(text).plugins['helo-checks']).toEqual({ ham: { reject: 1 } });
    await writeFile(file, '\n{"file": "ham/1.eml", "client": "nowhere"}\n');
    expect(postern('plugin', 'replay', 'mail').text).toMatch(/sessions\.jsonl:2 "client" is no address; try/);
  });
});
