/** What compresses for a client: it stops when the client does not read, inflates what came, and gives its memory back. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import zlib from 'node:zlib';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Compression } from '../../../gateway/session/compression.ts';

let server: net.Server;
let ours: Socket;
let client: Socket;

beforeEach(async () => {
  server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connected = once(server, 'connection') as Promise<[Socket]>;
  client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  [ours] = await connected;
  for (const socket of [ours, client]) socket.on('error', () => {});
});

afterEach(() => {
  ours.destroy();
  client.destroy();
  server.close();
});

interface Heard {
  text: string;
  drained: number;
  ended: boolean;
  broken: string | undefined;
}

function compressing(): { compression: Compression; heard: Heard } {
  const heard: Heard = { text: '', drained: 0, ended: false, broken: undefined };
  const compression = new Compression(ours, {
    fromClient(bytes) {
      heard.text += bytes.toString('latin1');
    },
    clientDrained() {
      heard.drained++;
    },
    clientEnded() {
      heard.ended = true;
    },
    notCompressed(reason) {
      heard.broken = reason;
    },
  });
  ours.on('data', (chunk: Buffer) => compression.push(chunk));
  ours.on('end', () => compression.finish());
  return { compression, heard };
}

async function until(what: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!what()) {
    if (Date.now() > deadline) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('a client that does not read stops it, and one that reads again lets it go on', async () => {
  const { compression, heard } = compressing();
  const chunk = randomBytes(64 * 1024);
  let written = 0;
  // What the kernel takes is drained at once; then nothing is, for longer than a loaded machine needs.
  for (let stopped = false; !stopped && written < 500; ) {
    written++;
    const before = heard.drained;
    if (compression.write(chunk)) continue;
    const patienceMs = Date.now() + 1500;
    while (heard.drained === before && Date.now() < patienceMs)
      await new Promise((resolve) => setTimeout(resolve, 2));
    stopped = heard.drained === before;
  }
  expect(written).toBeLessThan(500);
  const before = heard.drained;
  let received = 0;
  const inflate = zlib.createInflateRaw();
  inflate.on('data', (bytes: Buffer) => {
    received += bytes.length;
  });
  client.pipe(inflate);
  await until(() => received === written * chunk.length);
  await until(() => heard.drained > before);
  compression.close();
});

test('each write can be read by itself, without more behind it', async () => {
  const { compression } = compressing();
  const inflate = zlib.createInflateRaw();
  let text = '';
  inflate.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  client.pipe(inflate);
  for (let line = 1; line <= 5; line++) {
    compression.write(Buffer.from(`* ${line} EXISTS\r\n`));
    await until(() => text.endsWith(`* ${line} EXISTS\r\n`));
  }
  compression.close();
});

test('what the client sent before it closed is heard, and then that it closed', async () => {
  const { compression, heard } = compressing();
  const deflate = zlib.createDeflateRaw({ flush: zlib.constants.Z_SYNC_FLUSH });
  deflate.pipe(client, { end: false });
  await new Promise((resolve) => deflate.write('a NOOP\r\n', resolve));
  await until(() => deflate.readableLength === 0 && client.writableLength === 0);
  client.end();
  await until(() => heard.ended);
  expect(heard).toMatchObject({ text: 'a NOOP\r\n', broken: undefined });
  compression.close();
});

test('a word at the end is the last that goes out', async () => {
  const { compression } = compressing();
  const chunks: Buffer[] = [];
  client.on('data', (chunk: Buffer) => chunks.push(chunk));
  compression.write(Buffer.from('* 1 EXISTS\r\n'));
  compression.end('* BYE stopping\r\n');
  await once(client, 'end');
  expect(zlib.inflateRawSync(Buffer.concat(chunks)).toString()).toBe('* 1 EXISTS\r\n* BYE stopping\r\n');
  compression.close();
});

test('memory for good compression is given to so many and comes back', () => {
  // One socket for all of them is enough here.
  ours.setMaxListeners(0);
  const before = Compression.richCount;
  const many = Array.from({ length: 600 }, () => compressing().compression);
  expect(Compression.richCount).toBe(500);
  for (const compression of many) compression.close();
  for (const compression of many) compression.close();
  expect(Compression.richCount).toBe(before);
});

test('bytes that are no DEFLATE are told once', async () => {
  const { heard } = compressing();
  client.write(Buffer.alloc(64, 0xff));
  await until(() => heard.broken !== undefined);
  expect(heard).toMatchObject({ text: '', broken: 'compression-broken' });
});
