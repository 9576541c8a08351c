import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Fault } from '../../../base/fault.ts';
import { openAuthority } from '../../../certs/authority.ts';
import { certFilesOf } from '../../../certs/files.ts';
import { edgeLeaf, ensureLeaf, makeLeaf } from '../../../certs/leaf.ts';
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

  test('a ticket is taken by another gateway with the same keys, and not with others', async () => {
    const keys = Buffer.alloc(48, 7);
    const first = await openTlsContexts(optionsWith({ ticketKeys: () => keys }));
    const same = await openTlsContexts(optionsWith({ ticketKeys: () => keys }));
    const other = await openTlsContexts(optionsWith({ ticketKeys: () => Buffer.alloc(48, 8) }));
    const talk = async (contexts: typeof first, session?: Buffer): Promise<[boolean, Buffer]> => {
      const listener = net.createServer((socket) => {
        socket.on('error', () => {});
        contexts.startTls(socket, []).then(
          (secure) => {
            secure.on('error', () => {});
            secure.end('x');
          },
          () => {},
        );
      });
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
      const { port } = listener.address() as net.AddressInfo;
      const socket = tls.connect({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        maxVersion: 'TLSv1.2',
        ...(session === undefined ? {} : { session }),
      });
      socket.resume();
      await new Promise((resolve) => socket.once('secureConnect', resolve));
      const found: [boolean, Buffer] = [socket.isSessionReused(), socket.getSession()!];
      await new Promise((resolve) => socket.once('close', resolve));
      listener.close();
      return found;
    };
    const [, session] = await talk(first);
    expect((await talk(same, session))[0]).toBe(true);
    expect((await talk(other, session))[0]).toBe(false);
  });

  describe('more certificates in a directory', () => {
    const shownFor = async (
      servername: string | undefined,
      contexts: { startTls: (s: net.Socket, a: string[]) => Promise<tls.TLSSocket> },
    ): Promise<string> => {
      const listener = net.createServer((socket) => {
        socket.on('error', () => {});
        contexts.startTls(socket, []).then(
          (secure) => secure.on('error', () => {}),
          () => {},
        );
      });
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
      const { port } = listener.address() as net.AddressInfo;
      const socket = tls.connect({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ...(servername === undefined ? {} : { servername }),
      });
      await new Promise((resolve) => socket.once('secureConnect', resolve));
      const { subjectaltname = '' } = socket.getPeerCertificate();
      socket.destroy();
      listener.close();
      return subjectaltname.split(', ').filter((name) => name.startsWith('DNS:'))[0] ?? '';
    };

    test('are shown by name: exact, wildcard, and the default for all others', async () => {
      const own = await mkdtemp(path.join(tmpdir(), 'postern-sni-'));
      const files = certFilesOf(directory);
      const authority = await openAuthority(files, 'test', Date.now());
      const make = async (name: string, certFile: string, keyFile: string): Promise<void> => {
        const leaf = edgeLeaf({ ...files, edge: certFile, edgeKey: keyFile }, name);
        await makeLeaf({ ...leaf, names: [name] }, authority, 'test', Date.now());
      };
      await make('mail.one.test', path.join(own, 'one.pem'), path.join(own, 'one.key'));
      await mkdir(path.join(own, 'two'));
      await make('*.two.test', path.join(own, 'two/fullchain.pem'), path.join(own, 'two/privkey.pem'));
      await writeFile(path.join(own, 'README'), 'not a certificate');
      const contexts = await openTlsContexts(optionsWith({ directory: own }));
      expect(await shownFor('mail.one.test', contexts)).toBe('DNS:mail.one.test');
      expect(await shownFor('MAIL.one.TEST', contexts)).toBe('DNS:mail.one.test');
      expect(await shownFor('imap.two.test', contexts)).toBe('DNS:*.two.test');
      for (const name of ['a.b.two.test', 'two.test', 'x.one.test', undefined])
        expect(await shownFor(name, contexts)).toBe('DNS:localhost');
      await make('mail.three.test', path.join(own, 'three.pem'), path.join(own, 'three.key'));
      expect(await contexts.reload()).toBe(true);
      expect(await contexts.reload()).toBe(false);
      expect(await shownFor('mail.three.test', contexts)).toBe('DNS:mail.three.test');
      await writeFile(path.join(own, 'three.pem'), 'spoilt');
      await expect(contexts.reload()).rejects.toThrow(/three\.pem holds no certificate/);
      expect(await shownFor('mail.three.test', contexts)).toBe('DNS:mail.three.test');
      await rm(own, { recursive: true });
    });

    test('a directory that is not there is an error that points', async () => {
      const error = openTlsContexts(optionsWith({ directory: at('none'), directoryPlace: 'tls.directory' }));
      await expect(error).rejects.toThrow(
        /^tls\.directory: .*none is not there; name a directory of certificates$/,
      );
    });
  });

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
