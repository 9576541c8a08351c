/** A client that writes bytes and reads lines, and notes if its connection ever closes. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { type Cluster, connectTo, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

export class Client {
  readonly socket: Socket;
  /** What came and was not read by a test yet. */
  text = '';
  #tags = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
    });
  }

  static async imap(cluster: Cluster, account: TestAccount): Promise<Client> {
    const socket = connectTo(cluster, 'imap');
    await once(socket, 'connect');
    const client = new Client(socket);
    client.write(`login LOGIN ${account.address} "${account.password}"\r\n`);
    await client.readTo(/^login OK .*\r\n/m);
    return client;
  }

  static async pop3(cluster: Cluster, account: TestAccount): Promise<Client> {
    const client = new Client(connectTo(cluster, 'pop3'));
    await client.readTo(/^\+OK.*\r\n/);
    client.write(`USER ${account.address}\r\nPASS ${account.password}\r\n`);
    await client.readTo(/^\+OK.*\r\n\+OK.*\r\n/);
    return client;
  }

  write(bytes: string | Buffer): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** Waits until what came matches, and takes it, up to the end of the match. @throws {Error} when it closes first. */
  async readTo(wanted: RegExp, waitMs = 20_000): Promise<string> {
    await waitFor(`${wanted}`, () => wanted.test(this.text) || this.closed, waitMs).catch((error: Error) => {
      throw new Error(`${error.message}; came: ${this.text.slice(-2000)}`);
    });
    const found = wanted.exec(this.text);
    if (found === null) throw new Error(`closed before ${wanted}; came: ${this.text.slice(-2000)}`);
    const end = found.index + found[0].length;
    const taken = this.text.slice(0, end);
    this.text = this.text.slice(end);
    return taken;
  }

  /** Sends a command and reads to its tagged answer. @returns all lines, the tag as `.` */
  async ask(command: string, waitMs?: number): Promise<string> {
    const tag = `t${++this.#tags}`;
    this.write(`${tag} ${command}\r\n`);
    const text = await this.readTo(new RegExp(`^${tag} .*\\r\\n`, 'm'), waitMs);
    return text.replace(new RegExp(`^${tag} `, 'm'), '. ');
  }

  get closed(): boolean {
    return this.socket.destroyed || this.socket.readableEnded;
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Puts a message into a mailbox. */
export async function append(client: Client, subject: string, mailbox = 'INBOX'): Promise<void> {
  const message = `Subject: ${subject}\r\n\r\nThis is ${subject}.\r\n`;
  client.write(`ap APPEND ${mailbox} {${message.length}+}\r\n${message}\r\n`);
  await client.readTo(/^ap OK .*\r\n/m);
}

/** Subjects in the selected mailbox, by sequence number. */
export async function subjects(client: Client): Promise<string[]> {
  const text = await client.ask('FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]');
  return [...text.matchAll(/^Subject: (.*)\r$/gm)].map((found) => found[1]!);
}
