/** `/healthz` and `/metrics` on a local port: for the supervisor's owner, a balancer and Prometheus. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { ListeningSockets } from '../../base/listening-sockets.ts';
import type { ListenAddress } from '../../base/settings.ts';
import type { Metrics } from './metrics.ts';

export interface Health {
  /** Clients can be served now. */
  readonly ok: boolean;
  readonly member: string;
  /** `starting`, `serving`, `stopping`. */
  readonly state: string;
  readonly backends: readonly string[];
  readonly connections: number;
  /** Under stress: shorter waits, and the last places for known clients. */
  readonly stress: boolean;
}

export interface HealthServer {
  /** As bound: `127.0.0.1:2880`. */
  readonly address: string;
  close(): void;
}

const requestMsMax = 5000;
const connectionsMax = 64;

/** @throws {Fault} `port-taken`, `bad-config` */
export async function openHealthServer(
  address: ListenAddress,
  metrics: Metrics,
  healthNow: () => Health,
  sockets?: ListeningSockets,
): Promise<HealthServer> {
  const server = createServer({
    requestTimeout: requestMsMax,
    headersTimeout: requestMsMax,
    maxHeaderSize: 8192,
  });
  server.maxConnections = connectionsMax;
  server.on('request', (request, response) => {
    request.resume();
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, 'text/plain', '');
    if (path === '/healthz') {
      const health = healthNow();
      return answer(response, health.ok ? 200 : 503, 'application/json', `${JSON.stringify(health)}\n`);
    }
    if (path !== '/metrics') return answer(response, 404, 'text/plain', '');
    metrics.registry.metrics().then(
      (page) => answer(response, 200, metrics.registry.contentType, page),
      (error: Error) => answer(response, 500, 'text/plain', `${error.message}\n`),
    );
  });
  const socketName = `health ${address.host} ${address.port}`;
  const inherited = sockets?.take(socketName);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if (inherited !== undefined) server.listen(inherited, resolve);
    else server.listen(address.port, address.host, resolve);
  }).catch((error: unknown) => {
    const where = `${address.host}:${address.port}`;
    if (errnoOf(error) === 'EADDRINUSE')
      throw new Fault(
        'port-taken',
        `listen.health: ${where} is in use by another program; stop it, or set another address`,
        {
          cause: error,
        },
      );
    throw new Fault('bad-config', `listen.health: cannot listen on ${where}: ${(error as Error).message}`, {
      cause: error,
    });
  });
  sockets?.keep(socketName, server, inherited === undefined);
  server.on('error', () => {});
  server.unref();
  const bound = server.address() as AddressInfo;
  return {
    address: bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function answer(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(body);
}
