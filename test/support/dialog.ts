/**
 * Runs a conversation written in a file, as anyone can read and add one:
 *
 *     # what it shows
 *     open smtp              a connection to that port; "open imaps as b tls" names it and starts TLS
 *     s: 220 ...             the next line has to be this; "..." stands for anything
 *     c: EHLO client.test    sends the line and CRLF
 *     s: /^250[- ]/          the next line has to match
 *     s* /^250 /             lines are read until one matches
 *     c~ a\r\n.\nb\0         sends bytes: \r \n \0 \t \\ \xNN
 *     repeat 200 BAD\r\n     sends bytes so many times
 *     tls                    starts TLS here ("tls fails": has to fail)
 *     quiet 300ms            nothing may come for so long
 *     wait 300ms
 *     closed                 the other side has to close, having said nothing more
 *     closed*                it has to close; whatever it says before is read
 *     close                  we close
 *     on b                   the lines that follow speak on connection b
 *     do begin-mail          runs parts/begin-mail.dialog here
 *     stored Hello there     afterwards the mailbox has a message of this subject, and only those named so
 *
 * `{account}` and the like are filled in from what the runner is given. A line
 * that does not come true ends the run with file, line, what was expected and what came.
 */
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';

export interface DialogPlace {
  readonly host: string;
  readonly ports: Readonly<Record<string, number>>;
  /** What `{name}` stands for. */
  readonly words: Readonly<Record<string, string>>;
  /** Longest wait for one line. Default 10 s. */
  readonly lineMs?: number;
}

const receivedBytesMax = 4 * 1024 * 1024;

export class DialogError extends Error {}

interface Run {
  readonly connections: Map<string, Line>;
  readonly opened: Line[];
  readonly stored: string[];
  readonly parts: string;
  current: Line | undefined;
}

/**
 * @returns The subjects of the `stored` lines: what the mailbox has to hold afterwards, no more and no less.
 * @throws {DialogError} `file:12: expected …, got …`
 */
export async function runDialog(file: string, place: DialogPlace): Promise<readonly string[]> {
  const parts = path.join(path.dirname(file), 'parts');
  const run: Run = { connections: new Map(), opened: [], stored: [], parts, current: undefined };
  try {
    await runFile(file, run, place);
    return run.stored;
  } finally {
    for (const connection of run.opened) connection.end();
  }
}

async function runFile(file: string, run: Run, place: DialogPlace): Promise<void> {
  const text = await readFile(file, 'utf8');
  for (const [index, raw] of text.split('\n').entries()) {
    const step = fill(raw.trim(), place.words);
    if (step === '' || step.startsWith('#')) continue;
    const part = /^do ([\w-]+)$/.exec(step);
    const stored = /^stored (.+)$/.exec(step);
    try {
      if (part) await runFile(path.join(run.parts, `${part[1]}.dialog`), run, place);
      else if (stored) run.stored.push(stored[1]!);
      else run.current = await runStep(step, run, place);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DialogError(`${path.basename(file)}:${index + 1}: ${step.slice(0, 200)}\n  ${reason}`);
    }
  }
}

async function runStep(step: string, run: Run, place: DialogPlace): Promise<Line | undefined> {
  const { connections, current } = run;
  const open = /^open (\w+)(?: as (\w+))?( tls)?$/.exec(step);
  if (open) {
    const port = place.ports[open[1]!];
    if (port === undefined) throw new Error(`there is no port called ${open[1]}`);
    const line = await Line.open(place.host, port, place.lineMs ?? 10_000);
    connections.set(open[2] ?? 'main', line);
    run.opened.push(line);
    if (open[3] !== undefined) await line.startTls();
    return line;
  }
  const on = /^on (\w+)$/.exec(step);
  if (on) {
    const line = connections.get(on[1]!);
    if (!line) throw new Error(`no connection is called ${on[1]}`);
    return line;
  }
  const wait = /^wait (\d+)ms$/.exec(step);
  if (wait) {
    await new Promise((resolve) => setTimeout(resolve, Number(wait[1])));
    return current;
  }
  if (!current) throw new Error('nothing is open; start with "open smtp"');
  const said = /^(c:|c~|s:|s\*|repeat|quiet)(?: (.*))?$/.exec(step);
  const rest = said?.[2] ?? '';
  if (said?.[1] === 'c:') await current.send(Buffer.from(`${rest}\r\n`, 'utf8'));
  else if (said?.[1] === 'c~') await current.send(bytesOf(rest));
  else if (said?.[1] === 's:') await current.expect(rest);
  else if (said?.[1] === 's*') await current.expectWithin(rest);
  else if (said?.[1] === 'repeat') {
    const [, count, bytes] = /^(\d+) (.*)$/.exec(rest) ?? [];
    if (bytes === undefined) throw new Error('write: repeat 200 BYTES');
    await current.repeat(bytesOf(bytes), Number(count));
  } else if (said?.[1] === 'quiet') await current.quiet(Number.parseInt(rest, 10));
  else if (step === 'tls') await current.startTls();
  else if (step === 'tls fails') await current.tlsFails();
  else if (step === 'closed') await current.closed(false);
  else if (step === 'closed*') await current.closed(true);
  else if (step === 'close') current.end();
  else throw new Error('not a step');
  return current;
}

