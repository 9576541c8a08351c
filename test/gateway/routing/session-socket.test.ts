/** Sessions on sockets of their own: what opens, what ends, what is lost, and that bulk arrives as it was sent. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openSessionServer, type SessionServer } from '../../../backend/cluster/session-server.ts';
import type { SessionStream } from '../../../backend/serve/service.ts';
import { silentLog } from '../../../base/log.ts';
import { type MemberRecord, protocolVersion } from '../../../cluster-protocol/link.ts';
import { encodeHead, HeadReader, headBytesMax } from '../../../cluster-protocol/session-opening.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { BackendLink, type SocketBudget } from '../../../gateway/routing/backend-link.ts';
import { openSession } from '../../../gateway/routing/exchange.ts';
import { answerOn, SessionSocket } from '../../../gateway/routing/session-socket.ts';
import { newSession } from '../../../gateway/session/new-session.ts';
import { Splice } from '../../../gateway/session/splice.ts';
import { waitFor } from '../../support/process.ts';
import { FakeBackend } from './cluster-rig.ts';

let directory: string;
let socketPath: string;
let backend: SessionServer;
let serve: (stream: SessionStream, headers: Record<string, unknown>) => void;
const ends: (() => void)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'session-'));
  socketPath = path.join(directory, 'sessions.sock');
  backend = openSessionServer(8, (stream, headers) => serve(stream, headers));
  await new Promise<void>((resolve) => backend.server.listen(socketPath, resolve));
});

afterEach(async () => {
  for (const end of ends.splice(0)) end();
  backend.server.close();
  await backend.close(0);
  await rm(directory, { recursive: true, force: true });
});

function open(opening: Record<string, string> = { ':path': '/imap' }): SessionSocket {
  const socket = new SessionSocket(socketPath, opening);
  ends.push(() => socket.destroy());
  return socket;
}

const accepted = (stream: SessionStream): void =>
  stream.respond({ ':status': 200, 'postern-capability': 'A B' });

describe('the head of a session', () => {
  const bad = [
    { name: 'no JSON', bytes: framed('{') },
    { name: 'a list', bytes: framed('[]') },
    { name: 'a value that is no text', bytes: framed('{"a":{}}') },
    { name: 'more than may be', bytes: lengthOf(headBytesMax + 1) },
  ];
  test.each(bad)('is refused when it is $name', ({ bytes }) => {
    expect(() => new HeadReader().push(bytes)).toThrow(expect.objectContaining({ code: 'peer-protocol' }));
  });

  test('is read from pieces of any size, and what comes behind it is kept', () => {
    const bytes = Buffer.concat([encodeHead({ ':path': '/imap', name: 'Ω' }), Buffer.from('rest')]);
    for (const size of [1, 3, bytes.length]) {
      const reader = new HeadReader();
      let found: ReturnType<HeadReader['push']>;
      let at = 0;
      for (; found === undefined && at < bytes.length; at += size)
        found = reader.push(bytes.subarray(at, at + size));
      expect(found?.head).toEqual({ ':path': '/imap', name: 'Ω' });
      expect(Buffer.concat([found!.rest, bytes.subarray(at)]).toString()).toBe('rest');
    }
  });
});

describe('a session on a socket of its own', () => {
  test('is closed by the backend when its opening is not in form', async () => {
    serve = () => {
      throw new Error('nothing was opened');
    };
    const socket = net.connect(socketPath);
    socket.on('error', () => {});
    socket.write(framed('nonsense'));
    await once(socket, 'close');
  });

  test('is closed by the backend when its bytes come before the answer', async () => {
    serve = () => {
      throw new Error('nothing was opened');
    };
    const socket = net.connect(socketPath);
    socket.on('error', () => {});
    socket.write(Buffer.concat([encodeHead({ ':path': '/imap' }), Buffer.from('a NOOP')]));
    await once(socket, 'close');
  });

  test('is told of a backend that goes away without an answer', async () => {
    serve = (stream) => stream.destroy();
    await expect(answerOn(open(), 20_000)).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('waits for an answer no longer than told', async () => {
    serve = () => {};
    const socket = open();
    await expect(answerOn(socket, 50)).rejects.toMatchObject({ code: 'deadline-passed' });
    expect(socket.destroyed).toBe(true);
  });

  test('carries bytes both ways behind the answer', async () => {
    serve = (stream, headers) => {
      expect(headers).toEqual({ ':path': '/imap', 'postern-trace': 't1' });
      accepted(stream);
      stream.pipe(stream);
    };
    const { status, headers, stream } = await answerOn(
      open({ ':path': '/imap', 'postern-trace': 't1' }),
      20_000,
    );
    expect([status, headers]).toEqual([200, { 'postern-capability': 'A B' }]);
    const got = text(stream);
    stream.write('hello');
    await waitFor('the echo', () => got() === 'hello');
  });

  test('keeps what came with the answer until somebody reads', async () => {
    serve = (stream) => {
      accepted(stream);
      stream.write('early');
    };
    const { stream } = await answerOn(open(), 20_000);
    await sleep(20);
    const got = text(stream);
    await waitFor('the early bytes', () => got() === 'early');
  });

  test('ends as it was ended: said by the backend, or broken off', async () => {
    const how = { ended: 0, destroyed: 8, closed: 8 };
    for (const [word, rstCode] of Object.entries(how)) {
      serve = (stream) => {
        accepted(stream);
        stream.on('data', () => {
          if (word === 'ended') stream.end('bye');
          else if (word === 'closed') stream.close(2);
          else stream.destroy();
        });
      };
      const { stream } = await answerOn(open(), 20_000);
      const got = text(stream);
      stream.write('go');
      await once(stream, 'end');
      expect([word, stream.rstCode, got()]).toEqual([word, rstCode, word === 'ended' ? 'bye' : '']);
      stream.end();
      await once(stream, 'close');
    }
  });

  test('is lost, not ended, when the process behind it is killed', async () => {
    const other = path.join(directory, 'other.sock');
    const child = spawn(process.execPath, [
      '-e',
      `require('node:net').createServer((s) => { s.write(Buffer.from(${JSON.stringify(encodeHead({ ':status': 200 }).toString('latin1'))}, 'latin1')); s.on('error', () => {}); }).listen(${JSON.stringify(other)}, () => console.log('up'))`,
    ]);
    ends.push(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    const socket = new SessionSocket(other, { ':path': '/imap' });
    ends.push(() => socket.destroy());
    const { stream } = await answerOn(socket, 20_000);
    stream.resume();
    const over = new Promise<boolean>((resolve) => {
      stream.on('end', () => resolve(stream.rstCode !== 0));
      stream.on('close', () => resolve(!stream.readableEnded || stream.rstCode !== 0));
    });
    child.kill('SIGKILL');
    expect(await over).toBe(true);
  });
});

describe('a link', () => {
  const record = (address = path.join(directory, 'nobody.sock')): MemberRecord => ({
    id: 'backend-1',
    role: 'backend',
    address,
    sessions: socketPath,
    versions: [protocolVersion, protocolVersion],
    incarnation: 'one',
    pid: process.pid,
    release: 'test',
  });

  async function linkUp(socketBudget: SocketBudget): Promise<BackendLink> {
    const other = new FakeBackend('backend-1', path.join(directory, 'link.sock'), (stream) =>
      stream.respond({ ':status': 200 }),
    );
    await other.listen();
    ends.push(() => void other.die());
    const link = new BackendLink(record(other.record.address), {
      ...{ log: silentLog, linkIdentity: undefined, socketBudget },
      changed: () => {},
    });
    ends.push(() => link.destroy());
    await waitFor('the link', () => link.upCount > 0);
    return link;
  }

  test('opens sockets as long as they last, and streams beyond', async () => {
    serve = accepted;
    const socketBudget = { left: 2 };
    const link = await linkUp(socketBudget);
    const opened = [1, 2, 3].map(() => openSession(link, { ':path': '/imap', ':method': 'POST' }, 20_000));
    const streams = (await Promise.all(opened)).map(({ stream }) => stream);
    expect(streams.map((stream) => stream instanceof SessionSocket)).toEqual([true, true, false]);
    for (const stream of streams) stream.on('error', () => {}).destroy();
    await waitFor('the sockets to be given back', () => socketBudget.left === 2);
  });

  test('uses a stream when the backend takes no more sockets', async () => {
    serve = accepted;
    backend.server.maxConnections = 1;
    const link = await linkUp({ left: 10 });
    const first = await openSession(link, { ':path': '/imap', ':method': 'POST' }, 20_000);
    const second = await openSession(link, { ':path': '/imap', ':method': 'POST' }, 20_000);
    expect([first, second].map(({ stream }) => stream instanceof SessionSocket)).toEqual([true, false]);
    expect(second.status).toBe(200);
    for (const { stream } of [first, second]) stream.on('error', () => {}).destroy();
  });

  test('that is given up breaks its sessions off, as it does its streams', async () => {
    serve = accepted;
    const link = await linkUp({ left: 10 });
    const { stream } = await openSession(link, { ':path': '/imap', ':method': 'POST' }, 20_000);
    link.destroy();
    await waitFor('the end of the session', () => stream.destroyed);
    expect([stream.rstCode, stream.readableEnded]).toEqual([8, false]);
  });

  test('opens no socket while it is down, and gives back what it was allowed', async () => {
    const socketBudget = { left: 1 };
    const link = new BackendLink(record(), {
      log: silentLog,
      linkIdentity: undefined,
      changed: () => {},
      socketBudget,
    });
    ends.push(() => link.destroy());
    expect(await link.openSession({ ':path': '/imap' }, 1000)).toBeUndefined();
    expect(socketBudget.left).toBe(1);
  });
});

describe('a splice', () => {
  test('carries bulk unharmed to clients that read fast, slowly, and by turns', async () => {
    const bytes = randomBytes(8 * 1024 * 1024);
    const sum = createHash('sha256').update(bytes).digest('hex');
    serve = (stream) => {
      accepted(stream);
      stream.write(bytes.subarray(0, 5));
      stream.end(bytes.subarray(5));
    };
    const deadlines = new Deadlines(20);
    ends.push(() => deadlines.close());
    const session = newSession(
      'imap',
      { address: '::1', port: 1, network: '::1', wideNetwork: '::1' },
      '[::]:143',
    );
    const owner = { deadlines, farewell: { lost: '', stopping: '' }, ended: () => {} };
    const door = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
      client.on('error', () => {});
      void answerOn(open(), 20_000).then(
        ({ stream }) => new Splice(client, stream, session, owner, Buffer.alloc(0)),
      );
    });
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
    ends.push(() => door.close());
    const { port } = door.address() as net.AddressInfo;
    // Several at once: they share the buffers that are read into.
    const sums = await Promise.all([0, 0, 1, 2, 3].map((pauseMs) => received(port, pauseMs)));
    expect(sums).toEqual(sums.map(() => sum));
  });
});

async function received(port: number, pauseMs: number): Promise<string> {
  const client = net.connect(port, '127.0.0.1');
  ends.push(() => client.destroy());
  const hash = createHash('sha256');
  let chunks = 0;
  client.on('data', (chunk) => {
    hash.update(chunk);
    if (pauseMs === 0 || ++chunks % 8 !== 0) return;
    client.pause();
    setTimeout(() => client.resume(), pauseMs);
  });
  await once(client, 'end');
  return hash.digest('hex');
}

function text(stream: SessionSocket): () => string {
  let got = '';
  stream.on('data', (chunk: Buffer) => {
    got += chunk.toString('latin1');
  });
  return () => got;
}

function lengthOf(bytes: number): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes);
  return length;
}

function framed(json: string): Buffer {
  return Buffer.concat([lengthOf(Buffer.byteLength(json)), Buffer.from(json)]);
}
