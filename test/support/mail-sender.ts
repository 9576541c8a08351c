/**
 * A small SMTP client that behaves like a careful sender: one message at a
 * time, the final answer remembered, and the same bytes again after a `4xx` or
 * a lost connection. Only for tests: real clients are tested beside it.
 */
import net from 'node:net';

export interface SmtpAnswer {
  readonly code: number;
  readonly text: string;
}

export class SmtpConnection {
  readonly #socket: net.Socket;
  #received = '';
  #waiting: { resolve(answer: SmtpAnswer): void; reject(error: Error): void } | undefined;
  #closed: Error | undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1');
      this.#settle();
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('connection closed')));
  }

  /** Connects, reads the greeting and says EHLO. @throws when any of it fails. */
  static async open(host: string, port: number, deadlineMs = 15_000): Promise<SmtpConnection> {
    const socket = net.connect({ host, port });
    const connection = new SmtpConnection(socket);
    socket.setTimeout(deadlineMs, () => socket.destroy(new Error('deadline passed')));
    const greeting = await connection.#answer();
    if (greeting.code !== 220) throw new Error(`greeting: ${greeting.code} ${greeting.text}`);
    await connection.command('EHLO sender.example.org');
    return connection;
  }

  async command(line: string): Promise<SmtpAnswer> {
    this.#socket.write(`${line}\r\n`, 'latin1');
    return this.#answer();
  }

  /**
   * Sends one message. `data` has CRLF line ends and ends with one; it is dot-stuffed here.
   * @param halfway  Awaited when half of the message has left us.
   */
  async send(
    from: string,
    to: readonly string[],
    data: Buffer,
    halfway?: () => Promise<void>,
  ): Promise<SmtpAnswer> {
    const mail = await this.command(`MAIL FROM:<${from}>`);
    if (mail.code !== 250) return mail;
    for (const recipient of to) {
      const answer = await this.command(`RCPT TO:<${recipient}>`);
      if (answer.code !== 250) return answer;
    }
    const go = await this.command('DATA');
    if (go.code !== 354) return go;
    const bytes = dotStuffed(data);
    const half = halfway === undefined ? 0 : bytes.length >> 1;
    if (half > 0) {
      await new Promise<void>((resolve) => this.#socket.write(bytes.subarray(0, half), () => resolve()));
      await halfway!();
    }
    this.#socket.write(bytes.subarray(half));
    this.#socket.write('.\r\n');
    return this.#answer();
  }

  async quit(): Promise<void> {
    await this.command('QUIT').catch(() => {});
    this.#socket.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #answer(): Promise<SmtpAnswer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#settle();
      if (this.#closed && this.#waiting) this.#fail(this.#closed);
    });
  }

  #settle(): void {
    const whole = /^(?:\d{3}-[^\r\n]*\r\n)*(\d{3})(?: ([^\r\n]*))?\r\n/.exec(this.#received);
    if (!whole || !this.#waiting) return;
    this.#received = this.#received.slice(whole[0].length);
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve({ code: Number(whole[1]), text: whole[2] ?? '' });
  }

  #fail(error: Error): void {
    this.#closed ??= error;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#closed);
  }
}

export function dotStuffed(data: Buffer): Buffer {
  const text = data.toString('latin1');
  const stuffed = text.replace(/(^|\r\n)\./g, '$1..');
  return stuffed.length === text.length ? data : Buffer.from(stuffed, 'latin1');
}

export interface Outgoing {
  readonly from: string;
  readonly to: readonly string[];
  readonly data: Buffer;
}

export interface SendingReport {
  /** Index → how often it was tried until its 250. */
  readonly tries: readonly number[];
  /** Answers that were not 250, and lost connections, by text. */
  readonly setbacks: ReadonlyMap<string, number>;
}

/**
 * Sends every message until it has its 250, over `connections` connections side by side, as a queue would: the same
 * bytes again after a setback. A `5xx` is final and rejects. Messages may be added by `next` returning more.
 */
export async function sendAll(
  where: { readonly host: string; readonly port: number },
  messages: readonly Outgoing[],
  options: {
    connections: number;
    perConnection?: number;
    giveUpMs?: number;
    retryMs?: number;
    onAccepted?(index: number): void;
    /** Called in the middle of each message's bytes. */
    halfway?(): Promise<void>;
  },
): Promise<SendingReport> {
  const tries = new Array<number>(messages.length).fill(0);
  const setbacks = new Map<string, number>();
  const giveUpAt = Date.now() + (options.giveUpMs ?? 120_000);
  let next = 0;
  const setback = (text: string): void => {
    const key = text.replace(/[0-9A-Fa-f-]{12,}/g, '#').slice(0, 120);
    setbacks.set(key, (setbacks.get(key) ?? 0) + 1);
  };
  const worker = async (): Promise<void> => {
    let connection: SmtpConnection | undefined;
    let sent = 0;
    for (let index = next++; index < messages.length; index = next++) {
      const message = messages[index]!;
      for (;;) {
        if (Date.now() > giveUpAt)
          throw new Error(`message ${index} had no 250 in time; setbacks: ${JSON.stringify([...setbacks])}`);
        tries[index]!++;
        try {
          connection ??= await SmtpConnection.open(where.host, where.port);
          const answer = await connection.send(message.from, message.to, message.data, options.halfway);
          if (answer.code === 250) break;
          if (answer.code >= 500)
            throw new PermanentRefusal(`message ${index}: ${answer.code} ${answer.text}`);
          setback(`${answer.code} ${answer.text}`);
          connection.destroy();
          connection = undefined;
        } catch (error) {
          if (error instanceof PermanentRefusal) throw error;
          setback((error as Error).message);
          connection?.destroy();
          connection = undefined;
        }
        await new Promise((resolve) => setTimeout(resolve, options.retryMs ?? 50));
      }
      options.onAccepted?.(index);
      if (options.perConnection !== undefined && ++sent % options.perConnection === 0) {
        await connection?.quit();
        connection = undefined;
      }
    }
    await connection?.quit();
  };
  await Promise.all(Array.from({ length: options.connections }, worker));
  return { tries, setbacks };
}

export class PermanentRefusal extends Error {}

/**
 * What the sender sent, out of what was stored: takes off the header fields that Postern adds on top
 * (Return-Path, one Received, and the tags of scanners directly below).
 */
export function withoutAddedHeaders(stored: Buffer): Buffer {
  let at = 0;
  let received = 0;
  for (;;) {
    const end = fieldEnd(stored, at);
    const name = stored.subarray(at, end).toString('latin1').split(':', 1)[0]!.toLowerCase();
    if (name === 'received' && received === 0) received++;
    else if (!(name === 'return-path' && at === 0) && !(received === 1 && addedNames.has(name)))
      return stored.subarray(at);
    at = end;
  }
}

const addedNames = new Set([
  'x-spam-flag',
  'x-spam-score',
  'x-spam-status',
  'x-spam-level',
  'x-virus-scanned',
]);

/** End of the header field that begins at `at`, its folded lines included. */
function fieldEnd(message: Buffer, at: number): number {
  let end = at;
  do {
    const newline = message.indexOf('\n', end);
    if (newline < 0) return message.length;
    end = newline + 1;
  } while (message[end] === 0x20 || message[end] === 0x09);
  return end;
}
