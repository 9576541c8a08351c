/**
 * Plain HTTP on port 80: answers the authority's challenges (RFC 8555 8.3), and
 * sends everybody else to HTTPS. Nothing else is served here.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { MutableSession } from '../session/session.ts';
import type { AcmeState } from './acme-state.ts';

const challengePath = '/.well-known/acme-challenge/';
const headerBytesMax = 8 * 1024;
const requestsPerConnectionMax = 10;

export interface HttpChallengeDoor {
  accept(socket: Socket, session: MutableSession): void;
  close(): void;
}

/** @param waitMs  From connection to the whole request header, in all. */
export function openHttpChallengeDoor(
  acme: Pick<AcmeState, 'keyAuthorization'>,
  waitMs: number,
): HttpChallengeDoor {
  const server = createServer(
    {
      maxHeaderSize: headerBytesMax,
      headersTimeout: waitMs,
      requestTimeout: waitMs,
      keepAliveTimeout: 5000,
      connectionsCheckingInterval: 1000,
    },
    (request, response) => answer(request, response, acme),
  );
  server.maxRequestsPerSocket = requestsPerConnectionMax;
  return {
    accept(socket) {
      server.emit('connection', socket);
      socket.resume();
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  acme: Pick<AcmeState, 'keyAuthorization'>,
): void {
  request.resume();
  const { status, text, location } = answerTo(request, acme);
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
    ...(location === undefined ? {} : { location }),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

function answerTo(
  { method = '', url = '', headers }: IncomingMessage,
  acme: Pick<AcmeState, 'keyAuthorization'>,
): { readonly status: number; readonly text: string; readonly location?: string } {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, text: 'Only GET\n' };
  if (url.startsWith(challengePath)) {
    // RFC 8555 8.3: a token is base64url.
    const token = url.slice(challengePath.length);
    const found = /^[A-Za-z0-9_-]{1,256}$/.test(token) ? acme.keyAuthorization(token) : undefined;
    return found === undefined ? { status: 404, text: 'Not found\n' } : { status: 200, text: found };
  }
  const host = /^([A-Za-z0-9.-]{1,253})(?::\d{1,5})?$/.exec(headers.host ?? '')?.[1];
  if (host === undefined || !/^\/[\x21-\x7e]{0,2000}$/.test(url))
    return { status: 400, text: 'Bad request\n' };
  return { status: 308, text: 'See HTTPS\n', location: `https://${host}${url}` };
}
