/** docs/reference/pop3.md says what is announced and taken: no more, no less, and names tests that exist. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { parseCommand } from '../../../backend/serve/pop3/pop3-command.ts';
import { capabilities } from '../../../backend/serve/pop3/pop3-session.ts';
import { Pop3Dialog, pop3Capabilities } from '../../../gateway/pop3/pop3-dialog.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const page = readFileSync(path.join(root, 'docs/reference/pop3.md'), 'utf8');

/** Names in the first column of the table under a heading. */
function names(heading: string): string[] {
  const from = page.indexOf(`\n## ${heading}\n`);
  expect(from).toBeGreaterThan(0);
  const lines = page.slice(from + 4).split('\n');
  const end = lines.findIndex((line, at) => at > 0 && line.startsWith('## '));
  return lines.slice(0, end < 0 ? undefined : end).flatMap((line) => /^\| `([^`]+)`/.exec(line)?.[1] ?? []);
}

const everyWord = [
  ...['STAT', 'LIST', 'UIDL', 'RETR', 'TOP', 'DELE', 'RSET', 'NOOP', 'CAPA', 'QUIT', 'USER', 'PASS', 'AUTH'],
  ...['APOP', 'STLS', 'UTF8', 'LANG', 'LAST', 'XTND', 'ENABLE', 'RPOP'],
];

test('what is announced is on the page, in both states, and nothing else', () => {
  expect(names('Announced')).toEqual(capabilities);
  expect(pop3Capabilities).toEqual(capabilities);
});

test('commands before login are on the page, and nothing else', () => {
  const known = everyWord.filter((word) => {
    const dialog = new Pop3Dialog({ tls: true, plaintextLogin: false, canStartTls: true });
    dialog.push(Buffer.from(`${word}\r\n`));
    const step = dialog.next();
    return !('text' in step && step.text === '-ERR Log in first\r\n');
  });
  expect(names('Before login').sort()).toEqual(known.sort());
});

test('commands after login are on the page, and nothing else', () => {
  const known = everyWord.filter((word) => {
    try {
      parseCommand(word);
    } catch (error) {
      return (error as Error).message !== 'unknown command';
    }
    return true;
  });
  expect(names('After login').sort()).toEqual(known.sort());
});

test('every response code the code gives is on the page, and nothing else', () => {
  const files = [
    'gateway/pop3/pop3-dialog.ts',
    'backend/serve/pop3/pop3-session.ts',
    'gateway/session/wording.ts',
  ];
  const given = new Set<string>();
  for (const file of files) {
    const text = readFileSync(path.join(root, file), 'utf8');
    for (const [code] of text.matchAll(/\[(?:AUTH|IN-USE|LOGIN-DELAY|SYS\/TEMP|SYS\/PERM|UTF8)\]/g))
      given.add(code);
  }
  expect(names('Response codes').sort()).toEqual([...given].sort());
});

test('the tests it names exist', () => {
  for (const [, file] of page.matchAll(/`(test\/[a-z0-9/-]+\.test\.ts)`/g)) {
    expect([file, existsSync(path.join(root, file!))]).toEqual([file, true]);
  }
});
