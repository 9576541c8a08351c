/**
 * The SpamAssassin corpus through the whole chain, with real scanners: what each
 * plugin caught, missed, and wrongly accused. `npm run corpus -- --messages 6000`
 */
import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startClamd } from '../support/clamd.ts';
import { corpus } from '../support/corpus.ts';
import { temporaryDir } from '../support/process.ts';
import { startRspamd } from '../support/rspamd.ts';
import { startSpamd } from '../support/spamd.ts';

interface Summary {
  readonly messages: Record<string, number>;
  readonly outcome: Record<string, Record<string, number>>;
  readonly plugins: Record<string, Record<string, Record<string, number>>>;
}

const strong = ['quarantine', 'reject', 'disconnect', 'defer'];
const projectDir = path.resolve(import.meta.dirname, '../..');

const { values } = parseArgs({
  options: { messages: { type: 'string', default: '6000' }, rspamd: { type: 'boolean', default: false } },
});
const dir = await temporaryDir('corpus');
const [clamd, spamd] = await Promise.all([startClamd(), startSpamd()]);
const rspamd = values.rspamd ? await startRspamd() : undefined;
try {
  const folder = path.join(dir.path, 'mail');
  await mkdir(path.join(folder, 'ham'), { recursive: true });
  await mkdir(path.join(folder, 'spam'));
  for (const { name, bytes } of corpus({ countMax: Number(values.messages) })) {
    const label = name.startsWith('spam') ? 'spam' : 'ham';
    await writeFile(path.join(folder, label, `${name.replaceAll('/', '-')}.eml`), bytes);
  }
  const config = path.join(dir.path, 'postern.toml');
  const entries = [
    'use = "helo-checks"',
    `use = "clamav"\nserver = "127.0.0.1:${clamd.port}"`,
    `use = "spamassassin"\nserver = "127.0.0.1:${spamd.port}"\nreject_score = 8\nquarantine = true`,
    ...(rspamd === undefined ? [] : [`use = "rspamd"\nurl = "${rspamd.url}"`]),
    'use = "attachment-policy"',
    'use = "phishing"\nwatched_domains = ["paypal.com", "ebay.com", "amazon.com", "microsoft.com", "yahoo.com"]',
    'use = "bounce-guard"\nper_recipient = 100000\nper_network = 100000',
  ];
  await writeFile(config, entries.map((entry) => `[[plugin]]\n${entry}\n`).join('\n'));
  const began = performance.now();
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      path.join(projectDir, 'postern.ts'),
      'plugin',
      'replay',
      folder,
      '--config',
      config,
      '--concurrent',
      '5',
      '--json',
    ],
    { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  if (status !== 0) throw new Error(stderr);
  const { messages, outcome, plugins } = JSON.parse(stdout) as Summary;
  const line = (name: string, counts: Record<string, Record<string, number>>): string => {
    const sum = (label: string): number =>
      strong.reduce((all, word) => all + (counts[label]?.[word] ?? 0), 0);
    const caught = sum('spam');
    const spam = messages.spam ?? 0;
    const cells = [caught, spam - caught, sum('ham'), counts.spam?.failed ?? 0];
    return `${name.padEnd(20)} ${cells.map((cell) => String(cell).padStart(8)).join(' ')}`;
  };
  process.stderr.write(
    [
      `${messages.spam} spam, ${messages.ham} ham, ${Math.round((performance.now() - began) / 1000)} s`,
      `${''.padEnd(20)} ${['caught', 'missed', 'false', 'failed'].map((word) => word.padStart(8)).join(' ')}`,
      line('all together', outcome),
      ...Object.entries(plugins).map(([name, counts]) => line(name, counts)),
      '',
    ].join('\n'),
  );
  process.stdout.write(`${JSON.stringify({ messages, outcome, plugins })}\n`);
} finally {
  await Promise.all([clamd.stop(), spamd.stop(), rspamd?.stop()]);
  await dir.remove();
}
