/** A message of two gigabytes through members that stay below 256 MiB (CASES 98): streamed in and out, or refused by its size. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import tls from 'node:tls';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { type Cluster, connectTo, startCluster } from '../support/cluster.ts';

const rssBytesMax = 256 * 1024 * 1024;
const waitMs = 240_000;
/** Lines of text, no dot at the start of any: the same bytes over SMTP and IMAP. */
const block = Buffer.from(
  `${'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:'}\r\n`.repeat(16_384),
);
const head = Buffer.from(
  'From: Ann <ann@example.org>\r\nSubject: all of it\r\nDate: Tue, 1 Sep 2026 10:00:00 +0200\r\n\r\n',
);
const blocks = Math.ceil((2 * 1024 ** 3) / block.length);
const size = head.length + blocks * block.length;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({
    config:
      'smtp.message_size_max = "2100MiB"\nsmtp.data_timeout = "15m"\naccount.message_size_max = "2100MiB"\n',
  });
}, 120_000);

afterAll(async () => {
  await cluster?.stop();
});

beforeEach(async () => {
  for (const pid of Object.values(await cluster.memberPids()))
    await writeFile(`/proc/${pid}/clear_refs`, '5');
});

/** The most memory each member has had since the test began. */
async function peakBytes(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const [name, pid] of Object.entries(await cluster.memberPids())) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    found[name] = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }
  return found;
}

async function expectBoundedMemory(): Promise<void> {
  const peaks = await peakBytes();
  expect(Object.keys(peaks).sort()).toEqual(['backend-1', 'gateway-1']);
  for (const [name, bytes] of Object.entries(peaks)) {
    expect([name, bytes > rssBytesMax ? bytes : 'bounded']).toEqual([name, 'bounded']);
  }
}

async function writeAll(socket: Socket, bytes: Buffer): Promise<void> {
  if (!socket.write(bytes)) await once(socket, 'drain');
}

async function writeMessage(socket: Socket): Promise<void> {
  await writeAll(socket, head);
  for (let count = 0; count < blocks; count++) await writeAll(socket, block);
}

function bodyHash(): string {
  const hash = createHash('sha256');
  for (let count = 0; count < blocks; count++) hash.update(block);
  return hash.digest('hex');
}

async function logIn(): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port: cluster.ports.imaps, host: cluster.host, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  socket.write(`a LOGIN ${cluster.account.address} "${cluster.account.password}"\r\n`);
  await until(socket, /^a OK/m);
  return socket;
}

/** Reads until a short answer matches. */
function until(socket: Socket, wanted: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (text.length > 10_000)
        finish(() => reject(new Error(`not what was expected: ${text.slice(0, 500)}`)));
      else if (wanted.test(text)) finish(() => resolve(text));
    };
    const late = setTimeout(() => finish(() => reject(new Error(`no answer after: ${text}`))), waitMs / 2);
    const closed = (): void => finish(() => reject(new Error(`closed after: ${text}`)));
    const finish = (settle: () => void): void => {
      clearTimeout(late);
      socket.off('data', take);
      socket.off('close', closed);
      settle();
    };
    socket.on('data', take);
    socket.on('close', closed);
  });
}

/** Reads `BODY[]` of the only message of a folder and compares it. */
async function expectBody(folder: string, hash: string): Promise<void> {
  const socket = await logIn();
  socket.write(`b SELECT ${folder}\r\n`);
  expect(await until(socket, /^b OK/m)).toContain('* 1 EXISTS');
  const ours = createHash('sha256');
  let literalLeft = -1;
  let skip = 0;
  let text = '';
  socket.write('c FETCH 1 BODY.PEEK[]\r\n');
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    let rest = chunk;
    if (literalLeft < 0) {
      text += rest.toString('latin1');
      const start = /^\* 1 FETCH \(BODY\[\] \{(\d+)\}\r\n/.exec(text);
      if (start === null) continue;
      literalLeft = Number(start[1]);
      // What the edge put in front of the message that came by SMTP is not compared.
      skip = literalLeft - blocks * block.length;
      rest = Buffer.from(text.slice(start[0].length), 'latin1');
      text = '';
    }
    const bytes = rest.subarray(0, literalLeft);
    literalLeft -= bytes.length;
    const skipped = Math.min(skip, bytes.length);
    skip -= skipped;
    ours.update(bytes.subarray(skipped));
    text += rest.subarray(bytes.length).toString('latin1');
    if (/^c OK/m.test(text)) break;
  }
  expect(ours.digest('hex')).toBe(hash);
  socket.destroy();
}

