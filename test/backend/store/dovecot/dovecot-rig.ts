/**
 * The real Dovecot of this machine over one Maildir: its `imap` program on
 * standard input and output, already logged in, with a configuration of its
 * own. No port, no daemon; a session ends when its process has ended.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { requireDebianPackages } from '../../../support/debian.ts';

const run = promisify(execFile);
const imapProgram = '/usr/lib/dovecot/imap';
const answerMsMax = 20_000;

/** Everything an IMAP client can see of one message. */
export interface SeenMessage {
  readonly uid: number;
  /** Sorted, without \Recent. */
  readonly flags: readonly string[];
  /** Seconds since 1970. */
  readonly seconds: number;
  readonly size: number;
  readonly text: string;
}

export interface SeenFolder {
  readonly uidValidity: number;
  readonly uidNext: number;
  readonly messages: readonly SeenMessage[];
}

export interface DovecotRig {
  /** An account's directory: `Maildir` in it is Dovecot's. */
  readonly directory: string;
  readonly maildir: string;
  /** @param settings  More lines for dovecot.conf. */
  connect(settings?: string): Promise<DovecotSession>;
  remove(): Promise<void>;
}

export async function makeDovecot(): Promise<DovecotRig> {
  await requireDebianPackages(['dovecot-imapd']);
  const top = await mkdtemp(path.join(tmpdir(), 'postern-dovecot-'));
  await chmod(top, 0o755);
  const directory = path.join(top, 'account');
  const maildir = path.join(directory, 'Maildir');
  for (const name of ['run', 'state', 'account/Maildir'])
    await mkdir(path.join(top, name), { recursive: true });
  const children: ChildProcessWithoutNullStreams[] = [];
  const asRoot = process.getuid!() === 0;
  // Dovecot reads no mail as root.
  const [uid, gid] = asRoot ? ['mail', 'mail'] : [String(process.getuid!()), String(process.getgid!())];
  return {
    directory,
    maildir,
    async connect(settings = '') {
      const file = path.join(top, 'dovecot.conf');
      const lines = [
        `base_dir = ${top}/run`,
        `state_dir = ${top}/state`,
        `log_path = ${top}/log`,
        'protocols = imap',
        'first_valid_uid = 1',
        `mail_location = maildir:${maildir}`,
        `mail_uid = ${uid}`,
        `mail_gid = ${gid}`,
        'ssl = no',
        settings,
      ];
      await writeFile(file, `${lines.join('\n')}\n`);
      if (asRoot) await run('chown', ['-R', 'mail:mail', directory]);
      // Pipes: on a socket it takes itself for started by inetd, and refuses.
      const child = spawn('sh', ['-c', `cat | "$0" -c "$1" | cat`, imapProgram, file], {
        env: { HOME: directory, USER: 'ann', PATH: process.env.PATH },
      });
      children.push(child);
      const session = new DovecotSession(child, () =>
        readFile(path.join(top, 'log'), 'utf8').catch(() => ''),
      );
      await session.greeting();
      return session;
    },
    async remove() {
      // A session a test left behind would keep the test program from ending.
      for (const child of children) child.stdin.destroy();
      await rm(top, { recursive: true, force: true });
    },
  };
}

export class DovecotSession {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #log: () => Promise<string>;
  #received = '';
  #error = '';
  #tag = 0;
  #wake: () => void = () => {};

