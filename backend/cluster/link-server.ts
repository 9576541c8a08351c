/**
 * Where gateways' links arrive: an HTTP/2 server on a Unix socket of this
 * machine, or over mutual TLS from other machines. One stream is one client
 * session or request; this file checks its opening and hands it to its service.
 *
 * Ten thousand idle sessions are ten thousand streams here, so a stream gets no
 * closure, listener or timer of its own beyond what its service needs.
 */
import http2, {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import type { Socket } from 'node:net';
import { Fault } from '../../base/fault.ts';
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
import type { Opening, Service, ServiceContext, SessionService, SessionStream } from '../serve/service.ts';
import { DrainingSocket } from './draining-socket.ts';
import { type LinkDoor, type LinkListen, openLinkDoor, openUnixDoor, type TlsPair } from './link-door.ts';
import { readOpening, serviceOfPath, speaksVersion } from './opening.ts';
import { openSessionServer, type SessionServer } from './session-server.ts';

/** Streams one link may carry at once. */
const streamsPerLinkMax = 100_000;
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

export interface LinkServer {
  /** Where it listens, in the order it was told to: the path, or `host:port`. */
  readonly addresses: readonly string[];
  readonly streams: number;
  /** Takes no more openings (refused by GOAWAY, or `busy`) and no more links. */
  stopOpenings(): void;
  /** What is shown to gateways from now on; links that are up stay. */
  renew(pair: TlsPair): void;
  /** Who is a member has changed: links of those that are none any more are cut. */
  recheck(): void;
  /** Resolves when the requests under way (not the sessions) are answered, or after `withinMs`. */
  requestsDone(withinMs: number): Promise<void>;
  /** Ends the links: gracefully while streams end by themselves, by force after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Streams that last as long as a client's session. */
type SessionName = 'imap' | 'pop3';
const isSession: Readonly<Partial<Record<ServiceName, true>>> = {
  imap: true,
  pop3: true,
} satisfies Record<SessionName, true>;

type Services = Readonly<
  Partial<Record<Exclude<ServiceName, SessionName>, Service> & Record<SessionName, SessionService>>
>;

/**
 * @throws {Fault} `port-taken`, `cannot-write`
 */
export async function openLinkServer(
  listens: readonly LinkListen[],
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
  const doors: LinkDoor[] = [];
  const sessions: SessionServer[] = [];
  for (const listen of listens) {
    if (listen.kind === 'sessions') {
      const server = openSessionServer(listen.socketsMax, links.onSession);
      sessions.push(server);
      doors.push(await openUnixDoor(server.server, listen.path));
    } else doors.push(await openLinkDoor(listen, accept, context.log));
  }
  return {
    addresses: doors.map(({ address }) => address),
    get streams() {
      return links.streams;
    },
    stopOpenings() {
      for (const door of doors) door.close();
      links.stop();
    },
    renew(pair) {
      for (const door of doors) door.renew(pair);
    },
    recheck() {
      for (const door of doors) door.recheck();
    },
    requestsDone: (withinMs) => links.requestsDone(withinMs),
    async close(graceMs) {
      await Promise.all([links.close(graceMs), ...sessions.map((server) => server.close(graceMs))]);
    },
  };
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

  /** A session on a socket of its own. */
  readonly onSession = (stream: SessionStream, headers: IncomingHttpHeaders): void => {
    const name = serviceOfPath(headers[':path']);
    if (name === undefined || isSession[name] !== true) answer(stream, linkStatus.badRequest);
    else this.onStream(stream as ServerHttp2Stream, headers);
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
    // What serves a session serves any stream; the others are given streams of links alone.
    const service = name && (this.#services[name] as Service | undefined);
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
    const owned = opening.account === '' ? undefined : this.#context.owns(opening.account);
    if (owned?.ok === false) {
      answer(stream, linkStatus.notOwner, ownerHint(this.#context, opening.account));
      return undefined;
    }
    // The gateway knows of a later grant than this backend does: whoever it went to, it was not to what stands here
    // now. An earlier one is only a gateway that is a little behind, and has come to the right place.
    if (owned !== undefined && opening.epoch > owned.epoch) {
      answer(stream, linkStatus.busy, { [linkHeader.reason]: 'busy' satisfies RefusalReason });
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
