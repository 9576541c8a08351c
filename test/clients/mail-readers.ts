/**
 * Real mail clients, each run as people run them, each returning every message
 * of the inbox as the bytes it got. Used to show that what was sent is what
 * ordinary software reads.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** How to reach the account under test. */
export interface MailAccess {
  readonly host: string;
  readonly imapsPort: number;
  readonly imapPort: number;
  readonly pop3sPort: number;
  readonly pop3Port: number;
  readonly httpsPort: number;
  readonly user: string;
  readonly password: string;
  /** PEM file of the CA to trust. */
  readonly caFile: string;
}

export interface MailReader {
  readonly name: string;
  /** `exact`: bytes as they came over the wire; `unix`: CRLF becomes LF; `refolded`: and long header fields are folded anew. */
  readonly lines: 'exact' | 'unix' | 'refolded';
  read(access: MailAccess): Promise<Buffer[]>;
}

/** Runs a program to its end. @throws {Error} with what it printed when it fails. */
export function run(
  program: string,
  args: readonly string[],
  options: {
    input?: string | Buffer;
    env?: Record<string, string>;
    cwd?: string;
    timeoutMs?: number;
    mayFail?: boolean;
  } = {},
): Promise<{ code: number; stdout: Buffer; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 60_000);
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.stdin.on('error', () => {});
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const stdout = Buffer.concat(out);
      const stderr = Buffer.concat(err).toString();
      if (code === 0 || options.mayFail) resolve({ code: code ?? -1, stdout, stderr });
      else
        reject(
          new Error(
            `${program} ${args.join(' ')} ended with ${code ?? signal}:\n${stderr}\n${stdout.toString().slice(0, 2000)}`,
          ),
        );
    });
    child.stdin.end(options.input ?? '');
  });
}

