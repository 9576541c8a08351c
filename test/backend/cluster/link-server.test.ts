/** What a gateway gets for every kind of opening, over real HTTP/2 links. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import http2, {
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type LinkServer, openLinkServer } from '../../../backend/cluster/link-server.ts';
import type { Opening, Service, ServiceContext, SessionService } from '../../../backend/serve/service.ts';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import {
  linkHeader,
  linkWindowBytes,
  streamWindowBytes,
  versionsSpoken,
} from '../../../cluster-protocol/link.ts';
import { waitFor } from '../../support/process.ts';

let dir: string;
let socket: string;
let server: LinkServer;
let link: ClientHttp2Session;
let openings: Opening[];

const context = {
  accounts: undefined,
  log: silentLog,
  settings: undefined,
  owns: (address: string) =>
    address.endsWith('@here.org')
      ? { ok: true, epoch: 7 }
      : { ok: false, owner: address.endsWith('@nowhere.org') ? '' : 'backend-2', epoch: 9 },
} as unknown as ServiceContext;

/** Sends back what it gets. */
const echo: SessionService = async (stream, opening) => {
  openings.push(opening);
  stream.respond({ ':status': 200 });
  stream.pipe(stream);
};
/** Answers and never reads. */
const deaf: SessionService = async (stream) => {
  stream.respond({ ':status': 200 });
  await new Promise((resolve) => stream.on('close', resolve));
};
/** Answers and waits for its end. */
const idle: SessionService = async (stream) => {
  stream.respond({ ':status': 200 });
  stream.resume();
};
const failing: Service = async (_stream, opening) => {
  const code = String(opening.headers['x-code']);
  if (code === 'crash') throw new TypeError('a defect');
  throw new Fault(code as 'busy', 'as asked');
};
const services = { imap: echo, pop3: deaf, deliver: echo, http: failing, login: idle };

beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'link-'));
  socket = path.join(dir, 'backend-1.sock');
  openings = [];
  server = await openLinkServer([{ kind: 'unix', path: socket }], services, context);
  link = connectTo(socket);
});

afterEach(async () => {
  link.destroy();
  server.stopOpenings();
  await server.close(0);
  await rm(dir, { recursive: true });
});

function connectTo(socketPath: string): ClientHttp2Session {
  const session = http2.connect('http://link', {
    createConnection: () => connect({ path: socketPath }),
    settings: { initialWindowSize: streamWindowBytes },
    peerMaxConcurrentStreams: 100_000,
    maxSessionMemory: 1024,
  });
  session.on('error', () => {});
  return session;
}

const good: OutgoingHttpHeaders = {
  ':method': 'POST',
  ':path': '/imap',
  [linkHeader.version]: '1',
  [linkHeader.account]: 'ann%40here.org',
  [linkHeader.epoch]: '7',
  [linkHeader.client]: '[2001:db8::1]:4711',
  [linkHeader.trace]: 'trace-1',
};

function credentials(user: string, password = 'secret'): string {
  return Buffer.from(JSON.stringify({ mechanism: 'password', user, password })).toString('base64');
}

function ask(
  headers: OutgoingHttpHeaders,
): Promise<IncomingHttpHeaders & { ':status'?: number | undefined }> {
  return new Promise((resolve, reject) => {
    const stream = link.request({ ...good, ...headers }, { endStream: true });
    stream.on('response', (answer) => {
      stream.resume();
      resolve(answer);
    });
    stream.on('error', reject);
    stream.on('close', () => reject(new Error(`closed with ${stream.rstCode}`)));
  });
}

