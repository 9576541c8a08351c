/**
 * One address where gateways' links arrive: a Unix socket of this machine, or
 * TCP with mutual TLS for other machines. Who is no member of the cluster is not
 * let in; who stops being one is put out.
 */
import { rm } from 'node:fs/promises';
import net, { type Socket } from 'node:net';
import tls from 'node:tls';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { ListenAddress } from '../../base/settings.ts';

const linksMax = 1024;

export type LinkListen =
  | { readonly kind: 'unix'; readonly path: string }
  /** Where sessions open on sockets of their own, and how many of those at once. */
  | { readonly kind: 'sessions'; readonly path: string; readonly socketsMax: number }
  | {
      readonly kind: 'tls';
      readonly listen: ListenAddress;
      /** The cluster's own CA, `ca`: nobody else's certificates are accepted. */
      readonly pair: TlsPair;
      /** Is this (`subjectaltname` of a certificate the CA has signed) a member? The CA signs for the public listeners too. */
      isMember(subjectAltName: string): boolean;
    };

/** PEM texts. */
export interface TlsPair {
  readonly ca: string | Buffer;
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

export interface LinkDoor {
  /** The path, or `host:port`. */
  readonly address: string;
  /** What is shown from now on; links that are up stay. */
  renew(pair: TlsPair): void;
  /** Who is a member has changed: links of those that are none any more are cut. */
  recheck(): void;
  /** No more links; those that are up go on. */
  close(): void;
}

/** @throws {Fault} `port-taken`, `cannot-write` */
export async function openLinkDoor(
  listen: Exclude<LinkListen, { kind: 'sessions' }>,
  accept: (socket: Socket) => void,
  log: Log,
): Promise<LinkDoor> {
  if (listen.kind === 'tls') {
    const door = new TlsDoor(listen, accept, log);
    door.server.maxConnections = linksMax;
    const address = await start(door.server, listen);
    return {
      address,
      renew: (pair) => door.renew(pair),
      recheck: () => door.recheck(),
      close: () => void door.server.close(),
    };
  }
  const server = net.createServer(accept);
  server.maxConnections = linksMax;
  return openUnixDoor(server, listen.path);
}

/** @throws {Fault} `cannot-write` */
export async function openUnixDoor(server: net.Server, path: string): Promise<LinkDoor> {
  const address = await start(server, { kind: 'unix', path });
  return { address, renew() {}, recheck() {}, close: () => void server.close() };
}

type TlsListen = Extract<LinkListen, { kind: 'tls' }>;

/** Mutual TLS: who has no certificate of a member is not spoken to. */
class TlsDoor {
  readonly server: tls.Server;
  readonly #listen: TlsListen;
  readonly #log: Log;
  /** Links that are up, with the names their certificates had. */
  readonly #sockets = new Map<tls.TLSSocket, string>();

  constructor(listen: TlsListen, accept: (socket: Socket) => void, log: Log) {
    this.#listen = listen;
    this.#log = log;
    const { ca, cert, key } = listen.pair;
    this.server = tls.createServer(
      {
        ...{ ca, cert, key },
        requestCert: true,
        rejectUnauthorized: true,
        // 1.3 without early data, which Node's server does not take: nothing of a link can be replayed (RFC 8446 8).
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['h2'],
      },
      (socket) => {
        const names = socket.getPeerCertificate().subjectaltname ?? '';
        if (socket.alpnProtocol === 'h2' && listen.isMember(names)) {
          this.#sockets.set(socket, names);
          socket.once('close', () => this.#sockets.delete(socket));
          accept(socket);
          return;
        }
        this.#refuse(socket, names);
      },
    );
    this.server.on('tlsClientError', (error) => log.warn({ error: error.message }, 'link refused'));
  }

  renew({ ca, cert, key }: TlsPair): void {
    this.server.setSecureContext({ ca, cert, key, minVersion: 'TLSv1.3' });
  }

  recheck(): void {
    for (const [socket, names] of this.#sockets)
      if (!this.#listen.isMember(names)) this.#refuse(socket, names);
  }

  #refuse(socket: tls.TLSSocket, names: string): void {
    this.#log.warn({ names, protocol: socket.alpnProtocol }, 'link refused: not a member');
    socket.destroy();
  }
}

/**
 * `bind` of a Unix socket happens inside `listen`, in this turn of the loop: the mask covers it and nothing else.
 * @returns Where it listens.
 */
async function start(
  server: net.Server,
  listen: TlsListen | { readonly kind: 'unix'; readonly path: string },
): Promise<string> {
  if (listen.kind === 'unix') await rm(listen.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const place = listen.kind === 'unix' ? listen.path : `${listen.listen.host}:${listen.listen.port}`;
      const code = errnoOf(error) === 'EADDRINUSE' ? 'port-taken' : 'cannot-write';
      reject(new Fault(code, `${place}: cannot listen for links (${errnoOf(error)})`, { cause: error }));
    });
    if (listen.kind === 'tls') {
      server.listen(listen.listen, resolve);
      return;
    }
    const mask = process.umask(0o177);
    try {
      // Sessions come in bursts, each with a socket; the kernel caps this by net.core.somaxconn.
      server.listen({ path: listen.path, backlog: 4096 }, resolve);
    } finally {
      process.umask(mask);
    }
  });
  if (listen.kind === 'unix') return listen.path;
  const { host } = listen.listen;
  const bound = server.address();
  return `${host.includes(':') ? `[${host}]` : host}:${typeof bound === 'object' ? bound?.port : 0}`;
}
