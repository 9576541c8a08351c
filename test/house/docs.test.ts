/** The documentation says what the code does: names, links and examples in it are held against the code. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { openMetrics } from '../../gateway/health/metrics.ts';
import * as api from '../../gateway/plugins/api.ts';

const project = path.resolve(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(path.join(project, file), 'utf8');
const pages = [
  'README.md',
  ...readdirSync(path.join(project, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
];
const dir = mkdtempSync(path.join(tmpdir(), 'postern-docs-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Code blocks of a page in one language. */
const blocks = (page: string, language: string): string[] =>
  [...read(page).matchAll(new RegExp(`^ *\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\``, 'gm'))].map(
    ([, text]) => text!,
  );

function checkConfig(text: string): string {
  const file = path.join(dir, 'postern.toml');
  writeFileSync(file, text);
  const env = { ...process.env };
  delete env.NODE_OPTIONS;
  const { stdout, stderr } = spawnSync(
    path.join(project, 'node_modules/.bin/node'),
    [
      '--disable-warning=ExperimentalWarning',
      path.join(project, 'postern.ts'),
      'check-config',
      '--config',
      file,
    ],
    { encoding: 'utf8', env },
  );
  return stdout + stderr;
}

describe('links and names', () => {
  test.each(pages)('%s leads to files that are there', (page) => {
    const links = [...read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, to]) => to!);
    const missing = links
      .filter((to) => !/^[a-z]+:/.test(to))
      .filter((to) => !existsSync(path.join(project, path.dirname(page), to)));
    expect(missing).toEqual([]);
  });

  test.each(pages)('%s names source files that are there', (page) => {
    const named = [
      ...read(page).matchAll(
        /`((?:gateway|backend|cluster-protocol|mailwire|base|certs|test|bench)\/[\w./-]+)`/g,
      ),
    ];
    const missing = named.map(([, file]) => file!).filter((file) => !existsSync(path.join(project, file)));
    expect(missing).toEqual([]);
  });

  test.each(pages)('%s names npm scripts that are there', (page) => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [...read(page).matchAll(/npm run ([a-z:-]+)/g)].map(([, name]) => name!);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  test('every word of the plugin API has its place in the reference', () => {
    const page = read('docs/reference/plugin-api.md');
    const text = read('gateway/plugins/api.ts');
    const members = (name: string): string[] => {
      const body = new RegExp(`export interface ${name}[^{]*{\\n([\\s\\S]*?)^}`, 'm').exec(text)![1]!;
      return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[(:<]/gm)].map(([, word]) => word!);
    };
    const words = [
      'Asked',
      'Told',
      'PluginHost',
      'PluginDefinition',
      'Message',
      'MessageHeader',
      'MessagePart',
      'Verdict',
    ].flatMap(members);
    expect(words.length).toBeGreaterThan(25);
    const missing = [...words, ...Object.keys(api)].filter((word) => !new RegExp(`\\b${word}\\b`).test(page));
    expect(missing).toEqual([]);
  });

  test('every metric of a gateway stands in the reference, and no other', async () => {
    const metrics = openMetrics();
    const known = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
    metrics.close();
    const source = read('gateway/plugin-host/asker.ts');
    const counted = [...source.matchAll(/'(postern_plugin_\w+_total)'/g)].map(([, name]) => name!);
    const named = [...read('docs/reference/metrics.md').matchAll(/^\| `(postern_\w+)`/gm)].map(
      ([, name]) => name!,
    );
    expect([...new Set(named)].sort()).toEqual([...new Set([...known, ...counted])].sort());
  });

  test('what the log reference calls a record is one in the code', () => {
    const page = read('docs/reference/log.md');
    const rows = [...page.matchAll(/^\| ((?:`[^`]+`(?:, )?)+) \|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`([^`]+)`/g)].map(([, word]) => word!),
    );
    const words = rows.filter((word) => !['level', 'time', 'member', 'msg', 'trace'].includes(word));
    const code = execFileSync(
      'grep',
      ['-rhoE', `'[^']+'|\`[^\`]+\``, 'gateway', 'backend', 'command', 'certs', 'cluster-protocol'],
      {
        cwd: project,
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024,
      },
    );
    // `plugin breaker ${…}` is said with one of two words.
    const said = (word: string): boolean =>
      code.includes(`'${word}'`) || (/^plugin breaker /.test(word) && code.includes('`plugin breaker $'));
    const missing = words.filter((word) => !said(word));
    expect(words.length).toBeGreaterThan(15);
    expect(missing).toEqual([]);
  });
});

describe('examples', () => {
  test('the first site is a configuration without a mistake', () => {
    const [toml] = blocks('docs/howto/first-site.md', 'toml');
    expect(checkConfig(toml!)).toMatch(/: good\n/);
  });

  test('the scanners are set up as the page says', () => {
    const [toml] = blocks('docs/howto/scanners.md', 'toml');
    expect(checkConfig(toml!)).toMatch(
      /: good\nplugins: connection-limit, guess-guard, early-talker, clamav, spamassassin\n/,
    );
  });

  test('both ways of single sign-on are configurations without a mistake', () => {
    const examples = blocks('docs/howto/single-sign-on.md', 'toml');
    expect(examples).toHaveLength(2);
    for (const toml of examples) expect(checkConfig(toml)).toMatch(/: good\n/);
  });

  test('the plugin on the page loads, and its options are read', () => {
    const page = 'docs/howto/write-a-plugin.md';
    writeFileSync(path.join(dir, 'no-test-net.ts'), blocks(page, 'ts')[0]!);
    const [toml] = blocks(page, 'toml');
    expect(checkConfig(toml!)).toMatch(/: good\nplugins: no-test-net \(watch\)\n/);
    expect(checkConfig(`${toml}\nno_such = 1\n`)).toMatch(/postern\.toml:\d+ .*no_such/);
  });
});
