/**
 * A mail door behind a real listener with real TLS, before owners that the test
 * plays: password `right` opens a session that echoes every line with the
 * owner's name, so that it shows who got which bytes.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { silentLog } from '../../../base/log.ts';
import { openAuthority } from '../../../certs/authority.ts';
import { certFilesOf } from '../../../certs/files.ts';
import { edgeLeaf, ensureLeaf } from '../../../certs/leaf.ts';
import { openMetrics } from '../../../gateway/health/metrics.ts';
import { openImapDoor } from '../../../gateway/imap/imap-door.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { type Listener, openListener } from '../../../gateway/net/listener.ts';
import { Throttle } from '../../../gateway/net/throttle.ts';
import { openTlsContexts } from '../../../gateway/net/tls-contexts.ts';
import type { Chain, ChainVerdict } from '../../../gateway/plugin-host/chain.ts';
import { openPop3Door } from '../../../gateway/pop3/pop3-door.ts';
import type { Router } from '../../../gateway/routing/router.ts';
import type { Session } from '../../../gateway/session/session.ts';

export interface RigOptions {
  readonly protocol: 'imap' | 'pop3';
  readonly plaintextLogin?: boolean;
  readonly greetingMs?: number;
  readonly loginMs?: number;
  readonly ask?: (question: string) => ChainVerdict;
}

export class DoorRig {
  /** What the chain was told, in order. */
  readonly told: string[] = [];
  /** Every byte that reached an owner, by account. */
  readonly ownerGot = new Map<string, string>();
  /** Streams of running sessions, to break. */
  readonly streams: Duplex[] = [];
  plainPort = 0;
  tlsPort = 0;
  close: () => Promise<void> = async () => {};
  drain: (graceMs: number) => Promise<void> = async () => {};
  connectionCount: () => number = () => 0;

  static async open(options: RigOptions): Promise<DoorRig> {
    const rig = new DoorRig();
    const directory = await mkdtemp(path.join(tmpdir(), 'postern-door-'));
    const files = certFilesOf(directory);
    const authority = await openAuthority(files, 'test', Date.now());
    await ensureLeaf(edgeLeaf(files, 'localhost'), authority, 'test', Date.now());
    const deadlines = new Deadlines(20);
    const metrics = openMetrics();
    const contexts = await openTlsContexts({
      certificate: files.edge,
      key: files.edgeKey,
      place: 'tls.certificate',
      minimum: 'TLSv1.2',
      handshakeMs: options.greetingMs ?? 2000,
      deadlines,
    });
    const parts = {
      chain: fakeChain(rig, options),
      router: fakeRouter(rig),
      log: silentLog,
      metrics,
      deadlines,
      tls: contexts,
      greetingMs: options.greetingMs ?? 2000,
      loginMs: options.loginMs ?? 5000,
      plaintextLogin: options.plaintextLogin ?? false,
      sasl: { scram: true },
    };
    const door = options.protocol === 'imap' ? openImapDoor(parts) : openPop3Door(parts);
    const throttle = new Throttle({ connectionsMax: 100, perNetworkMax: 100 });
    const listen = (implicitTls: boolean): Promise<Listener> =>
      openListener({
        name: options.protocol,
        protocol: options.protocol,
        address: { host: '127.0.0.1', port: 0 },
        implicitTls,
        allowHalfOpen: true,
        reusePort: false,
        proxyFrom: [],
        throttle,
        deadlines,
        log: silentLog,
        metrics,
        accept: (socket, session) => door.accept(socket, session, implicitTls),
      });
    const listeners = [await listen(false), await listen(true)];
    [rig.plainPort, rig.tlsPort] = listeners.map(({ address }) => Number(address.split(':').at(-1))) as [
      number,
      number,
    ];
    rig.drain = (graceMs) => door.close(graceMs);
    rig.connectionCount = () => door.connectionCount + throttle.total;
    rig.close = async () => {
      for (const listener of listeners) listener.stop();
      await door.close(0);
      deadlines.close();
      metrics.close();
      await rm(directory, { recursive: true, force: true });
    };
    return rig;
  }

  /** Waits until no connection is left, in the door and in the throttle. */
  async emptied(waitMs = 2000): Promise<void> {
    const endMs = performance.now() + waitMs;
    while (this.connectionCount() > 0) {
      if (performance.now() > endMs) throw new Error(`${this.connectionCount()} connections left`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  plain(): Client {
    return new Client(net.connect({ port: this.plainPort, host: '127.0.0.1' }));
  }

  /** TLS from the first byte. */
  secure(options: tls.ConnectionOptions = {}): Client {
    const socket = tls.connect({
      port: this.tlsPort,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...options,
    });
    return new Client(socket);
  }
}

/** A client that keeps everything it was sent. */
export class Client {
  socket: net.Socket;
  got = '';
  closed = false;
  #woken: () => void = () => {};

  constructor(socket: net.Socket) {
    this.socket = socket;
    this.#listen(socket);
  }

  send(text: string | Buffer): void {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
  }

  /** Waits until `pattern` has come, and gives everything so far. */
  async until(pattern: RegExp, waitMs = 3000): Promise<string> {
    const endMs = performance.now() + waitMs;
    while (!pattern.test(this.got)) {
      if (performance.now() > endMs || this.closed)
        throw new Error(`no ${pattern} in ${JSON.stringify(this.got)}${this.closed ? ' (closed)' : ''}`);
      await this.#next();
    }
    return this.got;
  }

  /** Waits for the other end to close, and gives everything so far. */
  async untilClosed(waitMs = 3000): Promise<string> {
    const endMs = performance.now() + waitMs;
    while (!this.closed) {
      if (performance.now() > endMs) throw new Error(`not closed after ${JSON.stringify(this.got)}`);
      await this.#next();
    }
    return this.got;
  }

  /** The client's half of STARTTLS, after the server said to begin. */
  async startTls(): Promise<void> {
    const plain = this.socket;
    plain.removeAllListeners();
    this.got = '';
    const secure = tls.connect({ socket: plain, rejectUnauthorized: false });
    this.socket = secure;
    this.#listen(secure);
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve);
      secure.once('error', reject);
    });
  }

  end(): void {
    this.socket.destroy();
  }

  #listen(socket: net.Socket): void {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.got += chunk.toString('latin1');
      this.#woken();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#woken();
    });
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 50);
      this.#woken = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function fakeChain(rig: DoorRig, { ask }: RigOptions): Chain {
  const chain = {
    ask: async (question: string) => ask?.(question) ?? { word: 'pass', plugin: undefined },
    tell: (report: string, session: Session) =>
      void rig.told.push(session.account === undefined ? report : `${report} ${session.account}`),
    wants: () => true,
    close: async () => {},
  };
  return chain as unknown as Chain;
}

