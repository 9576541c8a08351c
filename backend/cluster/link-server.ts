/**
 * Where gateways' links arrive: an HTTP/2 server on a Unix socket of this
 * machine, or over mutual TLS from other machines. One stream is one client
 * session or request; this file checks its opening and hands it to its service.
 *
 * Ten thousand idle sessions are ten thousand streams here, so a stream gets no
 * closure, listener or timer of its own beyond what its service needs.
 */
import { rm } from 'node:fs/promises';
import http2, {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import net, { type Socket } from 'node:net';
import tls from 'node:tls';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { ListenAddress } from '../../base/settings.ts';
import {
  linkHeader,
  linkStatus,
  linkWindowBytes,
  protocolVersion,
  type RefusalReason,
  type ServiceName,
  streamWindowBytes,
} from '../../cluster-protocol/link.ts';
import { answer, factsOf, ownerHint, statusOf } from '../serve/answers.ts';
import type { Opening, Service, ServiceContext } from '../serve/service.ts';
import { DrainingSocket } from './draining-socket.ts';
import { readOpening, serviceOfPath, speaksVersion } from './opening.ts';

/** Streams one link may carry at once. */
const streamsPerLinkMax = 100_000;
const linksMax = 1024;
/** Openings of 100 recipients are the largest: 100 × (3 × 64 + 253) bytes. */
const headerListBytesMax = 64 * 1024;
/** Node counts what a connection's streams hold and refuses new ones past this; its default of 10 MB is some 1,000 streams. */
const linkMemoryMbMax = 4096;
/** A gateway whose clients all leave at once resets as many streams at once; nghttp2's default (1,000, then 33/s) ends the link. */
const resetsBurst = 1_000_000;
const resetsPerSecond = 100_000;
const keepAliveMs = 10_000;
/** Destroying a link with very many streams takes a moment; the process does not wait longer for it. */
const destroyMs = 500;

export type LinkListen =
  | { readonly kind: 'unix'; readonly path: string }
  | {
      readonly kind: 'tls';
      readonly listen: ListenAddress;
      readonly key: string | Buffer;
      readonly cert: string | Buffer;
      /** The cluster's own CA: nobody else's certificates are accepted. */
      readonly ca: string | Buffer;
      /** Is this (`subjectaltname` of a certificate the CA has signed) a member? The CA signs for the public listeners too. */
      isMember(subjectAltName: string): boolean;
    };

export interface LinkServer {
  /** Where it listens: the path, or `host:port`. */
  readonly address: string;
  readonly streams: number;
  /** Takes no more openings (refused by GOAWAY, or `busy`) and no more links. */
  stopOpenings(): void;
  /** Resolves when the requests under way (not the sessions) are answered, or after `withinMs`. */
  requestsDone(withinMs: number): Promise<void>;
  /** Ends the links: gracefully while streams end by themselves, by force after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

type Services = Readonly<Partial<Record<ServiceName, Service>>>;

/** Streams that last as long as a client's session. */
const isSession: Readonly<Partial<Record<ServiceName, true>>> = { imap: true, pop3: true };

/**
 * @throws {Fault} `port-taken`, `cannot-write`
 */
export async function openLinkServer(
  listen: LinkListen,
  services: Services,
  context: ServiceContext,
): Promise<LinkServer> {
  const options: ServerOptions = {
    settings: {
      enablePush: false,
      initialWindowSize: streamWindowBytes,
      maxConcurrentStreams: streamsPerLinkMax,
      maxHeaderListSize: headerListBytesMax,
    },
    maxSessionMemory: linkMemoryMbMax,
    streamResetBurst: resetsBurst,
    streamResetRate: resetsPerSecond,
  };
  const http = http2.createServer(options);
  const links = new Links(services, context);
  http.on('session', links.onLink);
  http.on('stream', links.onStream);
  const accept = (socket: Socket): void => {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    http.emit('connection', new DrainingSocket(socket));
  };
  const server = listen.kind === 'unix' ? net.createServer(accept) : tlsServer(listen, accept, context);
  server.maxConnections = linksMax;
  await start(server, listen);
  const bound = server.address();
  return {
    address:
      listen.kind === 'unix'
        ? listen.path
        : `${listen.listen.host.includes(':') ? `[${listen.listen.host}]` : listen.listen.host}:${typeof bound === 'object' ? bound?.port : 0}`,
    get streams() {
      return links.streams;
    },
    stopOpenings() {
      server.close();
      links.stop();
    },
    requestsDone: (withinMs) => links.requestsDone(withinMs),
    close: (graceMs) => links.close(graceMs),
  };
}

type TlsListen = Extract<LinkListen, { kind: 'tls' }>;

function tlsServer(listen: TlsListen, accept: (socket: Socket) => void, context: ServiceContext): net.Server {
  const server = tls.createServer(
    {
      key: listen.key,
      cert: listen.cert,
      ca: listen.ca,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
    },
    (socket) => {
      const names = socket.getPeerCertificate().subjectaltname ?? '';
      if (socket.alpnProtocol === 'h2' && listen.isMember(names)) {
        accept(socket);
        return;
      }
      context.log.warn({ names, protocol: socket.alpnProtocol }, 'link refused: not a member');
      socket.destroy();
    },
  );
  server.on('tlsClientError', (error) => context.log.warn({ error: error.message }, 'link refused'));
  return server;
}

class Links {
  streams = 0;
  #stopped = false;
  #requests = 0;
  #requestsDone: (() => void) | undefined;
  readonly #links = new Set<ServerHttp2Session>();
  readonly #services: Services;
  readonly #context: ServiceContext;

  constructor(services: Services, context: ServiceContext) {
    this.#services = services;
    this.#context = context;
  }

  readonly onLink = (link: ServerHttp2Session): void => {
    const { log } = this.#context;
    link.setLocalWindowSize(linkWindowBytes);
    this.#links.add(link);
    log.info({ links: this.#links.size }, 'link up');
    link.on('error', (error: Error) => log.warn({ error: error.message }, 'link failed'));
    link.on('close', () => {
      this.#links.delete(link);
      log.info({ links: this.#links.size }, 'link down');
    });
  };

  readonly onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    stream.on('error', ignore);
    const opened = this.#open(stream, headers);
    if (opened === undefined) return;
    this.streams++;
    stream.on('close', this.#onStreamClose);
    void this.#serve(stream, opened.name, opened.service, opened.opening);
  };

  readonly #onStreamClose = (): void => {
    this.streams--;
  };

  /** Checks the opening; answers it itself when it is refused. */
  #open(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
  ): { name: ServiceName; service: Service; opening: Opening } | undefined {
    const { log } = this.#context;
    if (!speaksVersion(headers)) {
      answer(stream, linkStatus.versionUnknown, { [linkHeader.version]: String(protocolVersion) });
      return undefined;
    }
    const name = serviceOfPath(headers[':path']);
    const service = name && this.#services[name];
    if (service === undefined) {
      answer(stream, linkStatus.badRequest);
      return undefined;
    }
    if (this.#stopped) {
      answer(stream, linkStatus.busy, { [linkHeader.reason]: 'busy' satisfies RefusalReason });
      return undefined;
    }
    let opening: Opening;
    try {
      opening = readOpening(name!, headers);
    } catch (error) {
      log.warn({ service: name, error: Fault.from(error).message }, 'opening refused');
      answer(stream, linkStatus.badRequest);
      return undefined;
    }
    if (opening.account !== '' && !this.#context.owns(opening.account).ok) {
      answer(stream, linkStatus.notOwner, ownerHint(this.#context, opening.account));
      return undefined;
    }
    return { name: name!, service, opening };
  }

  async #serve(
    stream: ServerHttp2Stream,
    name: ServiceName,
    service: Service,
    opening: Opening,
  ): Promise<void> {
    const isRequest = isSession[name] !== true;
    if (isRequest) this.#requests++;
    try {
      await service(stream, opening, this.#context);
    } catch (error) {
      const { trace, account } = opening;
      const facts = { service: name, trace, account, ...factsOf(error) };
      if (stream.destroyed) this.#context.log.info(facts, 'service ended with its stream');
      else this.#context.log.error(facts, 'service failed');
      const status = statusOf(error);
      if (!stream.headersSent)
        answer(stream, status, status === linkStatus.notOwner ? ownerHint(this.#context, account) : {});
      else stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    } finally {
      if (isRequest && --this.#requests === 0) this.#requestsDone?.();
    }
  }

  requestsDone(withinMs: number): Promise<void> {
    if (this.#requests === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#requestsDone = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** GOAWAY on every link: what runs may end, and the gateway asks again elsewhere what was refused. */
  stop(): void {
    this.#stopped = true;
    for (const link of this.#links) link.close();
  }

  async close(graceMs: number): Promise<void> {
    const all = [...this.#links];
    const closed = Promise.all(all.map((link) => new Promise<void>((done) => link.once('close', done))));
    const timer = setTimeout(() => {
      for (const link of all) link.destroy();
    }, graceMs);
    for (const link of all) if (!link.closed) link.close();
    let force: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      force = setTimeout(resolve, graceMs + destroyMs);
    });
    await Promise.race([closed, late]);
    clearTimeout(timer);
    clearTimeout(force);
  }
}

function ignore(): void {}

/** `bind` of a Unix socket happens inside `listen`, in this turn of the loop: the mask covers it and nothing else. */
async function start(server: net.Server, listen: LinkListen): Promise<void> {
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
      server.listen(listen.path, resolve);
    } finally {
      process.umask(mask);
    }
  });
}
