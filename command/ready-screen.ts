/** What `postern start` prints when everything answers: where it listens, the account, and what to try. */
import path from 'node:path';
import { type ListenAddress, parseAddress } from '../base/settings.ts';
import type { FirstAccount } from './first-account.ts';
import type { Addresses } from './member-process.ts';

const doors: readonly (readonly [key: string, words: string])[] = [
  ['smtp', 'SMTP, mail from other servers'],
  ['submission', 'SMTP submission, STARTTLS'],
  ['submissions', 'SMTP submission, TLS'],
  ['imap', 'IMAP, STARTTLS'],
  ['imaps', 'IMAP, TLS'],
  ['pop3', 'POP3, STLS'],
  ['pop3s', 'POP3, TLS'],
  ['https', 'HTTPS, JMAP'],
  ['health', '/healthz and /metrics'],
];

export interface ScreenFacts {
  readonly release: string;
  readonly data: string;
  readonly storageRoot: string;
  readonly configPath: string;
  readonly isNew: boolean;
  readonly caFile: string;
  /** Absent where another machine of the cluster has made it. */
  readonly account: FirstAccount | undefined;
  /** Listeners of the gateways, by door. */
  readonly listeners: Addresses;
  readonly members: readonly string[];
  readonly tookMs: number;
  readonly cwd: string;
}

export function readyScreen(facts: ScreenFacts): string {
  const near = (file: string): string => shortest(file, facts.cwd);
  const lines = [
    `Postern ${facts.release}`,
    '',
    `  data      ${near(facts.data)}${facts.isNew ? ' (new)' : ''}`,
    `  storage   ${near(facts.storageRoot)}`,
    `  settings  ${facts.configPath === '' ? 'defaults; see postern.toml.example' : near(facts.configPath)}`,
    `  members   ${facts.members.join(', ')}`,
    '',
  ];
  const known = new Set(doors.map(([key]) => key));
  const others = Object.keys(facts.listeners).filter((key) => !known.has(key) && key !== 'link');
  for (const [key, words] of [...doors, ...others.map((key) => [key, key] as const)]) {
    const addresses = facts.listeners[key] ?? [];
    if (addresses.length > 0) lines.push(`  ${key.padEnd(12)} ${addresses.join(' ').padEnd(16)} ${words}`);
  }
  const { account } = facts;
  if (account !== undefined)
    lines.push(
      '',
      `  account   ${account.address}`,
      account.password === undefined
        ? `  password  in ${near(account.file)}, unless it was changed`
        : `  password  ${account.password}   (also in ${near(account.file)})`,
      '',
      ...nextSteps(facts, account, near),
    );
  lines.push(
    ...(account === undefined ? [''] : []),
    `ready in ${(facts.tookMs / 1000).toFixed(1)} s; Ctrl-C stops it`,
  );
  return `${lines.join('\n')}\n`;
}

function nextSteps(facts: ScreenFacts, account: FirstAccount, near: (file: string) => string): string[] {
  const { listeners } = facts;
  const first = (key: string): ListenAddress | undefined => {
    const text = listeners[key]?.[0];
    return text === undefined ? undefined : parseAddress(text);
  };
  const steps: string[] = [];
  const smtp = first('smtp');
  if (smtp) steps.push(`swaks --server ${reach(smtp)} --from you@example.org --to ${account.address}`);
  const user = `${account.address}${account.password === undefined ? '' : `:${account.password}`}`;
  const imaps = first('imaps');
  if (imaps)
    steps.push(
      `curl --cacert ${quoted(near(facts.caFile))} --user ${user} 'imaps://${reach(imaps)}/INBOX;MAILINDEX=1'`,
    );
  const https = first('https');
  if (https)
    steps.push(
      `curl --cacert ${quoted(near(facts.caFile))} --user ${user} https://${reach(https)}/.well-known/jmap -L`,
    );
  steps.push(`npx postern account add ann@postern.test${where(facts)}`);
  return ['  next, in another terminal:', ...steps.map((step) => `    ${step}`), ''];
}

/** `--data` and `--config`, where they are not what the command takes by itself. */
function where(facts: ScreenFacts): string {
  const words: string[] = [];
  if (path.resolve(facts.cwd, 'var') !== facts.data) words.push(`--data ${quoted(facts.data)}`);
  return words.length === 0 ? '' : ` ${words.join(' ')}`;
}

/** How a client on this machine reaches a listener: a wildcard is no destination. */
function reach({ host, port }: ListenAddress): string {
  if (host === '::' || host === '0.0.0.0' || host === '') return `localhost:${port}`;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function shortest(file: string, cwd: string): string {
  const relative = path.relative(cwd, file);
  return relative === '' || relative.startsWith('..') ? file : relative;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
