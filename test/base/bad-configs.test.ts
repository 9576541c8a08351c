/** Configurations with one mistake each; the first line of a file is the one line that must be said about it. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { isFault } from '../../base/fault.ts';
import { loadConfiguration } from '../../command/configuration.ts';
import { checkPlugins } from '../../gateway/plugin-host/open-chain.ts';

const directory = path.join(import.meta.dirname, 'bad-configs');
const empty = mkdtempSync(path.join(tmpdir(), 'postern-config-'));
afterAll(() => rmSync(empty, { recursive: true }));

async function faultOf(work: () => Promise<unknown> | unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (!isFault(error, 'bad-config')) throw error;
    return error.message;
  }
  return 'no fault';
}

describe('a configuration with a mistake', () => {
  const files = readdirSync(directory).filter((name) => name.endsWith('.toml'));

  test.each(files)('%s is refused with file, line and remedy', async (name) => {
    const file = path.join(directory, name);
    const expected = readFileSync(file, 'utf8').split('\n')[0]!.slice(2);
    expect(expected).toMatch(new RegExp(`^${name}:\\d+ .*;`));
    const said = await faultOf(async () => {
      const configuration = loadConfiguration({ config: file, data: undefined }, empty);
      await checkPlugins(configuration.file.plugins ?? [], directory);
    });
    expect(said).toBe(expected);
  });

  test('that is named but not there is refused with how to make one', async () => {
    expect(await faultOf(() => loadConfiguration({ config: 'mine.toml', data: undefined }, empty))).toBe(
      'mine.toml: there is no such file; make one with "postern check-config --example > mine.toml"',
    );
  });

  test('that is a directory is refused', async () => {
    expect(await faultOf(() => loadConfiguration({ config: '.', data: undefined }, empty))).toMatch(
      /cannot be read/,
    );
  });
});

test('no configuration at all means the defaults', () => {
  const configuration = loadConfiguration({ config: undefined, data: undefined }, empty);
  expect(configuration.configPath).toBe('');
  expect(configuration.layout.data).toBe(path.join(empty, 'var'));
  expect(configuration.storageRoot).toBe(path.join(empty, 'var/storage'));
  expect(configuration.gateway['listen.smtp']).toEqual(['[::]:2525']);
  expect(configuration.gateway['listen.https']).toEqual(['[::]:8443']);
  expect(configuration.file.plugins).toBeUndefined();
});
