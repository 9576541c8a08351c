/** The house stands as it was drawn: imports run one way, and the rule that broke is named. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { breaches, rules, type Source } from './rules.ts';

const project = path.resolve(import.meta.dirname, '../..');
const rooms = [
  'postern.ts',
  'command',
  'gateway',
  'backend',
  'cluster-protocol',
  'certs',
  'mailwire',
  'base',
];

function sourcesUnder(place: string): Source[] {
  const full = path.join(project, place);
  if (!existsSync(full)) return [];
  if (place.endsWith('.ts')) return [{ file: place, text: readFileSync(full, 'utf8') }];
  return readdirSync(full, { withFileTypes: true }).flatMap((one) => {
    const inner = `${place}/${one.name}`;
    return one.isDirectory() || (one.name.endsWith('.ts') && !one.name.endsWith('.d.ts'))
      ? sourcesUnder(inner)
      : [];
  });
}

describe('the house', () => {
  test.each(rooms)('%s stands', (room) => {
    expect(existsSync(path.join(project, room))).toBe(true);
  });

  const found = breaches(rooms.flatMap(sourcesUnder));
  test.each(Object.keys(rules))('%s', (rule) => {
    const broken = found.filter((breach) => breach.rule === rule);
    expect(broken.map(({ file, line, what }) => `${file}:${line} ${what}`)).toEqual([]);
  });
});

describe('a made-up house', () => {
  const head = '/** Why. */\n';
  const rows: readonly [rule: string, file: string, text: string][] = [
    ['imports run downwards only', 'base/x.ts', `${head}import { a } from '../mailwire/a.ts';`],
    ['imports run downwards only', 'mailwire/x.ts', `${head}import type { A } from '../gateway/a.ts';`],
    ['imports run downwards only', 'gateway/net/x.ts', `${head}export * from '../../command/a.ts';`],
    ['imports run downwards only', 'certs/x.ts', `${head}const a = await import('../backend/a.ts');`],
    [
      'gateway and backend never import each other',
      'gateway/x.ts',
      `${head}import {\n  a,\n} from '../backend/a.ts';`,
    ],
    [
      'gateway and backend never import each other',
      'backend/serve/x.ts',
      `${head}import type { A } from '../../gateway/a.ts';`,
    ],
    [
      'gateway and backend never import each other',
      'backend/x.ts',
      `${head}type A = import('../gateway/a.ts').A;`,
    ],
    [
      'plugins import gateway/plugins/api.ts, files of a folder of their own, and nothing else of ours',
      'gateway/plugins/x.ts',
      `${head}import { Fault } from '../../base/fault.ts';`,
    ],
    [
      'plugins import gateway/plugins/api.ts, files of a folder of their own, and nothing else of ours',
      'gateway/plugins/x.ts',
      `${head}import { a } from './y.ts';`,
    ],
    [
      'the plugin API imports nothing of ours but types',
      'gateway/plugins/api.ts',
      `${head}import { a } from '../../base/a.ts';`,
    ],
    [
      'cluster-protocol opens no socket outside its registry drivers',
      'cluster-protocol/x.ts',
      `${head}import net from 'node:net';`,
    ],
    ['only gateway/smtp knows Haraka', 'gateway/net/x.ts', `${head}import outbound from 'Haraka/outbound';`],
    ['only gateway/smtp knows Haraka', 'backend/x.ts', `${head}const server = require('Haraka/server');`],
    [
      'nothing synchronous on the file system after start-up',
      'backend/store/x.ts',
      `${head}import fs from 'node:fs';\nfs.fsyncSync(1);`,
    ],
    ['a file stays under 400 lines', 'base/x.ts', head + 'a;\n'.repeat(400)],
    ['a file opens with why it exists', 'base/x.ts', 'export const a = 1;\n'],
  ];
  test.each(rows)('breaks "%s" in %s', (rule, file, text) => {
    expect(breaches([{ file, text }]).map((breach) => breach.rule)).toEqual([rule]);
  });

  test('each rule is shown to break', () => {
    expect(new Set(rows.map(([rule]) => rule))).toEqual(new Set(Object.keys(rules)));
  });

  const fine: readonly [file: string, text: string][] = [
    [
      'gateway/plugins/x.ts',
      `${head}import net from 'node:net';\nimport { pass } from './api.ts';\nimport Clam from 'clamscan';`,
    ],
    ['gateway/plugins/x.ts', `${head}import { a } from './x/a.ts';`],
    [
      'gateway/plugins/x/a.ts',
      `${head}import { b } from './b.ts';\nimport type { Message } from '../api.ts';`,
    ],
    ['cluster-protocol/registry/x.ts', `${head}import net from 'node:net';`],
    ['cluster-protocol/x.ts', `${head}import type { Socket } from 'node:net';`],
    [
      'gateway/x.ts',
      `${head}// see '../backend/a.ts'\n/* import '../backend/b.ts' */\nimport { a } from '../cluster-protocol/a.ts';`,
    ],
    ['command/x.ts', `${head}import { a } from '../gateway/a.ts';\nimport { b } from '../backend/b.ts';`],
    ['gateway/smtp/x.ts', `${head}import outbound from 'Haraka/outbound';`],
  ];
  test.each(fine)('%s is in order with %j', (file, text) => {
    expect(breaches([{ file, text }])).toEqual([]);
  });
});