/** One connection, read line by line. */
class Line {
  #socket: net.Socket;
  readonly #lineMs: number;
  #buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  private constructor(socket: net.Socket, lineMs: number) {
    this.#socket = socket;
    this.#lineMs = lineMs;
    this.#listen();
  }

  static async open(host: string, port: number, lineMs: number): Promise<Line> {
    const socket = net.connect({ host, port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return new Line(socket, lineMs);
  }

  #listen(): void {
    this.#socket.on('data', (chunk: Buffer) => {
      if (this.#buffer.length < receivedBytesMax) this.#buffer = Buffer.concat([this.#buffer, chunk]);
      this.#wake();
    });
    this.#socket.on('error', () => {});
    for (const event of ['end', 'close']) {
      this.#socket.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
  }

  /** A peer that has closed does not take what we send: what it said is looked at, not that. */
  async send(bytes: Buffer): Promise<void> {
    if (this.#socket.destroyed) return;
    await new Promise<void>((resolve) => this.#socket.write(bytes, () => resolve()));
  }

  async repeat(bytes: Buffer, count: number): Promise<void> {
    const perBlock = Math.max(1, Math.floor(65536 / bytes.length));
    for (let left = count; left > 0 && !this.#socket.destroyed && !this.#ended; left -= perBlock) {
      const block = Buffer.concat(new Array<Buffer>(Math.min(left, perBlock)).fill(bytes));
      // A peer that stops reading must not stop the test: what it says meanwhile is looked at next.
      await Promise.race([this.send(block), new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
    }
  }

  async #until(done: () => boolean, waitMs: number): Promise<boolean> {
    const deadline = performance.now() + waitMs;
    while (!done()) {
      const left = deadline - performance.now();
      if (left <= 0) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return true;
  }

  async #line(): Promise<string> {
    const got = await this.#until(() => this.#buffer.includes(10) || this.#ended, this.#lineMs);
    const end = this.#buffer.indexOf(10);
    if (end === -1) {
      const rest = shown(this.#buffer);
      throw new Error(
        got ? `the connection was closed; last came: ${rest}` : `nothing came in time; so far: ${rest}`,
      );
    }
    const line = this.#buffer.subarray(0, end).toString('latin1').replace(/\r$/, '');
    this.#buffer = this.#buffer.subarray(end + 1);
    return line;
  }

  async expect(pattern: string): Promise<void> {
    const line = await this.#line();
    if (!matcher(pattern).test(line)) throw new Error(`got: ${shown(line)}`);
  }

  async expectWithin(pattern: string): Promise<void> {
    const wanted = matcher(pattern);
    const seen: string[] = [];
    for (let count = 0; count < 10_000; count++) {
      const line = await this.#line().catch((error: Error) => {
        throw new Error(`${error.message}; before it: ${seen.slice(-5).map(shown).join(' | ')}`);
      });
      if (wanted.test(line)) return;
      seen.push(line);
    }
    throw new Error('10,000 lines came and none matched');
  }

  async quiet(forMs: number): Promise<void> {
    if (await this.#until(() => this.#buffer.length > 0 || this.#ended, forMs)) {
      throw new Error(this.#ended ? 'the connection was closed' : `got: ${shown(this.#buffer)}`);
    }
  }

  async closed(mayTalk: boolean): Promise<void> {
    const ended = await this.#until(() => this.#ended || (!mayTalk && this.#buffer.length > 0), this.#lineMs);
    if (!ended) throw new Error(`still open; last came: ${shown(this.#buffer.subarray(-200))}`);
    if (!mayTalk && this.#buffer.length > 0) throw new Error(`got: ${shown(this.#buffer)}`);
    this.#buffer = Buffer.alloc(0);
  }

  async startTls(): Promise<void> {
    if (this.#buffer.length > 0) throw new Error(`before TLS came: ${shown(this.#buffer)}`);
    const plain = this.#socket;
    plain.removeAllListeners();
    const secure = tls.connect({ socket: plain, rejectUnauthorized: false });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no TLS in time')), this.#lineMs);
      secure.once('secureConnect', () => {
        clearTimeout(timer);
        resolve();
      });
      secure.once('error', reject);
      secure.once('close', () => reject(new Error('closed instead of TLS')));
    });
    secure.removeAllListeners('error');
    secure.removeAllListeners('close');
    this.#socket = secure;
    this.#ended = false;
    this.#listen();
  }

  async tlsFails(): Promise<void> {
    const good = await this.startTls().then(
      () => true,
      () => false,
    );
    if (good) throw new Error('TLS started');
  }

  end(): void {
    this.#socket.destroy();
  }
}

/** `/…/` is a regular expression; else the whole line, with `...` for anything. */
function matcher(pattern: string): RegExp {
  const regex = /^\/(.*)\/(i?)$/.exec(pattern);
  if (regex) return new RegExp(regex[1]!, regex[2]);
  const parts = pattern.split('...').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}

/** `a\r\n\x00` → bytes. */
export function bytesOf(text: string): Buffer {
  const named: Record<string, string> = { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' };
  const plain = Buffer.from(text, 'utf8').toString('latin1');
  return Buffer.from(
    plain.replace(/\\(?:x([0-9A-Fa-f]{2})|([rnt0\\]))/g, (_, hex: string | undefined, name: string) =>
      hex === undefined ? named[name]! : String.fromCharCode(Number.parseInt(hex, 16)),
    ),
    'latin1',
  );
}

function fill(step: string, words: Readonly<Record<string, string>>): string {
  return step.replace(/\{([a-z][a-z0-9_]*)\}/g, (whole, name: string) => words[name] ?? whole);
}

function shown(bytes: Buffer | string): string {
  return JSON.stringify(bytes.toString('latin1' as never).slice(0, 400));
}
