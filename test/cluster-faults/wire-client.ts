/** The few words of IMAP and SMTP that the load speaks, written for it: it shares no code with the product. */
import net from 'node:net';
import tls from 'node:tls';

/** A connection ended, or nothing came in time: what was asked may or may not have been done. */
export class Broken extends Error {}

const answerMsMax = 20_000;

class Lines {
  #socket: net.Socket;
  #text = '';
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      this.#text += chunk;
      this.#wake?.();
    });
    for (const event of ['end', 'close', 'error'])
      socket.on(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
  }

  send(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  /** Everything up to the end of what `end` matches. */
  async until(end: RegExp, withinMs = answerMsMax): Promise<string> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const found = end.exec(this.#text);
      if (found !== null) {
        const all = this.#text.slice(0, found.index + found[0].length);
        this.#text = this.#text.slice(all.length);
        return all;
      }
      const leftMs = deadline - performance.now();
      if (this.#ended) throw new Broken('the connection has ended');
      if (leftMs <= 0) throw new Broken('no answer in time');
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

export interface Listed {
  readonly uid: number;
  readonly op: string;
  readonly flags: string;
}

export class ImapClient {
  readonly #lines: Lines;
  #tag = 0;

  private constructor(lines: Lines) {
    this.#lines = lines;
  }

  static async open(host: string, port: number, user: string, password: string): Promise<ImapClient> {
    const socket = tls.connect({ host, port, rejectUnauthorized: false });
    const lines = new Lines(socket);
    const client = new ImapClient(lines);
    try {
      await lines.until(/^\* OK .*\r\n/);
      await client.command(`LOGIN ${user} "${password}"`);
      await client.command('SELECT INBOX');
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  close(): void {
    this.#lines.close();
  }

  /** @returns All that was said up to the tagged line. @throws {Refused} on NO and BAD */
  async command(words: string, literal?: string): Promise<string> {
    const tag = `t${++this.#tag}`;
    this.#lines.send(`${tag} ${words}\r\n`);
    const end = new RegExp(`^${tag} (OK|NO|BAD)\\b.*\\r\\n`, 'm');
    if (literal !== undefined) {
      const first = await this.#lines.until(new RegExp(`^\\+.*\\r\\n|${end.source}`, 'm'));
      if (end.test(first)) return judged(first, tag);
      this.#lines.send(`${literal}\r\n`);
    }
    return judged(await this.#lines.until(end), tag);
  }

  async idle(ms: number): Promise<void> {
    const tag = `t${++this.#tag}`;
    this.#lines.send(`${tag} IDLE\r\n`);
    const end = new RegExp(`^${tag} (OK|NO|BAD)\\b.*\\r\\n`, 'm');
    const first = await this.#lines.until(new RegExp(`^\\+.*\\r\\n|${end.source}`, 'm'));
    if (end.test(first)) {
      judged(first, tag);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.#lines.send('DONE\r\n');
    judged(await this.#lines.until(end), tag);
  }

  async uidNext(): Promise<{ uidNext: number; uidValidity: number }> {
    const text = await this.command('STATUS INBOX (UIDNEXT UIDVALIDITY)');
    return {
      uidNext: Number(/UIDNEXT (\d+)/.exec(text)?.[1]),
      uidValidity: Number(/UIDVALIDITY (\d+)/.exec(text)?.[1]),
    };
  }

  /** Messages from a UID on. */
  async list(from: number): Promise<Listed[]> {
    await this.command('NOOP');
    const text = await this.command(`UID FETCH ${from}:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-Op)])`);
    return text
      .split(/^\* \d+ FETCH /m)
      .slice(1)
      .flatMap((part) => {
        const uid = Number(/UID (\d+)/.exec(part)?.[1]);
        const op = /X-Op: (\S+)/i.exec(part)?.[1] ?? '';
        return uid >= from && op !== ''
          ? [{ uid, op, flags: /FLAGS \(([^)]*)\)/.exec(part)?.[1] ?? '' }]
          : [];
      });
  }

  async append(message: string): Promise<{ uid: number; uidValidity: number }> {
    const text = await this.command(`APPEND INBOX {${message.length}}`, message);
    const [, uidValidity, uid] = /\[APPENDUID (\d+) (\d+)\]/.exec(text) ?? [];
    return { uid: Number(uid), uidValidity: Number(uidValidity) };
  }
}

/** The server has said that it was not done. */
export class Refused extends Error {}

function judged(text: string, tag: string): string {
  const line = text.slice(text.lastIndexOf(`${tag} `)).trim();
  if (!line.startsWith(`${tag} OK`)) throw new Refused(line);
  return text;
}

/** One message by SMTP. @returns When it was accepted. @throws {Refused} before anything could have been done */
export async function deliver(host: string, port: number, to: string, message: string): Promise<void> {
  const lines = new Lines(net.connect({ host, port }));
  const say = async (text: string | undefined, code: number): Promise<void> => {
    if (text !== undefined) lines.send(`${text}\r\n`);
    const answer = await lines.until(/^\d{3}(?: .*)?\r\n/m);
    if (!new RegExp(`^${code}[ \\r]`, 'm').test(answer)) throw new Refused(answer.trim());
  };
  try {
    await say(undefined, 220);
    await say('EHLO load.postern.test', 250);
    await say('MAIL FROM:<sender@elsewhere.test>', 250);
    await say(`RCPT TO:<${to}>`, 250);
    await say('DATA', 354);
    await say(`${message.replace(/^\./gm, '..')}\r\n.`, 250);
    lines.send('QUIT\r\n');
  } finally {
    lines.close();
  }
}