/** Work in a directory of its own, removed afterwards. */
export async function inScratch<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(path.join(tmpdir(), 'postern-client-'));
  try {
    return await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Contents of the files of a directory. */
export async function filesOf(dir: string): Promise<Buffer[]> {
  const names = (await readdir(dir).catch(() => [])).sort();
  return Promise.all(names.map((name) => readFile(path.join(dir, name))));
}

/** `curl imaps://`, one URL a message, as a script would. */
export const curlImaps: MailReader = {
  name: 'curl imaps://',
  lines: 'exact',
  async read(access) {
    const base = [
      '--silent',
      '--show-error',
      '--cacert',
      access.caFile,
      '--user',
      `${access.user}:${access.password}`,
    ];
    const inbox = `imaps://${access.host}:${access.imapsPort}/INBOX`;
    const search = await run('curl', [...base, `${inbox}?ALL`]);
    const numbers =
      /\* SEARCH([ \d]*)/.exec(search.stdout.toString())?.[1]?.trim().split(' ').filter(Boolean) ?? [];
    const messages: Buffer[] = [];
    for (const number of numbers) {
      messages.push((await run('curl', [...base, `${inbox};MAILINDEX=${number}`])).stdout);
    }
    return messages;
  },
};

const imaplibScript = `
import imaplib, ssl, sys, base64
host, port, user, password, ca = sys.argv[1:6]
box = imaplib.IMAP4(host, int(port))
box.starttls(ssl.create_default_context(cafile=ca))
box.login(user, password)
box.select('INBOX', readonly=True)
kind, found = box.uid('SEARCH', None, 'ALL')
for uid in found[0].split():
    kind, data = box.uid('FETCH', uid, '(BODY.PEEK[])')
    print(base64.b64encode(data[0][1]).decode())
box.logout()
`;

/** Python's imaplib over STARTTLS. */
export const pythonImaplib: MailReader = {
  name: 'Python imaplib with STARTTLS',
  lines: 'exact',
  async read(access) {
    const { stdout } = await run('python3', [
      '-c',
      imaplibScript,
      access.host,
      String(access.imapPort),
      access.user,
      access.password,
      access.caFile,
    ]);
    return decodeLines(stdout);
  },
};

const poplibScript = `
import poplib, ssl, sys, base64
host, port, user, password, ca = sys.argv[1:6]
poplib._MAXLINE = 1 << 20
box = poplib.POP3(host, int(port))
box.stls(ssl.create_default_context(cafile=ca))
box.user(user)
box.pass_(password)
count, size = box.stat()
for number in range(1, count + 1):
    kind, lines, octets = box.retr(number)
    print(base64.b64encode(b'\\r\\n'.join(lines) + b'\\r\\n').decode())
box.quit()
`;

/** Python's poplib over STLS. */
export const pythonPoplib: MailReader = {
  name: 'Python poplib with STLS',
  lines: 'exact',
  async read(access) {
    const { stdout } = await run('python3', [
      '-c',
      poplibScript,
      access.host,
      String(access.pop3Port),
      access.user,
      access.password,
      access.caFile,
    ]);
    return decodeLines(stdout);
  },
};

/** mbsync into a Maildir. */
export const mbsync: MailReader = {
  name: 'mbsync',
  lines: 'unix',
  read: (access) =>
    inScratch(async (dir) => {
      await mkdir(path.join(dir, 'mail'));
      await writeFile(
        path.join(dir, 'mbsyncrc'),
        [
          'IMAPAccount edge',
          `Host ${access.host}`,
          `Port ${access.imapsPort}`,
          `User ${access.user}`,
          `Pass ${access.password}`,
          'SSLType IMAPS',
          `CertificateFile ${access.caFile}`,
          '',
          'IMAPStore far',
          'Account edge',
          '',
          'MaildirStore near',
          `Path ${dir}/mail/`,
          `Inbox ${dir}/mail/INBOX`,
          '',
          'Channel all',
          'Far :far:',
          'Near :near:',
          'Patterns INBOX',
          'Create Near',
          'Sync Pull',
          'SyncState *',
          '',
        ].join('\n'),
        { mode: 0o600 },
      );
      await run('mbsync', ['-c', path.join(dir, 'mbsyncrc'), '-a'], { env: { HOME: dir } });
      return [
        ...(await filesOf(path.join(dir, 'mail/INBOX/new'))),
        ...(await filesOf(path.join(dir, 'mail/INBOX/cur'))),
      ];
    }),
};

/** fetchmail by POP3 over TLS, keeping the mail on the server, each message into a file. */
export const fetchmail: MailReader = {
  name: 'fetchmail',
  lines: 'unix',
  read: (access) =>
    inScratch(async (dir) => {
      await mkdir(path.join(dir, 'mail'));
      const deliver = path.join(dir, 'deliver');
      await writeFile(deliver, `#!/bin/sh\ncat > "$(mktemp ${dir}/mail/m.XXXXXXXX)"\n`, { mode: 0o700 });
      await writeFile(
        path.join(dir, 'fetchmailrc'),
        `poll "${access.host}" protocol pop3 port ${access.pop3sPort} user "${access.user}" password "${access.password}" ssl sslcertfile "${access.caFile}" sslcertck keep fetchall no rewrite mimedecode false mda "${deliver}"\n`.replace(
          'mimedecode false',
          'no mimedecode',
        ),
        { mode: 0o600 },
      );
      // Code 1 means that there was no mail.
      const done = await run(
        'fetchmail',
        ['-f', path.join(dir, 'fetchmailrc'), '--invisible', '--nosyslog'],
        {
          env: { HOME: dir, FETCHMAILHOME: dir, LC_ALL: 'C' },
          mayFail: true,
        },
      );
      if (done.code !== 0 && done.code !== 1)
        throw new Error(`fetchmail ended with ${done.code}:\n${done.stderr}\n${done.stdout}`);
      return filesOf(path.join(dir, 'mail'));
    }),
};

/** mutt without a screen: opens the inbox over IMAPS, saves copies of everything, leaves. */
export const mutt: MailReader = {
  name: 'mutt',
  lines: 'unix',
  read: (access) =>
    inScratch(async (dir) => {
      const copies = path.join(dir, 'copies');
      for (const sub of ['cur', 'new', 'tmp']) await mkdir(path.join(copies, sub), { recursive: true });
      await writeFile(
        path.join(dir, 'muttrc'),
        [
          'set mbox_type=Maildir',
          `set certificate_file="${access.caFile}"`,
          'set ssl_force_tls=yes',
          'set ssl_use_system_certs=no',
          `set imap_user="${access.user}"`,
          `set imap_pass="${access.password}"`,
          `set folder="${dir}"`,
          'set header_cache=""',
          'set confirmappend=no confirmcreate=no delete=no move=no mark_old=no quit=yes wait_key=no sleep_time=0',
          'set read_inc=0 write_inc=0 net_inc=0',
          `push "<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>${copies}<enter><quit>"`,
          '',
        ].join('\n'),
        { mode: 0o600 },
      );
      const url = `imaps://${access.host}:${access.imapsPort}/INBOX`;
      await run('script', ['-qec', `mutt -n -F ${dir}/muttrc -f ${url}`, '/dev/null'], {
        env: { HOME: dir, TERM: 'xterm' },
        mayFail: true,
        timeoutMs: 60_000,
      });
      return [...(await filesOf(path.join(copies, 'new'))), ...(await filesOf(path.join(copies, 'cur')))];
    }),
};

/** curl by JMAP: session, Email/query, Email/get, then every blob. */
export const curlJmap: MailReader = {
  name: 'curl by JMAP',
  lines: 'exact',
  async read(access) {
    const base = [
      '--silent',
      '--show-error',
      '--fail-with-body',
      '--location',
      '--cacert',
      access.caFile,
      '--user',
      `${access.user}:${access.password}`,
    ];
    const origin = `https://${access.host}:${access.httpsPort}`;
    const absolute = (url: string): string => new URL(url, origin).href;
    const session = JSON.parse(
      (await run('curl', [...base, `${origin}/.well-known/jmap`])).stdout.toString(),
    ) as {
      apiUrl: string;
      downloadUrl: string;
      primaryAccounts: Record<string, string>;
    };
    const accountId = session.primaryAccounts['urn:ietf:params:jmap:mail']!;
    const call = async (methodCalls: unknown[]): Promise<[string, Record<string, unknown>, string][]> => {
      const body = JSON.stringify({
        using: ['urn:ietf:params:jmap:core', 'urn:ietf:params:jmap:mail'],
        methodCalls,
      });
      const answer = await run(
        'curl',
        [
          ...base,
          '--header',
          'content-type: application/json',
          '--data-binary',
          '@-',
          absolute(session.apiUrl),
        ],
        { input: body },
      );
      return (
        JSON.parse(answer.stdout.toString()) as {
          methodResponses: [string, Record<string, unknown>, string][];
        }
      ).methodResponses;
    };
    const mailboxes = await call([['Mailbox/get', { accountId, ids: null }, 'm']]);
    const inbox = (mailboxes[0]![1].list as { id: string; role: string | null }[]).find(
      (box) => box.role === 'inbox',
    )!;
    const [, found] = await call([
      [
        'Email/query',
        { accountId, filter: { inMailbox: inbox.id }, sort: [{ property: 'receivedAt' }] },
        'q',
      ],
      [
        'Email/get',
        { accountId, '#ids': { resultOf: 'q', name: 'Email/query', path: '/ids' }, properties: ['blobId'] },
        'g',
      ],
    ]);
    const messages: Buffer[] = [];
    for (const email of found![1].list as { blobId: string }[]) {
      const url = session.downloadUrl
        .replace('{accountId}', encodeURIComponent(accountId))
        .replace('{blobId}', encodeURIComponent(email.blobId))
        .replace('{name}', 'message.eml')
        .replace('{type}', encodeURIComponent('message/rfc822'));
      messages.push((await run('curl', [...base, absolute(url)])).stdout);
    }
    return messages;
  },
};

export const mailReaders: readonly MailReader[] = [
  curlImaps,
  pythonImaplib,
  pythonPoplib,
  mbsync,
  fetchmail,
  mutt,
  curlJmap,
];

function decodeLines(text: Buffer): Buffer[] {
  return text
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => Buffer.from(line, 'base64'));
}
