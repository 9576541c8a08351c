/**
 * Where gateways of this machine open sessions on sockets of their own
 * (`cluster-protocol/session-opening.ts`). A socket that has said what it opens
 * is handed on as a stream of a link is: with `respond`, `headersSent`, `close`.
 *
 * Measured beside streams of links, per MB of a bulk FETCH: 180 us of CPU
 * against 2,100, nearly all of it copies and collecting; and 9 KiB less memory
 * for an idle session. Links stay for what is not a session, for other machines,
 * and for sessions when sockets run out.
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import net from 'node:net';
import { encodeHead, type Head, HeadReader } from '../../cluster-protocol/session-opening.ts';
import type { SessionStream } from '../serve/service.ts';

/** A gateway writes its opening with the first segment. */
const openingMs = 10_000;
/** What a session may write ahead of its client, as on a stream of a link. */
const writeAheadBytes = 256 * 1024;

export interface SessionServer {
  /** Not listening yet. */
  readonly server: net.Server;
  /** Lets sessions end by themselves for `graceMs`, then ends them. */
  close(graceMs: number): Promise<void>;
}

/** @param socketsMax  More are closed at once: their gateways use a stream of a link. */
export function openSessionServer(
  socketsMax: number,
  opened: (stream: SessionStream, headers: IncomingHttpHeaders) => void,
): SessionServer {
  const open = new Set<net.Socket>();
  let emptied: (() => void) | undefined;
  function closed(this: net.Socket): void {
    open.delete(this);
    if (open.size === 0) emptied?.();
  }
  const server = net.createServer({ allowHalfOpen: true, highWaterMark: writeAheadBytes }, (socket) => {
    open.add(socket);
    socket.on('error', ignore);
    socket.on('close', closed);
    readHead(socket, opened);
  });
  server.maxConnections = socketsMax;
  return {
    server,
    async close(graceMs) {
      if (open.size === 0) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => {
          for (const socket of open) socket.destroy();
        }, graceMs);
        emptied = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    },
  };
}

function readHead(
  socket: net.Socket,
  opened: (stream: SessionStream, headers: IncomingHttpHeaders) => void,
): void {
  const reader = new HeadReader();
  const cut = (): void => void socket.destroy();
  const read = (chunk: Buffer): void => {
    let found: ReturnType<HeadReader['push']>;
    try {
      found = reader.push(chunk);
    } catch {
      socket.destroy();
      return;
    }
    if (found === undefined) return;
    // The client's bytes come after the answer: it flows on, and whoever answers listens before the next turn of the loop.
    if (found.rest.length > 0) {
      socket.destroy();
      return;
    }
    socket.setTimeout(0, cut);
    socket.off('data', read);
    socket.off('end', cut);
    opened(asStream(socket), found.head as IncomingHttpHeaders);
  };
  socket.setTimeout(openingMs, cut);
  socket.on('data', read);
  socket.on('end', cut);
}

interface Answering {
  headersSent: boolean;
  respond(headers: OutgoingHttpHeaders, options?: { endStream?: boolean }): void;
  close(): void;
}

/** The calls of a link's stream that a socket has not. Shared functions: ten thousand of these are idle. */
function asStream(socket: net.Socket): SessionStream {
  const answering: Answering = { headersSent: false, respond, close };
  return Object.assign(socket, answering) as unknown as SessionStream;
}

function respond(
  this: net.Socket & Answering,
  headers: OutgoingHttpHeaders,
  options?: { endStream?: boolean },
): void {
  this.headersSent = true;
  if (options?.endStream) this.end(encodeHead(headers as Head));
  else this.write(encodeHead(headers as Head));
}

/** Broken off: both ways, so that the gateway does not take it for an end. */
function close(this: net.Socket): void {
  this.destroy();
}

function ignore(): void {}
