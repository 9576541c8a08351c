/** The HTTP door over real TLS sockets: bad requests first, then what it passes to the owner. */
import { execFile } from 'node:child_process';
import http2 from 'node:http2';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { basic, bodyOf, openRig, type Rig, talk } from './door-rig.ts';

const run = promisify(execFile);
const login = basic('ann@postern.test', 'secret');
let rig: Rig;

beforeEach(async () => {
  rig = await openRig();
});
afterEach(async () => {
  await rig.close();
});

async function curl(...args: string[]): Promise<string> {
  const { stdout } = await run('curl', ['-sS', '-k', '-i', '--max-time', '10', ...args]);
  return stdout;
}
const at = (path: string): string => `https://127.0.0.1:${rig.port}${path}`;

describe('a request that two readers could understand differently is answered with 400 and a close', () => {
  const post = `POST /jmap/api HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\nContent-Type: application/json\r\n`;
  const smuggled = 'GET /jmap/session HTTP/1.1\r\nHost: a\r\n\r\n';
  const rows = [
    ['CL.TE', `${post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    [
      'TE.CL',
      `${post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\n${smuggled}`,
    ],
    ['TE.TE', `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${smuggled}`],
    ['TE with another word', `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['TE twice in one field', `${post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['TE in HTTP/1.0', `${post.replace('1.1', '1.0')}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a space before the colon', `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['two lengths', `${post}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}${smuggled}`],
    ['a list of lengths', `${post}Content-Length: 2, 2\r\n\r\n{}${smuggled}`],
    ['a signed length', `${post}Content-Length: +2\r\n\r\n{}${smuggled}`],
    ['two hosts', `GET /jmap/session HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`],
    ['no host', `GET /jmap/session HTTP/1.1\r\n\r\n`],
    ['a host with a path', `GET /jmap/session HTTP/1.1\r\nHost: a/b\r\n\r\n`],
    ['a bare LF in the header', `GET /jmap/session HTTP/1.1\nHost: a\n\n${smuggled}`],
    ['a folded field', `GET /jmap/session HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n${smuggled}`],
    ['NUL in a field', `GET /jmap/session HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n${smuggled}`],
    ['no HTTP at all', 'EHLO example.org\r\n'],
  ] as const;
  test.each(rows)('%s', async (_name, bytes) => {
    const { text, closed } = await talk(rig.port, bytes);
    expect(text).toMatch(/^HTTP\/1\.1 (400|501) /);
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(closed).toBe(true);
    expect(rig.seen).toHaveLength(0);
  });

  test('a chunk ended by a bare LF reaches nobody', async () => {
    const bytes = `${post}Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n${smuggled}`;
    const { text, closed } = await talk(rig.port, bytes);
    expect(text).not.toMatch(/ 200 /);
    expect(closed).toBe(true);
    expect(rig.seen).toHaveLength(0);
  });
});

describe('bounds', () => {
  test('a header of more than 16 KiB is refused with 431', async () => {
    const { text, closed } = await talk(
      rig.port,
      `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(closed).toBe(true);
  });

  test('more than 64 header fields are refused with 431', async () => {
    const fields = Array.from({ length: 80 }, (_, n) => `X-${n}: y\r\n`).join('');
    const { text, closed } = await talk(rig.port, `GET / HTTP/1.1\r\nHost: a\r\n${fields}\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(closed).toBe(true);
  });

  test('an announced body over the limit is refused with 413 before the owner is asked', async () => {
    const answer = await curl(
      '--http1.1',
      '-u',
      'ann@postern.test:secret',
      '-H',
      'Content-Type: application/json',
      '-H',
      'Content-Length: 9999999999',
      '-X',
      'POST',
      '-d',
      '{}',
      at('/jmap/api'),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(rig.seen).toHaveLength(0);
  });

  test.each(['--http1.1', '--http2'])(
    'a chunked body over the limit is refused with 413 (%s)',
    async (version) => {
      await rig.close();
      rig = await openRig({ limits: { bodyBytesMax: 200_000 } });
      const client = run('curl', [
        '-sS',
        '-k',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '--max-time',
        '10',
        version,
        '-u',
        'ann@postern.test:secret',
        '-H',
        'Content-Type: application/json',
        '-H',
        'Transfer-Encoding: chunked',
        '-X',
        'POST',
        '--data-binary',
        '@-',
        at('/jmap/api'),
      ]);
      client.child.stdin?.on('error', () => {});
      client.child.stdin?.end('x'.repeat(400_000));
      const { stdout } = await client.catch((error: { stdout: string }) => error);
      expect(stdout).toMatch(/^413|^503/);
      expect(rig.seen).toHaveLength(0);
    },
  );

  test('a client that says nothing is closed at the greeting deadline', async () => {
    await rig.close();
    rig = await openRig({ greetingMs: 150 });
    const { text, closed } = await talk(rig.port, '');
    expect({ text, closed }).toEqual({ text: '', closed: true });
  });

  test('a header that trickles in is cut at a total deadline', async () => {
    await rig.close();
    rig = await openRig({ greetingMs: 300 });
    const startedAtMs = performance.now();
    await new Promise<void>((resolve) => {
      const client = net.connect(rig.port, '127.0.0.1', () => {});
      client.destroy();
      void import('node:tls').then(({ connect }) => {
        const socket = connect({ port: rig.port, host: '127.0.0.1', rejectUnauthorized: false });
        socket.write('GET / HTTP/1.1\r\nHost: a\r\n');
        const trickle = setInterval(() => socket.write('X: y\r\n'), 30);
        socket.on('error', () => {});
        socket.on('close', () => {
          clearInterval(trickle);
          resolve();
        });
      });
    });
    expect(performance.now() - startedAtMs).toBeLessThan(2000);
  });

  test('a body that trickles in is cut at a total deadline', async () => {
    await rig.close();
    rig = await openRig({ limits: { bodyMs: 300 } });
    const head = `POST /jmap/api HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`;
    const { text, closed } = await talk(rig.port, head, { ms: 3000 });
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
    expect(closed).toBe(true);
  });

  test('a client that does not read its answer is cut, and the owner is let go', async () => {
    await rig.close();
    rig = await openRig({ limits: { stallMs: 300 } });
    const endless = new PassThrough();
    const fill = (): void => {
      while (!endless.destroyed && endless.write(Buffer.alloc(65_536)));
    };
    endless.on('drain', fill);
    rig.owner = async () => {
      fill();
      return { status: 200, headers: { 'postern-status': '200' }, body: endless };
    };
    const { connect } = await import('node:tls');
    const socket = connect({ port: rig.port, host: '127.0.0.1', rejectUnauthorized: false });
    socket.on('error', () => {});
    socket.write(`GET /jmap/session HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\n\r\n`);
    socket.pause();
    await new Promise((resolve) => endless.once('close', resolve));
    expect(endless.destroyed).toBe(true);
    socket.destroy();
  });

  test('streams that are opened and reset end the connection', async () => {
    await rig.close();
    rig = await openRig({ limits: { resetBurst: 20, resetsPerSecond: 1 } });
    const hanging: PassThrough[] = [];
    rig.owner = async () => {
      const body = new PassThrough();
      hanging.push(body);
      return { status: 200, headers: { 'postern-status': '200' }, body };
    };
    const session = http2.connect(at(''), { rejectUnauthorized: false });
    session.on('error', () => {});
    const ended = new Promise((resolve) => session.once('close', resolve));
    let opened = 0;
    const timer = setInterval(() => {
      for (let n = 0; n < 10 && !session.destroyed && !session.closed; n += 1) {
        const stream = session.request({ ':path': '/jmap/session', authorization: login });
        stream.on('error', () => {});
        opened += 1;
        setImmediate(() => stream.close(http2.constants.NGHTTP2_CANCEL));
      }
    }, 5);
    await ended;
    clearInterval(timer);
    expect(opened).toBeLessThan(2000);
  });

  test('more requests at once than allowed end the connection', async () => {
    await rig.close();
    rig = await openRig({ limits: { concurrentRequestsMax: 4 } });
    rig.owner = () => new Promise(() => {});
    const one = `GET /jmap/session HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\n\r\n`;
    const { closed } = await talk(rig.port, one.repeat(10));
    expect(closed).toBe(true);
    expect(rig.seen.length).toBeLessThanOrEqual(4);
  });
});

describe('what the door does not know is 404 and reaches nobody', () => {
  const rows = [
    ['/admin'],
    ['/jmap'],
    ['/jmap/api/x'],
    ['/jmap/../jmap/session'],
    ['/%2e%2e%2fetc/passwd'],
    ['/jmap/download/A1/m1/..'],
    ['/jmap/download/A1/m1/%2e%2e%2f%2e%2e%2fx'],
    ['/jmap/download/A1/m1/..%5cx'],
    ['/jmap/download/A1/m1/a%00b'],
    ['/jmap/download/A1/m1/a%0d%0ab'],
    ['/jmap/download/A1/../x'],
    ['/jmap/download/A1/m1/%ff'],
    ['/.well-known/jmap/../../x'],
    ['//jmap/session'],
  ];
  test.each(rows)('%s', async (path) => {
    const { text } = await talk(
      rig.port,
      `GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\nConnection: close\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 404 /);
    expect(rig.seen).toHaveLength(0);
  });

  test('a method a path does not have is 405 with Allow', async () => {
    const answer = await curl('-X', 'DELETE', '-u', 'ann@postern.test:secret', at('/jmap/session'));
    expect(answer).toMatch(/^HTTP\/2 405/);
    expect(answer).toMatch(/allow: GET, HEAD/);
  });

  test('a request another site made a browser send is refused', async () => {
    const answer = await curl(
      '-H',
      'Sec-Fetch-Site: cross-site',
      '-u',
      'ann@postern.test:secret',
      at('/jmap/session'),
    );
    expect(answer).toMatch(/^HTTP\/2 403/);
    expect(rig.seen).toHaveLength(0);
  });

  test('a form post is not taken for JMAP', async () => {
    const answer = await curl('-u', 'ann@postern.test:secret', '-d', 'a=b', at('/jmap/api'));
    expect(answer).toMatch(/^HTTP\/2 415/);
  });
});

describe('other protocols on the HTTPS port', () => {
  test('plain text is closed without an answer', async () => {
    const text = await new Promise<string>((resolve) => {
      const socket = net.connect(rig.port, '127.0.0.1', () =>
        socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
      );
      let all = '';
      socket.on('data', (chunk) => {
        all += chunk.toString('latin1');
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(all));
    });
    expect(text).not.toMatch(/HTTP/);
  });

  test('an ALPN name of another protocol ends the handshake', async () => {
    const { text, closed } = await talk(rig.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', { alpn: ['imap'] });
    expect({ text, closed }).toEqual({ text: '', closed: true });
  });
});

describe('login', () => {
  const rows = [
    ['no credentials', undefined],
    ['another scheme', 'Bearer abc'],
    ['no colon', `Basic ${Buffer.from('ann').toString('base64')}`],
    ['an empty password', basic('ann@postern.test', '')],
    ['not UTF-8', `Basic ${Buffer.from([0x61, 0x3a, 0xff, 0xfe]).toString('base64')}`],
    ['a NUL in the password', basic('ann@postern.test', 'a\0b')],
    ['not base64', 'Basic %%%'],
  ] as const;
  test.each(rows)('%s is 401 with a challenge, and the owner is not asked', async (_name, value) => {
    const field = value === undefined ? '' : `Authorization: ${value}\r\n`;
    const { text } = await talk(
      rig.port,
      `GET /jmap/session HTTP/1.1\r\nHost: a\r\n${field}Connection: close\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 401 /);
    expect(text).toMatch(/www-authenticate: Basic realm="Postern", charset="UTF-8"/i);
    expect(rig.seen).toHaveLength(0);
  });

  test('a wrong password is 401, and the chain is told', async () => {
    rig.owner = async () => ({ status: 401, headers: {}, body: bodyOf('') });
    const answer = await curl('-u', 'Ann@POSTERN.test:wrong', at('/jmap/session'));
    expect(answer).toMatch(/^HTTP\/2 401/);
    expect(rig.told).toContain('loginFailed ann@postern.test');
  });

  test('an account elsewhere is 401 with the same words', async () => {
    const answer = await curl('-u', 'ann@example.org:secret', at('/jmap/session'));
    expect(answer).toMatch(/^HTTP\/2 401/);
    expect(rig.seen).toHaveLength(0);
  });

  test('many wrong passwords on one connection are answered with 429 and a close', async () => {
    rig.owner = async () => ({ status: 401, headers: {}, body: bodyOf('') });
    const one = `GET /jmap/session HTTP/1.1\r\nHost: a\r\nAuthorization: ${login}\r\n\r\n`;
    let text = '';
    const { connect } = await import('node:tls');
    const socket = connect({ port: rig.port, host: '127.0.0.1', rejectUnauthorized: false });
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.endsWith('Login needed\n')) socket.write(one);
    });
    socket.write(one);
    await new Promise((resolve) => socket.on('close', resolve));
    expect(text.match(/HTTP\/1\.1 401 /g)).toHaveLength(5);
    expect(text.match(/HTTP\/1\.1 429 /g)).toHaveLength(1);
  });

  const verdicts = [
    ['login', 'defer', /^HTTP\/2 503[\s\S]*retry-after: \d+/],
    ['login', 'reject', /^HTTP\/2 403/],
    ['connect', 'defer', /^HTTP\/2 503[\s\S]*retry-after: \d+/],
    ['connect', 'reject', /^HTTP\/2 403/],
  ] as const;
  test.each(verdicts)('the chain says at %s: %s', async (question, word, expected) => {
    rig.verdicts[question] = { word, say: 'No\r\nX: y', plugin: 'p' };
    const answer = await curl('-u', 'ann@postern.test:secret', at('/jmap/session'));
    expect(answer).toMatch(expected);
    expect(answer).not.toMatch(/^x: y/im);
    expect(rig.seen).toHaveLength(0);
  });

  test.each(['connect', 'login'] as const)('disconnect at %s closes without a word', async (question) => {
    rig.verdicts[question] = { word: 'disconnect', plugin: 'p' };
    await expect(curl('-u', 'ann@postern.test:secret', at('/jmap/session'))).rejects.toThrow();
    expect(rig.seen).toHaveLength(0);
  });
});

describe('a good request', () => {
  test.each(['--http1.1', '--http2'])(
    'reaches the owner with credentials and comes back (%s)',
    async (version) => {
      const answer = await curl(version, '-u', 'Ann@Postern.Test:pässword:x', at('/jmap/session?a=b'));
      expect(answer).toMatch(/^HTTP\/(1\.1|2) 200/);
      expect(answer).toMatch(/hello$/);
      for (const field of [
        'strict-transport-security',
        'x-content-type-options: nosniff',
        'content-security-policy',
        'cache-control: no-store',
      ]) {
        expect(answer.toLowerCase()).toContain(field);
      }
      const [{ account, headers }] = rig.seen as [(typeof rig.seen)[0]];
      expect(account).toBe('ann@postern.test');
      expect(JSON.parse(Buffer.from(String(headers['postern-credentials']), 'base64').toString())).toEqual({
        mechanism: 'password',
        user: 'ann@postern.test',
        password: 'pässword:x',
      });
      expect(headers['postern-http-path']).toBe('/jmap/session?a=b');
      expect(headers['postern-http-authority']).toBe(`127.0.0.1:${rig.port}`);
      expect(headers['postern-client']).toBe('192.0.2.7:4711');
      expect(rig.told).toContain('loggedIn ann@postern.test');
    },
  );

  test.each([10, 300_000])('carries a body of %d bytes', async (size) => {
    const body = JSON.stringify('x'.repeat(size));
    const client = run('curl', [
      '-sS',
      '-k',
      '--max-time',
      '10',
      '-u',
      'ann@postern.test:secret',
      '-H',
      'Content-Type: application/json',
      '--data-binary',
      '@-',
      at('/jmap/api'),
    ]);
    client.child.stdin?.end(body);
    expect((await client).stdout).toBe('hello');
    expect(rig.seen[0]?.body?.toString()).toBe(body);
  });

  test('an owner that cannot be reached is 503 with Retry-After', async () => {
    rig.owner = async () => {
      throw new Error('no link');
    };
    const answer = await curl('-u', 'ann@postern.test:secret', at('/jmap/session'));
    expect(answer).toMatch(/^HTTP\/2 500|^HTTP\/2 503/);
  });

  test.each(['--http1.1', '--http2'])(
    'an answer the owner breaks off does not look whole (%s)',
    async (version) => {
      rig.owner = async () => {
        const body = new PassThrough();
        body.write('half of it');
        setTimeout(() => body.destroy(new Error('reset')), 50);
        return { status: 200, headers: { 'postern-status': '200', 'content-length': '1000' }, body };
      };
      await expect(curl(version, '-u', 'ann@postern.test:secret', at('/jmap/session'))).rejects.toThrow();
    },
  );

  test('HEAD has the fields and no body', async () => {
    const answer = await curl('-I', '-u', 'ann@postern.test:secret', at('/jmap/session'));
    expect(answer).toMatch(/^HTTP\/2 200/);
    expect(answer).not.toMatch(/hello/);
  });

  test('the root is a small plain page, for everybody', async () => {
    const answer = await curl(at('/'));
    expect(answer).toMatch(/^HTTP\/2 200[\s\S]*Postern/);
  });

  test('closing lets a running request end', async () => {
    rig.owner = async () => {
      const body = new PassThrough();
      setTimeout(() => body.end('late'), 200);
      return { status: 200, headers: { 'postern-status': '200' }, body };
    };
    const answer = curl('-u', 'ann@postern.test:secret', at('/jmap/session'));
    while (rig.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await rig.door.close(3000);
    expect(await answer).toMatch(/late$/);
    expect(rig.told.filter((word) => word === 'connected')).toHaveLength(
      rig.told.filter((word) => word === 'disconnected').length,
    );
  });
});