describe('an opening', () => {
  test('in form reaches its service with the facts of the client, and its bytes flow both ways', async () => {
    const stream = link.request({
      ...good,
      [linkHeader.credentials]: credentials('ann@here.org'),
      [linkHeader.tls]: 'TLSv1.3 TLS_AES_256_GCM_SHA384',
    });
    stream.write('hello');
    const [echoed] = await new Promise<Buffer[]>((resolve) =>
      stream.once('data', (chunk) => resolve([chunk])),
    );
    expect(String(echoed)).toBe('hello');
    expect(openings).toHaveLength(1);
    expect(openings[0]).toMatchObject({
      account: 'ann@here.org',
      epoch: 7,
      client: { address: '2001:db8::1', port: 4711 },
      tls: 'TLSv1.3 TLS_AES_256_GCM_SHA384',
      trace: 'trace-1',
      credentials: { mechanism: 'password', user: 'ann@here.org', password: 'secret' },
    });
    expect(JSON.stringify(openings[0]!.headers)).not.toContain(credentials('ann@here.org'));
    expect(server.streams).toBe(1);
    stream.close();
  });

  test.each([
    ['of no version', { [linkHeader.version]: undefined }, 426],
    ['of a version to come', { [linkHeader.version]: '2' }, 426],
    ['of a version that is no number', { [linkHeader.version]: '1.0' }, 426],
    ['of the oldest version spoken', { [linkHeader.version]: String(versionsSpoken[0]) }, 200],
    ['of a version before that', { [linkHeader.version]: String(versionsSpoken[0] - 1) }, 426],
    ['of an unknown service', { ':path': '/smtp' }, 400],
    ['of a service by a longer path', { ':path': '/imap/x' }, 400],
    ['of a service named like an object member', { ':path': '/toString' }, 400],
    ['of a service this backend does not have', { ':path': '/settle' }, 400],
    ['without account', { [linkHeader.account]: undefined }, 400],
    ['with an account in another spelling', { [linkHeader.account]: 'Ann%40here.org' }, 400],
    ['with a path for an account', { [linkHeader.account]: '..%2Fann%40here.org' }, 400],
    ['with broken percent-encoding', { [linkHeader.account]: 'ann%4' }, 400],
    ['with the account given twice', { [linkHeader.account]: ['ann@here.org', 'bob@here.org'] }, 400],
    ['with an epoch that is no number', { [linkHeader.epoch]: '-1' }, 400],
    ['with a malformed client', { [linkHeader.client]: '2001:db8::1:4711' }, 400],
    ['with a malformed trace', { [linkHeader.trace]: 'a b' }, 400],
    ['with credentials that are not JSON', { [linkHeader.credentials]: 'AAAA' }, 400],
    ['with credentials of nothing', { [linkHeader.credentials]: 'bnVsbA==' }, 400],
    ['with credentials of another account', { [linkHeader.credentials]: credentials('bob@here.org') }, 400],
    ['with endless credentials', { [linkHeader.credentials]: 'A'.repeat(8193) }, 400],
    ['of no account, where none is needed', { ':path': '/deliver', [linkHeader.account]: undefined }, 200],
  ])('%s is answered as it should', async (_what, headers, status) => {
    expect((await ask(headers as OutgoingHttpHeaders))[':status']).toBe(status);
    expect(openings).toHaveLength(status === 200 ? 1 : 0);
  });

  test('for an account of another backend names that backend and its epoch', async () => {
    const answer = await ask({ [linkHeader.account]: 'ann%40there.org' });
    expect(answer).toMatchObject({
      ':status': 421,
      [linkHeader.owner]: 'backend-2',
      [linkHeader.epoch]: '9',
    });
    expect(await ask({ [linkHeader.account]: 'ann%40nowhere.org' })).toMatchObject({
      ':status': 421,
      [linkHeader.owner]: '',
    });
    expect(openings).toEqual([]);
  });

  test('of a version nobody speaks is told the one that is spoken', async () => {
    expect((await ask({ [linkHeader.version]: '9' }))[linkHeader.version]).toBe('1');
  });

  test.each([
    ['busy', 503],
    ['not-owner', 421],
    ['lease-lost', 421],
    ['no-space', 507],
    ['no-such-account', 404],
    ['storage-failed', 500],
    ['crash', 500],
  ])('whose service fails with %s is answered, and the link lives', async (code, status) => {
    expect((await ask({ ':path': '/http', 'x-code': code }))[':status']).toBe(status);
    expect((await ask({}))[':status']).toBe(200);
  });
});

