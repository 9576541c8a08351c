import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Fault } from '../../../base/fault.ts';
import { openAuthority } from '../../../certs/authority.ts';
import { certFilesOf } from '../../../certs/files.ts';
import { edgeLeaf, ensureLeaf } from '../../../certs/leaf.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { handshakesMax } from '../../../gateway/net/handshake-gate.ts';
import { openTlsContexts, type TlsContextsOptions } from '../../../gateway/net/tls-contexts.ts';

let directory = '';
const deadlines = new Deadlines(20);
const at = (name: string): string => path.join(directory, name);
const optionsWith = (more: Partial<TlsContextsOptions> = {}): TlsContextsOptions => ({
  certificate: at('edge.pem'),
  key: at('edge.key'),
  place: 'postern.toml:3 tls.certificate',
  minimum: 'TLSv1.2',
  handshakeMs: 400,
  deadlines,
  ...more,
});

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-tls-'));
  const files = certFilesOf(directory);
  const authority = await openAuthority(files, 'test', Date.now());
  await ensureLeaf(edgeLeaf(files, 'localhost'), authority, 'test', Date.now());
  await writeFile(at('garbage.pem'), 'no certificate\n');
});
afterAll(async () => {
  deadlines.close();
  await rm(directory, { recursive: true, force: true });
});

const mistakes = [
  {
    name: 'a missing certificate',
    more: () => ({ certificate: at('none.pem') }),
    says: /none\.pem is not there/,
  },
  {
    name: 'a certificate that is none',
    more: () => ({ certificate: at('garbage.pem') }),
    says: /garbage\.pem holds no certificate/,
  },
  {
    name: 'a key that is none',
    more: () => ({ key: at('garbage.pem') }),
    says: /garbage\.pem holds no private key/,
  },
  {
    name: 'the key of another certificate',
    more: () => ({ key: at('ca.key') }),
    says: /ca\.key is not the key of .*edge\.pem/,
  },
];