  constructor(child: ChildProcessWithoutNullStreams, log: () => Promise<string>) {
    this.#child = child;
    this.#log = log;
    child.stdout.on('data', (data: Buffer) => {
      this.#received += data.toString('latin1');
      this.#wake();
    });
    child.stderr.on('data', (data: Buffer) => {
      this.#error += data.toString();
    });
    child.on('exit', () => this.#wake());
  }

  async greeting(): Promise<void> {
    await this.#until(() => this.#received.includes('\r\n'));
    if (!this.#received.startsWith('* PREAUTH')) throw new Error(`Dovecot: ${this.#received}${this.#error}`);
    this.#received = '';
  }

  /** Sends a command and gives what came back before its OK. Latin-1 text; literals may be written with `{n+}`. */
  async ask(command: string): Promise<string> {
    const tag = `t${++this.#tag}`;
    this.#child.stdin.write(Buffer.from(`${tag} ${command}\r\n`, 'latin1'));
    const end = new RegExp(`(?:^|\\r\\n)${tag} (\\w+)([^\\r\\n]*)\\r\\n$`);
    await this.#until(() => end.test(this.#received));
    const found = end.exec(this.#received)!;
    const answer = this.#received;
    this.#received = '';
    if (found[1] !== 'OK') throw new Error(`${command}: ${found[1]}${found[2]}`);
    return answer;
  }

  /** APPEND with LITERAL+. */
  append(folder: string, flags: string, date: string, text: string): Promise<string> {
    return this.ask(
      `APPEND ${folder} (${flags}) "${date}" {${Buffer.byteLength(text, 'latin1')}+}\r\n${text}`,
    );
  }

  async end(): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.stdin.end('z LOGOUT\r\n');
    await exit;
  }

  /** Names as on the wire: modified UTF-7, `.` between levels. */
  async folders(): Promise<string[]> {
    return names(await this.ask('LIST "" *'), 'LIST');
  }

  async subscriptions(): Promise<string[]> {
    return names(await this.ask('LSUB "" *'), 'LSUB');
  }

  async see(folder: string): Promise<SeenFolder> {
    const selected = await this.ask(`EXAMINE "${folder}"`);
    const fetched = await this.ask('UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])');
    const messages: SeenMessage[] = [];
    const start =
      /\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE "([^"]*)" RFC822\.SIZE (\d+) BODY\[\] (?:\{(\d+)\}\r\n|"")/g;
    for (let found = start.exec(fetched); found; found = start.exec(fetched)) {
      const bytes = Number(found[5] ?? 0);
      messages.push({
        uid: Number(found[1]),
        flags: found[2]!
          .split(' ')
          .filter((flag) => flag !== '' && flag !== '\\Recent')
          .sort(),
        seconds: Date.parse(found[3]!.trim().replaceAll('-', ' ')) / 1000,
        size: Number(found[4]),
        text: fetched.slice(start.lastIndex, start.lastIndex + bytes),
      });
      start.lastIndex += bytes;
    }
    const exists = Number(/\* (\d+) EXISTS/.exec(selected)![1]);
    if (messages.length !== exists)
      throw new Error(`${folder}: ${messages.length} of ${exists} read\n${fetched}`);
    return {
      uidValidity: Number(/UIDVALIDITY (\d+)/.exec(selected)![1]),
      uidNext: Number(/UIDNEXT (\d+)/.exec(selected)![1]),
      messages,
    };
  }

  async seeAll(): Promise<Record<string, SeenFolder>> {
    const all: Record<string, SeenFolder> = {};
    for (const folder of (await this.folders()).sort()) all[folder] = await this.see(folder);
    return all;
  }

  /** What Dovecot complained about: it says so when a Maildir is not as it left it. */
  async complaints(): Promise<string[]> {
    return (await this.#log()).split('\n').filter((line) => /Error|Warning|Panic|Fatal/.test(line));
  }

  async #until(done: () => boolean): Promise<void> {
    const stop = performance.now() + answerMsMax;
    while (!done()) {
      if (this.#child.exitCode !== null || performance.now() > stop) {
        throw new Error(`Dovecot does not answer: ${this.#received}${this.#error}${await this.#log()}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 500);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

function names(answer: string, what: string): string[] {
  const found = answer.matchAll(new RegExp(`^\\* ${what} \\(([^)]*)\\) "." ("?)(.*?)\\2\\r$`, 'gm'));
  return [...found]
    .filter((match) => !/Noselect|NonExistent/i.test(match[1]!))
    .map((match) => match[3]!)
    .sort();
}
