/** docs/reference/imap.md says what the server announces and does: no more, no less, and names tests that exist. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { capabilities, capabilityLine } from '../../../backend/serve/imap/capabilities.ts';
import { commands } from '../../../backend/serve/imap/commands.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const page = readFileSync(path.join(root, 'docs/reference/imap.md'), 'utf8');

/** Rows of the table under a heading, as cells. */
function table(heading: string): string[][] {
  const from = page.indexOf(`\n## ${heading}\n`);
  expect(from).toBeGreaterThan(0);
  const lines = page.slice(from + 4).split('\n');
  const end = lines.findIndex((line, at) => at > 0 && line.startsWith('## '));
  return lines
    .slice(0, end < 0 ? undefined : end)
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

const name = (cells: string[]) => cells[0]!.replaceAll('`', '');
const announced = table('Announced after login');
const described = table('Commands after login');

test('every announced capability is on the page, and nothing else', () => {
  const limits = { messageBytesMax: 1, quotaBytes: 0, quotaMessages: 0 };
  const line = capabilityLine({ limits }, true).replace('APPENDLIMIT=1', 'APPENDLIMIT=');
  expect(announced.map(name)).toEqual(line.split(' '));
  expect(new Set(capabilities).size).toBe(capabilities.length);
});

test('every command is on the page, and nothing else', () => {
  expect(described.map(name).sort()).toEqual(Object.keys(commands).sort());
});

test('commands with a UID form are named', () => {
  const written = /With `UID` in front: ([A-Z, ]+)\./.exec(page)![1]!.split(', ');
  const real = Object.entries(commands).flatMap(([command, { uid }]) => (uid ? [command] : []));
  expect(written.sort()).toEqual(real.sort());
});

test('every row names tests that exist', () => {
  for (const cells of [...announced, ...described]) {
    const tests = cells.at(-1)!.split(', ');
    for (const one of tests) {
      const file = one.startsWith('`') ? one.replaceAll('`', '') : `test/backend/imap/${one}.test.ts`;
      expect([name(cells), file, existsSync(path.join(root, file))]).toEqual([name(cells), file, true]);
    }
  }
  for (const [, file] of page.matchAll(/`(test\/[a-z/-]+\.test\.ts)`/g)) {
    expect([file, existsSync(path.join(root, file!))]).toEqual([file, true]);
  }
});
