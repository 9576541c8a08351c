/**
 * A connection that logs in line by line over TLS, on any of the mail ports: the
 * three protocols frame the same exchange in three ways.
 */
import tls from 'node:tls';

export type LoginProtocol = 'imap' | 'pop3' | 'smtp';

const framings = {
  imap: {
    open: [],
    auth: (name: string, initial?: string) =>
      `a AUTHENTICATE ${name}${initial === undefined ? '' : ` ${initial || '='}`}`,
    challenge: /^\+ ?(.*)$/,
    done: /^a (OK|NO|BAD)\b.*$/,
    yes: /^a OK/,
    probe: ['b NOOP', /^b OK/],
  },
  pop3: {
    open: [],
    auth: (name: string, initial?: string) =>
      `AUTH ${name}${initial === undefined ? '' : ` ${initial || '='}`}`,
    challenge: /^\+ (.*)$/,
    done: /^(\+OK|-ERR)\b.*$/,
    yes: /^\+OK/,
    probe: ['STAT', /^\+OK \d/],
  },
  smtp: {
    open: ['EHLO client.example'],
    auth: (name: string, initial?: string) =>
      `AUTH ${name}${initial === undefined ? '' : ` ${initial || '='}`}`,
    challenge: /^334 ?(.*)$/,
    done: /^(?:235|4\d\d|5\d\d) .*$/,
    yes: /^235/,
    probe: ['NOOP', /^250/],
  },
} as const;

export interface LoginAnswer {
  readonly ok: boolean;
  /** The line that ended it. */
  readonly line: string;
  /** Decoded challenges on the way. */
  readonly challenges: readonly string[];
}

export class LoginLines {
  readonly protocol: LoginProtocol;
  readonly socket: tls.TLSSocket;
  #text = '';
  #closed = false;
  #woken: () => void = () => {};

  private constructor(protocol: LoginProtocol, socket: tls.TLSSocket) {
    this.protocol = protocol;
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
      this.#woken();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#woken();
    });
  }

  /** Connects and reads the greeting; SMTP says EHLO. */
  static async open(
    protocol: LoginProtocol,
    port: number,
    options: tls.ConnectionOptions = {},
  ): Promise<LoginLines> {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
    const lines = new LoginLines(protocol, socket);
    await lines.line();
    for (const word of framings[protocol].open) await lines.ask(word);
    return lines;
  }

  /** Sends a line and gives the answer, up to its last line (SMTP) or the first one. */
  async ask(text: string): Promise<string> {
    this.send(text);
    let all = '';
    for (;;) {
      const line = await this.line();
      all += `${line}\n`;
      if (this.protocol !== 'smtp' || !/^\d{3}-/.test(line)) return all;
    }
  }

  send(text: string): void {
    this.socket.write(`${text}\r\n`);
  }

  async line(waitMs = 12_000): Promise<string> {
    const endMs = performance.now() + waitMs;
    for (;;) {
      const end = this.#text.indexOf('\r\n');
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 2);
        return line;
      }
      if (this.#closed || performance.now() > endMs)
        throw new Error(`no line in ${JSON.stringify(this.#text)}${this.#closed ? ' (closed)' : ''}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        this.#woken = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /**
   * One exchange. @param answer  The client's raw answer to each decoded challenge; `undefined` sends `*`.
   * @param initial  Sent with the command.
   */
  async authenticate(
    mechanism: string,
    initial: string | undefined,
    answer: (challenge: string, index: number) => string | undefined,
  ): Promise<LoginAnswer> {
    const framing = framings[this.protocol];
    this.send(framing.auth(mechanism, initial === undefined ? undefined : base64(initial)));
    const challenges: string[] = [];
    for (;;) {
      const line = await this.line();
      const challenge = framing.challenge.exec(line);
      if (challenge !== null && !framing.done.test(line)) {
        const text = Buffer.from(challenge[1]!, 'base64').toString('utf8');
        challenges.push(text);
        const reply = answer(text, challenges.length - 1);
        this.send(reply === undefined ? '*' : base64(reply));
      } else if (framing.done.test(line)) {
        return { ok: framing.yes.test(line), line, challenges };
      }
    }
  }

  /** Does the session that was logged in to answer? */
  async works(): Promise<boolean> {
    const [word, yes] = framings[this.protocol].probe;
    this.send(word);
    for (;;) {
      const line = await this.line();
      if (yes.test(line)) return true;
      if (/^(?:\* |\d{3}-)/.test(line)) continue;
      return false;
    }
  }

  end(): void {
    this.socket.destroy();
  }
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
