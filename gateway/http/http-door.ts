/**
 * The HTTP door: takes accepted TCP connections, asks the chain, starts TLS and
 * speaks HTTP/2 or HTTP/1.1 as ALPN settles it. Parsing is Node's; what Node
 * leaves open (total deadlines, ambiguous headers, resets) is bounded here.
 */
import { createServer, type Server } from 'node:http';
import { constants, performServerHandshake, type ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Log } from '../../base/log.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { Router } from '../routing/router.ts';
import type { SaslOffer } from '../session/sasl-exchange.ts';
import type { MutableSession } from '../session/session.ts';
import { http1Exchange, http2Exchange } from './exchange.ts';
import { HttpConnection } from './http-connection.ts';
import { type HttpLimits, httpLimits } from './http-limits.ts';
import { refusalOf } from './refusals.ts';
import { checkHttp1, checkHttp2, headerBytesMax, headersMax } from './request-check.ts';
import { type HandlerParts, handleRequest } from './request-handler.ts';

export const httpAlpn: readonly string[] = ['h2', 'http/1.1'];

export interface HttpDoorOptions {
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  /**
   * Starts TLS as the server on an accepted socket, offering `alpn` and nothing else (CASES 63); resolves after the
   * handshake, rejects when it fails or its deadline passes. The door destroys `socket` then.
   */
  readonly startTls: (socket: Socket, alpn: readonly string[]) => Promise<TLSSocket>;
  /** From connection to the first whole request header, in all: `net.greeting_timeout`. */
  readonly greetingMs: number;
  readonly limits?: Partial<HttpLimits>;
  /** Only its issuer of tokens matters here: SCRAM over HTTP (RFC 7804) is not spoken. */
  readonly sasl?: SaslOffer;
}

export interface HttpDoor {
  /** Takes over a connection that has passed PROXY and throttle; `session` is its own. */
  accept(socket: Socket, session: MutableSession): void;
  readonly connectionCount: number;
  /** Lets running requests end for `graceMs`, then cuts what is left. */
  close(graceMs: number): Promise<void>;
}

export function openHttpDoor(options: HttpDoorOptions): HttpDoor {
  const limits: HttpLimits = { ...httpLimits, ...options.limits };
  const parts: HandlerParts = {
    chain: options.chain,
    router: options.router,
    log: options.log,
    limits,
    oauth: options.sasl?.oauth,
  };
  const connections = new Map<HttpConnection, Socket>();
  const byTlsSocket = new WeakMap<object, HttpConnection>();
  const http1 = openHttp1(parts, byTlsSocket);
  let closing = false;

  const serve = async (socket: Socket, connection: HttpConnection): Promise<void> => {
    const { session } = connection;
    // The client speaks first in TLS: there is nothing to overhear before a greeting.
    const verdict = await options.chain.ask('connect', session, { spokeFirst: async () => false });
    const refusal = refusalOf(verdict);
    if (refusal === 'disconnect') throw new Error(`refused by ${verdict.plugin ?? 'the chain'}`);
    connection.refusal = refusal;
    if (socket.destroyed) return;
    const tls = await options.startTls(socket, httpAlpn);
    const { name: cipher } = tls.getCipher();
    session.tls = {
      version: tls.getProtocol() ?? '',
      cipher,
      serverName: serverNameOf(tls),
      alpn: tls.alpnProtocol === false || tls.alpnProtocol === null ? undefined : tls.alpnProtocol,
    };
    tls.setNoDelay(true);
    byTlsSocket.set(tls, connection);
    if (session.tls.alpn === 'h2') serveHttp2(tls, connection, parts);
    else {
      connection.finish = () => void tls.end();
      http1.emit('connection', tls);
      tls.resume();
    }
  };

  return {
    accept(socket, session) {
      const startedAtMs = performance.now();
      let reason = 'closed';
      const connection = new HttpConnection(session, limits, options.greetingMs, (why) => {
        reason = why;
        socket.destroy();
      });
      connections.set(connection, socket);
      socket.on('error', () => {});
      options.chain.tell('connected', session);
      socket.once('close', () => {
        connections.delete(connection);
        connection.closed();
        options.chain.tell('disconnected', session);
        const { requests, bytesOut } = connection;
        options.log.info(
          {
            trace: session.id,
            protocol: 'http',
            client: session.client.address,
            port: session.client.port,
            listener: session.listener,
            tls: session.tls?.version,
            alpn: session.tls?.alpn,
            requests,
            bytesOut,
            reason,
            ms: Math.round(performance.now() - startedAtMs),
          },
          'connection',
        );
      });
      if (closing || socket.destroyed) {
        socket.destroy();
        return;
      }
      serve(socket, connection).catch((error: unknown) => {
        reason = error instanceof Error ? error.message : String(error);
        socket.destroy();
      });
    },
    get connectionCount() {
      return connections.size;
    },
    async close(graceMs) {
      closing = true;
      for (const connection of connections.keys()) connection.drain();
      const endsAtMs = performance.now() + graceMs;
      while (connections.size > 0 && performance.now() < endsAtMs) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      for (const socket of connections.values()) socket.destroy();
      http1.close();
    },
  };
}