test(
  'APPEND takes two gigabytes and FETCH gives them back',
  async () => {
    const socket = await logIn();
    socket.write('b CREATE Large\r\n');
    await until(socket, /^b OK/m);
    socket.write(`c APPEND Large {${size}}\r\n`);
    await until(socket, /^\+ /m);
    const stored = until(socket, /^c (?:OK|NO|BAD).*\r\n/m);
    await writeMessage(socket);
    socket.write('\r\n');
    expect(await stored).toMatch(/^c OK \[APPENDUID \d+ 1\]/m);
    socket.destroy();
    await expectBody('Large', bodyHash());
    await expectBoundedMemory();
  },
  waitMs,
);

test(
  'its structure, header and parts of it are read without reading it into memory',
  async () => {
    const socket = await logIn();
    socket.write('b SELECT Large\r\n');
    await until(socket, /^b OK/m);
    socket.write('c FETCH 1 (RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[TEXT]<2000000000.20>)\r\n');
    const answer = await until(socket, /^c OK/m);
    expect(answer).toContain(`RFC822.SIZE ${size}`);
    expect(answer).toContain('"all of it"');
    expect(answer).toContain(`${blocks * block.length} ${blocks * 16_384} `);
    const at = 2_000_000_000 % block.length;
    expect(answer).toContain(`BODY[TEXT]<2000000000> {20}\r\n${block.toString('latin1', at, at + 20)}`);
    socket.write('d STORE 1 +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE\r\n');
    await until(socket, /^e OK/m);
    socket.destroy();
    await expectBoundedMemory();
  },
  waitMs,
);

test(
  'SMTP takes two gigabytes and delivers them',
  async () => {
    const smtp = new SmtpLines(connectTo(cluster, 'smtp'));
    await smtp.expect(/^220 /);
    await smtp.say('EHLO sender.example.org', /^250 /);
    await smtp.say(`MAIL FROM:<ann@example.org> SIZE=${size}`, /^250 /);
    await smtp.say(`RCPT TO:<${cluster.account.address}>`, /^250 /);
    await smtp.say('DATA', /^354 /);
    await writeMessage(smtp.socket);
    await smtp.say('.', /^250 /);
    smtp.socket.destroy();
    await expectBody('INBOX', bodyHash());
    await expectBoundedMemory();
  },
  waitMs,
);

test('over the limit it is refused by its size alone, over SMTP and IMAP', async () => {
  const tooBig = 2100 * 1024 ** 2 + 1;
  const smtp = new SmtpLines(connectTo(cluster, 'smtp'));
  await smtp.expect(/^220 /);
  await smtp.say('EHLO sender.example.org', /^250 /);
  await smtp.say(`MAIL FROM:<ann@example.org> SIZE=${tooBig}`, /^552 /);
  smtp.socket.destroy();
  const socket = await logIn();
  socket.write(`b APPEND INBOX {${tooBig}}\r\n`);
  expect(await until(socket, /^b /m)).toContain('b NO [TOOBIG]');
  socket.destroy();
});

/** Lines of one SMTP connection, whose answers may take as long as the message does. */
class SmtpLines {
  readonly socket: Socket;
  readonly #lines: AsyncIterator<string>;

  constructor(socket: Socket) {
    this.socket = socket;
    const lines: Interface = createInterface({ input: socket });
    this.#lines = lines[Symbol.asyncIterator]();
  }

  async expect(wanted: RegExp): Promise<void> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`closed before ${wanted}`);
      if (/^\d{3}-/.test(value)) continue;
      expect(value).toMatch(wanted);
      return;
    }
  }

  async say(line: string, wanted: RegExp): Promise<void> {
    this.socket.write(`${line}\r\n`);
    await this.expect(wanted);
  }
}
