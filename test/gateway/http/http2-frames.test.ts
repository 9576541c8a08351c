/** HTTP/2 as no client library would send it: frames made by hand (CASES 80, 81). */
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { basic, openRig, type Rig } from './door-rig.ts';

const login = basic('ann@postern.test', 'secret');
let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(async () => {
  await rig.close();
});

const type = { data: 0, headers: 1, rstStream: 3, settings: 4, ping: 6, windowUpdate: 8, continuation: 9 };
const flag = { endStream: 1, endHeaders: 4 };

function frame(kind: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(kind, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK literals without indexing, no Huffman (RFC 7541 6.2.2); texts of less than 127 bytes. */
function fields(...pairs: readonly (readonly [string, string])[]): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1');
    return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  };
  return Buffer.concat(pairs.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

const request: readonly (readonly [string, string])[] = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'a'],
  [':path', '/jmap/session'],
  ['authorization', login],
];
const preface = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(type.settings, 0, 0, Buffer.alloc(0)),
]);

interface Wire {
  readonly socket: TLSSocket;
  readonly closed: Promise<void>;
  isClosed(): boolean;
}

async function open(): Promise<Wire> {
  const socket = connect({
    port: rig.port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  });
  socket.on('error', () => {});
  socket.on('data', () => {});
  let ended = false;
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      ended = true;
      resolve();
    }),
  );
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  socket.write(preface);
  return { socket, closed, isClosed: () => ended };
}

test('a request in hand-made frames reaches the owner', async () => {
  const { socket } = await open();
  socket.write(frame(type.headers, flag.endStream | flag.endHeaders, 1, fields(...request)));
  while (rig.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  socket.destroy();
});

describe('a header that means two things reaches nobody', () => {
  const without = (name: string): (readonly [string, string])[] => request.filter(([each]) => each !== name);
  const rows: (readonly [string, readonly (readonly [string, string])[]])[] = [
    ['CRLF in the path', [...without(':path'), [':path', '/jmap/session\r\nX: y']]],
    ['a space in the path', [...without(':path'), [':path', '/jmap/session HTTP/1.1']]],
    ['two paths', [...request, [':path', '/']]],
    ['a pseudo-header after the others', [...without(':path'), ['x', 'y'], [':path', '/jmap/session']]],
    ['another host', [...request, ['host', 'b']]],
    ['a transfer coding', [...request, ['transfer-encoding', 'chunked']]],
    ['a connection field', [...request, ['connection', 'close']]],
    ['upper case in a name', [...request, ['X-Y', 'a']]],
    ['a length that is no number', [...request, ['content-length', '+1']]],
  ];
  test.each(rows)('%s', async (_name, pairs) => {
    const { socket } = await open();
    socket.write(frame(type.headers, flag.endStream | flag.endHeaders, 1, fields(...pairs)));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(rig.seen).toHaveLength(0);
    socket.destroy();
  });

  test('a body longer than its announced length', async () => {
    const { socket } = await open();
    const post = [...request, ['content-length', '2'], ['content-type', 'application/json']] as const;
    const head = post.map(
      ([name, value]) =>
        [name, name === ':method' ? 'POST' : name === ':path' ? '/jmap/api' : value] as const,
    );
    socket.write(frame(type.headers, flag.endHeaders, 1, fields(...head)));
    socket.write(frame(type.data, flag.endStream, 1, Buffer.from('{} and more')));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(rig.seen).toHaveLength(0);
    socket.destroy();
  });
});

describe('a field that HTTP/2 cannot have is left out, and nothing of it is passed on', () => {
  // RFC 9113 8.2.1 would have the request refused; nghttp2 drops such a field before Node sees it.
  const rows: (readonly [string, readonly [string, string]])[] = [
    ['CRLF in a value', ['content-type', 'a\r\nsmuggled: b']],
    ['CRLF in a name', ['x\r\nsmuggled', 'a']],
    ['NUL in a value', ['content-type', 'a\0smuggled']],
  ];
  test.each(rows)('%s', async (_name, pair) => {
    const { socket } = await open();
    socket.write(frame(type.headers, flag.endStream | flag.endHeaders, 1, fields(...request, pair)));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(JSON.stringify(rig.seen)).not.toContain('smuggled');
    socket.destroy();
  });
});

describe('floods end the connection', () => {
  test('CONTINUATION frames without an end', async () => {
    const wire = await open();
    wire.socket.write(frame(type.headers, flag.endStream, 1, fields(...request)));
    const more = frame(type.continuation, 0, 1, fields(['x', 'y'.repeat(100)]));
    for (let n = 0; n < 5000 && !wire.isClosed(); n += 1) {
      wire.socket.write(more);
      if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await wire.closed;
    expect(rig.seen).toHaveLength(0);
  });

  test('thousands of fields', async () => {
    const wire = await open();
    const many = Array.from({ length: 300 }, (_, n) => [`x${n}`, 'y'] as const);
    wire.socket.write(frame(type.headers, flag.endStream | flag.endHeaders, 1, fields(...request, ...many)));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(rig.seen).toHaveLength(0);
    wire.socket.destroy();
  });

  test('streams opened and reset in one packet each', async () => {
    await rig.close();
    rig = await openRig({ limits: { resetBurst: 20, resetsPerSecond: 1 } });
    const wire = await open();
    for (let stream = 1; stream < 20_000 && !wire.isClosed(); stream += 2) {
      wire.socket.write(
        Buffer.concat([
          frame(type.headers, flag.endStream | flag.endHeaders, stream, fields(...request)),
          frame(type.rstStream, 0, stream, Buffer.from([0, 0, 0, 8])),
        ]),
      );
      if (stream % 21 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await wire.closed;
    expect(rig.seen.length).toBeLessThan(200);
  });

  test('a header block that is never ended, slowly', async () => {
    await rig.close();
    rig = await openRig({ greetingMs: 300 });
    const wire = await open();
    wire.socket.write(frame(type.headers, flag.endStream, 1, fields(...request)));
    const timer = setInterval(() => wire.socket.write(frame(type.continuation, 0, 1, Buffer.alloc(0))), 50);
    await wire.closed;
    clearInterval(timer);
    expect(rig.seen).toHaveLength(0);
  });

  test('pings alone do not keep a connection', async () => {
    await rig.close();
    rig = await openRig({ greetingMs: 300 });
    const wire = await open();
    const timer = setInterval(() => wire.socket.write(frame(type.ping, 0, 0, Buffer.alloc(8))), 50);
    await wire.closed;
    clearInterval(timer);
  });
});
