/** Starts the door process for a test, and talks to it as a client would: bytes over a socket. */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import type { GatewaySettings } from '../../../gateway/settings.ts';
import type { SmtpRole } from '../../../gateway/smtp/smtp-door.ts';
import type { DoorEvent, DoorScript } from './door-process.ts';

const run = promisify(execFile);
const folder = path.resolve('test/gateway/smtp');

type Event<W extends DoorEvent['word']> = Extract<DoorEvent, { word: W }>;

export class Door {
  readonly ports: Record<SmtpRole, number>;
  readonly data: string;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #events: DoorEvent[];
  readonly #temporary: string;

  private constructor(
    child: ChildProcess,
    ports: Record<SmtpRole, number>,
    temporary: string,
    events: DoorEvent[],
  ) {
    this.#child = child;
    this.pid = child.pid!;
    this.ports = ports;
    this.#temporary = temporary;
    this.data = path.join(temporary, 'data');
    this.#events = events;
  }

  /** @param prepare  Called with the data directory before the door starts. */
  static async start(
    settings: Partial<GatewaySettings> = {},
    prepare: (data: string) => Promise<void> = async () => {},
  ): Promise<Door> {
    const temporary = await mkdtemp(path.join(tmpdir(), 'postern-smtp-'));
    const data = path.join(temporary, 'data');
    const [keyFile, certFile] = [path.join(temporary, 'key.pem'), path.join(temporary, 'cert.pem')];
    await run('openssl', [
      ...['req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
      ...['-subj', '/CN=mx1.example.org', '-days', '2', '-keyout', keyFile, '-out', certFile],
    ]);
    await prepare(data);
    const child = fork(path.join(folder, 'door-process.ts'), [], {
      execPath: path.resolve('node_modules/.bin/node'),
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    const events: DoorEvent[] = [];
    const ready = new Promise<Record<SmtpRole, number>>((done, failed) => {
      child.on('message', (event: DoorEvent) => {
        if (event.word === 'ready') done(event.ports);
        else events.push(event);
      });
      child.once('exit', (code) => failed(new Error(`the door process ended with ${code}`)));
    });
    child.send({ data, settings, cert: certFile, key: keyFile });
    return new Door(child, await ready, temporary, events);
  }

  script(script: DoorScript): void {
    this.#child.send({ word: 'script', script });
  }

  get delivered(): Event<'delivered'>[] {
    return this.#events.filter((event) => event.word === 'delivered');
  }

  get settled(): Event<'settled'>[] {
    return this.#events.filter((event) => event.word === 'settled');
  }

  get asked(): Event<'asked'>[] {
    return this.#events.filter((event) => event.word === 'asked');
  }

  forget(): void {
    this.#events.length = 0;
  }

  /** Waits until the door has said something of this kind that fits. */
  async wait<W extends DoorEvent['word']>(
    word: W,
    fits: (event: Event<W>) => boolean = () => true,
  ): Promise<Event<W>> {
    for (const until = Date.now() + 10_000; Date.now() < until; ) {
      const found = this.#events.find((event) => event.word === word && fits(event as Event<W>));
      if (found) return found as Event<W>;
      await pause(5);
    }
    throw new Error(`the door did not say ${word}`);
  }

  /** Everything the door has said until now is here when this resolves. */
  async sync(): Promise<void> {
    const pongs = () => this.#events.filter(({ word }) => word === 'pong').length;
    const before = pongs();
    this.#child.send({ word: 'ping' });
    while (pongs() === before && this.alive) await pause(1);
  }

  async stats(): Promise<Event<'stats'>> {
    for (let at = this.#events.length - 1; at >= 0; at--) {
      if (this.#events[at]!.word === 'stats') this.#events.splice(at, 1);
    }
    this.#child.send({ word: 'stats' });
    return await this.wait('stats');
  }

  async close(): Promise<void> {
    this.#child.send({ word: 'close' });
    await this.wait('closed');
  }

  /** The log once it holds what is waited for. */
  async log(until: RegExp): Promise<string> {
    for (let tries = 0; ; tries++) {
      const text = await readFile(path.join(this.data, 'door.log'), 'utf8');
      if (until.test(text)) return text;
      if (tries === 200) throw new Error(`the log does not say ${until}: ${text.slice(-2000)}`);
      await pause(20);
    }
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async stop(): Promise<void> {
    const gone = new Promise((done) => this.#child.once('exit', done));
    if (this.alive) {
      this.#child.send({ word: 'exit' });
      await gone;
    }
    await rm(this.#temporary, { recursive: true, force: true });
  }

  connect(role: SmtpRole = 'mx'): Promise<Client> {
    return Client.connect(this.ports[role], role === 'submissions');
  }

  /** A client that has greeted. */
  async greeted(role: SmtpRole = 'mx'): Promise<Client> {
    const client = await this.connect(role);
    await client.reply();
    await client.command('EHLO client.example.net');
    return client;
  }
}

export const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/** A client that sends what it is told, right or wrong. */
export class Client {
  closed = false;
  socket: net.Socket;
  #text = '';
  #wake: (() => void) | undefined;

  constructor(socket: net.Socket) {
    this.socket = socket;
    this.#listen();
  }

  static async connect(port: number, secure = false): Promise<Client> {
    const socket = net.connect(port, '127.0.0.1');
    await new Promise<void>((done, failed) => {
      socket.once('connect', done);
      socket.once('error', failed);
    });
    const client = new Client(socket);
    if (secure) await client.startTls();
    return client;
  }

  #listen(): void {
    this.socket.setNoDelay(true);
    this.socket.on('data', (bytes) => {
      this.#text += bytes.toString('latin1');
      this.#wake?.();
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
      this.#wake?.();
    });
    this.socket.on('end', () => {
      this.closed = true;
      this.#wake?.();
    });
  }

  async startTls(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    this.socket.removeAllListeners('data');
    this.socket.removeAllListeners('end');
    const secure = tls.connect({
      socket: this.socket,
      rejectUnauthorized: false,
      servername: 'mx1.example.org',
      ...options,
    });
    await new Promise<void>((done, failed) => {
      secure.once('secureConnect', done);
      secure.once('error', failed);
    });
    this.socket = secure;
    this.#listen();
    return secure;
  }

  send(bytes: string | Buffer): void {
    if (!this.socket.destroyed)
      this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** The next reply, all its lines; `''` when the connection ended without one. */
  async reply(waitMs = 8000): Promise<string> {
    const until = Date.now() + waitMs;
    for (;;) {
      const end = /^(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n/.exec(this.#text);
      if (end) {
        this.#text = this.#text.slice(end[0].length);
        return end[0].trimEnd();
      }
      if (this.closed) return '';
      if (Date.now() > until) throw new Error(`no reply; have ${JSON.stringify(this.#text)}`);
      await this.#more(until);
    }
  }

  async command(line: string): Promise<string> {
    this.send(`${line}\r\n`);
    return await this.reply();
  }

  /** Everything until the server closes. */
  async rest(waitMs = 8000): Promise<string> {
    const until = Date.now() + waitMs;
    while (!this.closed) {
      if (Date.now() > until) throw new Error(`not closed; have ${JSON.stringify(this.#text.slice(0, 500))}`);
      await this.#more(until);
    }
    return this.#text;
  }

  /** What has come and was not taken. */
  get waiting(): string {
    return this.#text;
  }

  /** Brings a mail transaction to its data. @returns The reply to DATA. */
  async toData(from = 'sender@example.net', to: readonly string[] = ['ann@example.org']): Promise<string> {
    await this.command(`MAIL FROM:<${from}>`);
    for (const recipient of to) await this.command(`RCPT TO:<${recipient}>`);
    return await this.command('DATA');
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Gone without a word: an RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  async #more(until: number): Promise<void> {
    await new Promise<void>((done) => {
      const timer = setTimeout(done, Math.max(1, until - Date.now()));
      this.#wake = () => {
        clearTimeout(timer);
        done();
      };
    });
    this.#wake = undefined;
  }
}

/** The client's bytes in a delivered message: what follows the lines we put on top. */
export function sentPart(body: string, size: number): Buffer {
  const stored = Buffer.from(body, 'base64');
  return stored.subarray(stored.length - size);
}