function fakeRouter(rig: DoorRig): Router {
  const unused = (): never => {
    throw new Error('a mail door asks for sessions only');
  };
  return {
    isLocalDomain: unused,
    recipient: unused,
    login: unused,
    scramStart: async () => ({ salt: Buffer.alloc(16), iterations: 4096 }),
    scramProof: async () => 'no',
    deliver: unused,
    settle: unused,
    request: unused,
    requestMember: unused,
    backends: () => [],
    ready: async () => {},
    close: async () => {},
    async openSession(_session, _service, credentials) {
      const { user } = credentials;
      const password = credentials.mechanism === 'password' ? credentials.password : '';
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (password === 'unreachable') return { outcome: 'unavailable' };
      if (password === 'limit') return { outcome: 'refused', reason: 'limit' };
      if (password !== 'right') return { outcome: 'refused', reason: 'credentials' };
      const stream = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          rig.ownerGot.set(user, (rig.ownerGot.get(user) ?? '') + chunk.toString('latin1'));
          for (const line of chunk.toString('latin1').split('\r\n').slice(0, -1)) {
            if (/^\w+ LOGOUT$/i.test(line)) this.push(null);
            else this.push(`<${user}> ${line}\r\n`);
          }
          done();
        },
        final(done) {
          this.push(null);
          done();
        },
      });
      rig.streams.push(stream);
      return { outcome: 'accepted', stream, capability: 'IMAP4rev1 IDLE' };
    },
  };
}
