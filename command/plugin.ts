/** `postern plugin new` and `test`: what somebody needs who writes a plugin in an evening. */
import { spawn } from 'node:child_process';
import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { errnoOf, Fault } from '../base/fault.ts';
import { type CommandCall, exitCode } from './command.ts';
import { pluginTemplate, pluginTestTemplate } from './plugin-template.ts';

const registerFile = path.resolve(import.meta.dirname, '../gateway/plugin-kit/register.ts');
const testFilesMax = 1000;

export async function make(call: CommandCall): Promise<number> {
  const name = call.positionals[0]!;
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw new Fault('bad-argument', `"${name}" cannot name a plugin; use lower case letters, digits and "-"`);
  }
  const { config } = call.where;
  const given = call.values.dir;
  const directory = path.resolve(
    typeof given === 'string' ? given : config === undefined ? '.' : path.dirname(config),
  );
  const file = path.join(directory, `${name}.ts`);
  const testFile = path.join(directory, `${name}.test.ts`);
  await writeNew(file, pluginTemplate(name));
  await writeNew(testFile, pluginTestTemplate(name));
  const shown = path.relative(process.cwd(), file);
  call.print(
    { plugin: file, test: testFile },
    [
      `${file}`,
      `${testFile}`,
      '',
      `Test it:   npx postern plugin test ${path.relative(process.cwd(), testFile)}`,
      'Use it, in postern.toml:',
      '',
      '  [[plugin]]',
      `  use = "./${shown.startsWith('..') ? file : path.basename(file)}"`,
      '  mode = "watch"    # first only log what it would do',
      '',
    ].join('\n'),
  );
  return exitCode.done;
}

async function writeNew(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text, { flag: 'wx' });
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EEXIST') throw new Fault('already-exists', `${file}: is there already`);
    throw new Fault('cannot-write', `${file}: cannot be written (${code})`, { cause: error });
  }
}

/** Runs them with Node's own test runner; its exit code is ours. */
export async function test(call: CommandCall): Promise<number> {
  const files = await testFilesOf(path.resolve(call.positionals[0]!));
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      `--import=${pathToFileURL(registerFile).href}`,
      '--test',
      ...(call.json ? ['--test-reporter=junit'] : []),
      ...files,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return code === 0 ? exitCode.done : exitCode.failed;
}

async function testFilesOf(place: string): Promise<string[]> {
  const found = await stat(place).catch(() => undefined);
  if (found === undefined) throw new Fault('bad-argument', `${place}: there is no such file or directory`);
  if (!found.isDirectory()) return [place];
  const files = (await readdir(place))
    .filter((name) => /\.test\.[cm]?[jt]s$/.test(name))
    .slice(0, testFilesMax);
  if (files.length === 0) throw new Fault('bad-argument', `${place}: there is no *.test.ts in it`);
  return files.map((name) => path.join(place, name));
}