function serverNameOf(tls: TLSSocket): string | undefined {
  const { servername } = tls as unknown as { servername?: string | false | null };
  return typeof servername === 'string' && servername !== '' ? servername : undefined;
}

function openHttp1(parts: HandlerParts, connections: WeakMap<object, HttpConnection>): Server {
  const { limits } = parts;
  const server = createServer({
    maxHeaderSize: headerBytesMax,
    // One request in bytes and time is bounded by our own clock, see HttpConnection.
    keepAliveTimeout: 0,
    headersTimeout: 0,
    requestTimeout: 0,
    insecureHTTPParser: false,
    requireHostHeader: true,
    noDelay: true,
  });
  // One more than is allowed is enough to see that there are too many.
  server.maxHeadersCount = headersMax + 1;
  server.on('request', (request, response) => {
    const connection = connections.get(request.socket);
    if (connection === undefined) return void request.socket.destroy();
    if (!connection.begin()) return;
    response.once('close', () => connection.end());
    const check = checkHttp1(request.httpVersion, request.rawHeaders, limits.bodyBytesMax);
    void handleRequest(parts, connection, http1Exchange(request, response), check);
  });
  server.on('upgrade', (_request, socket) => socket.destroy());
  server.on('connect', (_request, socket) => socket.destroy());
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable || socket.destroyed) return void socket.destroy();
    const status =
      error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
      socket.destroy(),
    );
    const session = connections.get(socket)?.session;
    parts.log.info(
      { trace: session?.id, client: session?.client.address, why: error.code },
      'http request malformed',
    );
  });
  return server;
}

function serveHttp2(tls: TLSSocket, connection: HttpConnection, parts: HandlerParts): void {
  const { limits } = parts;
  const session: ServerHttp2Session = performServerHandshake(tls, {
    maxHeaderListPairs: headersMax,
    maxSessionInvalidFrames: 20,
    maxSessionRejectedStreams: 20,
    maxOutstandingPings: 2,
    maxSessionMemory: 4,
    maxSettings: 16,
    // nghttp2 has a bound of its own; it counts only what reaches it in a certain order.
    streamResetBurst: limits.resetBurst,
    streamResetRate: limits.resetsPerSecond,
    settings: {
      maxConcurrentStreams: limits.concurrentRequestsMax,
      maxHeaderListSize: headerBytesMax,
      enablePush: false,
      initialWindowSize: 64 * 1024,
    },
  });
  // A TLSSocket without a tls.Server never says that its handshake is over; the session waits for this word.
  tls.emit('secureConnect');
  connection.finish = () => session.close();
  session.on('error', () => tls.destroy());
  session.on('goaway', () => session.close());
  session.on('frameError', () => session.destroy());
  session.on('stream', (stream, headers, flags) => {
    if (!connection.begin()) return;
    stream.once('close', () => {
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) connection.reset();
      connection.end();
    });
    const check = checkHttp2(headers, limits.bodyBytesMax);
    const ended = (flags & 0x1) !== 0; // END_STREAM
    void handleRequest(parts, connection, http2Exchange(stream, headers, ended), check).then((close) => {
      if (close) session.close();
    });
  });
}