describe('TLS', () => {
  test.each(mistakes)('$name is an error that points', async ({ more, says }) => {
    const error = await openTlsContexts(optionsWith(more())).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Fault);
    expect((error as Fault).code).toBe('bad-config');
    expect((error as Fault).message).toMatch(/^postern\.toml:3 tls\.certificate: /);
    expect((error as Fault).message).toMatch(says);
  });

  /** What a client and the server make of a handshake with these client options. */
  async function handshake(
    client: tls.ConnectionOptions,
    server: Partial<TlsContextsOptions> = {},
  ): Promise<string> {
    const contexts = await openTlsContexts(optionsWith(server));
    const listener = net.createServer();
    const outcome = new Promise<string>((resolve) => {
      listener.on('connection', (socket) => {
        socket.on('error', () => {});
        contexts.startTls(socket, ['imap']).then(
          (secure) => {
            resolve(
              `${secure.getProtocol()} ${secure.alpnProtocol || 'none'} resumed ${secure.isSessionReused()}`,
            );
            secure.destroy();
          },
          (error: Fault) => resolve(error.code),
        );
      });
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const { port } = listener.address() as net.AddressInfo;
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...client });
    socket.on('error', () => {});
    const result = await outcome;
    socket.destroy();
    listener.close();
    return result;
  }

  const shakes = [
    { name: 'an ordinary client', client: {}, outcome: 'TLSv1.3 none resumed false' },
    { name: 'TLS 1.2', client: { maxVersion: 'TLSv1.2' }, outcome: 'TLSv1.2 none resumed false' },
    { name: 'the right ALPN', client: { ALPNProtocols: ['imap'] }, outcome: 'TLSv1.3 imap resumed false' },
    {
      name: 'the right ALPN among others',
      client: { ALPNProtocols: ['h2', 'imap'] },
      outcome: 'TLSv1.3 imap resumed false',
    },
    { name: 'another ALPN', client: { ALPNProtocols: ['h2', 'http/1.1'] }, outcome: 'refused' },
    {
      name: 'TLS 1.1',
      client: { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      outcome: 'refused',
    },
  ] as const;
  test.each(shakes)('$name: $outcome', async ({ client, outcome }) => {
    const options = {
      ...client,
      ...('ALPNProtocols' in client ? { ALPNProtocols: [...client.ALPNProtocols] } : {}),
    };
    const result = await handshake(options as tls.ConnectionOptions);
    expect(result === 'bad-syntax' || result === 'gone' ? 'refused' : result).toBe(outcome);
  });

  test('where TLS 1.3 is the minimum, 1.2 is refused', async () => {
    expect(['bad-syntax', 'gone']).toContain(
      await handshake({ maxVersion: 'TLSv1.2' }, { minimum: 'TLSv1.3' }),
    );
  });

  test('a flood of handshakes that never end does not keep a client out', async () => {
    const contexts = await openTlsContexts(optionsWith({ handshakeMs: 60_000 }));
    const listener = net.createServer();
    const served = new Promise<string>((resolve) => {
      listener.on('connection', (socket) => {
        socket.on('error', () => {});
        contexts.startTls(socket, ['imap']).then(
          (secure) => {
            resolve(secure.getProtocol() ?? '');
            secure.destroy();
          },
          () => {},
        );
      });
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const { port } = listener.address() as net.AddressInfo;
    const silent = Array.from({ length: handshakesMax + 10 }, () => {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => {});
      return socket;
    });
    await Promise.all(silent.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    const good = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    good.on('error', () => {});
    expect(await served).toBe('TLSv1.3');
    for (const socket of [...silent, good]) socket.destroy();
    listener.close();
  }, 15_000);

  test('a client that comes back resumes its session', async () => {
    const contexts = await openTlsContexts(optionsWith());
    const listener = net.createServer((socket) => {
      socket.on('error', () => {});
      contexts.startTls(socket, ['imap']).then(
        (secure) => secure.end('hello'),
        () => {},
      );
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const { port } = listener.address() as net.AddressInfo;
    const connect = (session?: Buffer) =>
      new Promise<{ reused: boolean; session: Buffer | undefined }>((resolve, reject) => {
        let next: Buffer | undefined;
        const options = { port, host: '127.0.0.1', rejectUnauthorized: false };
        const socket = tls.connect(session === undefined ? options : { ...options, session });
        socket.on('session', (given: Buffer) => {
          next = given;
        });
        socket.on('error', reject);
        socket.on('end', () => resolve({ reused: socket.isSessionReused(), session: next }));
        socket.resume();
      });
    const first = await connect();
    const second = await connect(first.session);
    expect([first.reused, second.reused]).toEqual([false, true]);
    listener.close();
  });

  test('a client that says nothing is cut at the deadline', async () => {
    const contexts = await openTlsContexts(optionsWith());
    const listener = net.createServer();
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const code = new Promise<string>((resolve) => {
      listener.on('connection', (socket) => {
        contexts.startTls(socket, ['imap']).catch((error: Fault) => resolve(error.code));
      });
    });
    const socket = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
    expect(await code).toBe('deadline-passed');
    socket.destroy();
    listener.close();
  });

  test('a session is resumed by its ticket', async () => {
    const contexts = await openTlsContexts(optionsWith());
    const listener = net.createServer((socket) => {
      contexts.startTls(socket, ['imap']).then(
        (secure) => {
          secure.on('error', () => {});
          secure.end(String(secure.isSessionReused()));
        },
        () => {},
      );
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const { port } = listener.address() as net.AddressInfo;
    const visit = (session: Buffer | undefined): Promise<{ said: string; ticket: Buffer | undefined }> =>
      new Promise((resolve) => {
        let said = '';
        let ticket: Buffer | undefined;
        const socket = tls.connect({
          port,
          host: '127.0.0.1',
          rejectUnauthorized: false,
          ...(session ? { session } : {}),
        });
        socket.on('session', (given) => {
          ticket = given;
        });
        socket.on('data', (chunk) => {
          said += chunk;
        });
        socket.on('close', () => resolve({ said, ticket }));
      });
    const first = await visit(undefined);
    const second = await visit(first.ticket);
    listener.close();
    expect([first.said, second.said]).toEqual(['false', 'true']);
  });
});