describe('a link', () => {
  test('has the windows of the protocol', async () => {
    await ask({});
    await sleep(20);
    expect(link.remoteSettings.initialWindowSize).toBe(streamWindowBytes);
    expect(link.remoteSettings.maxConcurrentStreams).toBeGreaterThanOrEqual(20_000);
    expect(link.state.remoteWindowSize).toBe(linkWindowBytes);
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
  });

  test('whose one stream is not read still serves the others', async () => {
    const stuck = link.request({ ...good, ':path': '/pop3' });
    stuck.on('error', () => {});
    stuck.write(Buffer.alloc(streamWindowBytes * 4));
    await sleep(50);
    for (let i = 0; i < 20; i++) {
      const stream = link.request(good);
      const bytes = Buffer.alloc(streamWindowBytes / 2, i);
      stream.end(bytes);
      const back: Buffer[] = [];
      for await (const chunk of stream) back.push(chunk as Buffer);
      expect(Buffer.concat(back).equals(bytes)).toBe(true);
    }
    stuck.close();
  });

  test('with bulk data both ways on many streams does not come to a stand', async () => {
    let bytes = 0;
    const streams = Array.from({ length: 40 }, () => link.request(good));
    for (const stream of streams) {
      stream.on('error', () => {});
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      const fill = () => {
        while (stream.write(Buffer.alloc(65_536)));
        stream.once('drain', fill);
      };
      fill();
    }
    // Idle machines do this in milliseconds; a link that stands still never does.
    for (let look = 1; look <= 4; look++) {
      const wanted = bytes + 4 * 1024 * 1024;
      await waitFor(`data after ${look - 1} looks`, () => bytes >= wanted);
    }
    for (const stream of streams) stream.destroy();
  });

  test('carries 20,000 sessions at once, and outlives their end in one moment', async () => {
    await ask({});
    // All in one turn of the loop: openings and resets are not under flow control.
    const streams = Array.from({ length: 20_000 }, () => link.request({ ...good, ':path': '/login' }));
    await Promise.all(streams.map((stream) => new Promise((done) => stream.on('response', done))));
    expect(server.streams).toBe(20_000);
    for (const stream of streams) stream.close(http2.constants.NGHTTP2_CANCEL);
    for (let waited = 0; server.streams > 0 && waited < 5000; waited += 20) await sleep(20);
    expect(server.streams).toBe(0);
    expect((await ask({}))[':status']).toBe(200);
    expect(link.closed).toBe(false);
  });

  test('is told to stop: openings are refused, what runs goes on, the end comes within the grace', async () => {
    const stream = link.request(good);
    stream.on('error', () => {});
    await new Promise((resolve) => stream.on('response', resolve));
    server.stopOpenings();
    // By GOAWAY, or by the answer when the opening was on its way: nothing has been done either way.
    const refused = await ask({}).then((answer) => `status ${answer[':status']}`, String);
    expect(refused).toMatch(/REFUSED_STREAM|status 503/);
    stream.write('still here');
    await new Promise((resolve) => stream.once('data', resolve));
    const from = performance.now();
    const closed = new Promise((resolve) => link.on('close', resolve));
    await server.close(200);
    await closed;
    const tookMs = performance.now() - from;
    expect(tookMs).toBeGreaterThan(150);
    expect(tookMs).toBeLessThan(1000);
  });

  test('replaces a socket that was left over', async () => {
    server.stopOpenings();
    await server.close(0);
    link.destroy();
    execFileSync('python3', [
      '-c',
      `import socket; socket.socket(socket.AF_UNIX).bind(${JSON.stringify(socket)})`,
    ]);
    server = await openLinkServer([{ kind: 'unix', path: socket }], services, context);
    link = connectTo(socket);
    expect((await ask({}))[':status']).toBe(200);
  });
});

describe('a link over TLS', () => {
  let tlsServer: LinkServer;
  let files: Record<string, Buffer>;

  beforeEach(async () => {
    const run = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
    const key = (name: string) => [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${name}.key`,
    ];
    for (const ca of ['ca', 'stranger-ca'])
      run('req', '-x509', ...key(ca), '-out', `${ca}.pem`, '-subj', `/CN=${ca}`, '-days', '1');
    const leaf = (name: string, ca: string, san: string) =>
      run(
        'req',
        '-x509',
        ...key(name),
        '-out',
        `${name}.pem`,
        '-subj',
        `/CN=${name}`,
        '-days',
        '1',
        '-CA',
        `${ca}.pem`,
        '-CAkey',
        `${ca}.key`,
        '-addext',
        `subjectAltName=${san}`,
        '-addext',
        'basicConstraints=critical,CA:FALSE',
      );
    leaf('server', 'ca', 'DNS:backend-1.test');
    leaf('member', 'ca', 'URI:urn:test:gateway-1');
    leaf('other', 'ca', 'DNS:www.example.org');
    leaf('stranger', 'stranger-ca', 'URI:urn:test:gateway-1');
    files = {};
    for (const name of ['ca', 'server', 'member', 'other', 'stranger']) {
      files[`${name}.pem`] = await readFile(path.join(dir, `${name}.pem`));
      files[`${name}.key`] = await readFile(path.join(dir, `${name}.key`));
    }
    tlsServer = await openLinkServer(
      [
        {
          kind: 'tls',
          listen: { host: '127.0.0.1', port: 0 },
          pair: { key: files['server.key']!, cert: files['server.pem']!, ca: files['ca.pem']! },
          isMember: (names) => names.includes('urn:test:'),
        },
      ],
      services,
      context,
    );
  });

  afterEach(async () => {
    tlsServer.stopOpenings();
    await tlsServer.close(0);
  });

  test.each([
    ['a member', 'member', 200],
    ['a certificate of the cluster that is no member’s', 'other', 0],
    ['a member of another cluster', 'stranger', 0],
    ['nobody', '', 0],
  ])('lets in %s as it should', async (_who, name, status) => {
    link.destroy();
    link = http2.connect(`https://${tlsServer.addresses[0]}`, {
      ca: files['ca.pem'],
      servername: 'backend-1.test',
      minVersion: 'TLSv1.3',
      ...(name && { key: files[`${name}.key`], cert: files[`${name}.pem`] }),
    });
    link.on('error', () => {});
    const answer = await ask({}).catch(() => undefined);
    expect(answer?.[':status'] ?? 0).toBe(status);
  });
});
