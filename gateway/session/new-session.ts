/** Makes the session record of a new client connection. */
import { randomFillSync } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { Client, MutableSession, Protocol, TlsFacts } from './session.ts';

/** Bytes of randomness in a trace id: enough that two never meet in one log. */
const traceBytes = 8;
/** Drawn in one call for many sessions: each call costs more than the rest of a session record. */
const pool = Buffer.alloc(traceBytes * 256);
let poolAt = pool.length;

function newTraceId(): string {
  if (poolAt === pool.length) {
    randomFillSync(pool);
    poolAt = 0;
  }
  poolAt += traceBytes;
  return pool.toString('hex', poolAt - traceBytes, poolAt);
}

export function newSession(protocol: Protocol, client: Client, listener: string): MutableSession {
  return {
    id: newTraceId(),
    protocol,
    client,
    listener,
    startedAtMs: Date.now(),
    tls: undefined,
    greeting: undefined,
    account: undefined,
  };
}

/** What to know of a TLS connection whose handshake is done. */
export function tlsFactsOf(socket: TLSSocket): TlsFacts {
  return {
    version: socket.getProtocol() ?? '',
    cipher: socket.getCipher()?.name ?? '',
    serverName: (socket as { servername?: string | false | null }).servername || undefined,
    alpn: socket.alpnProtocol || undefined,
  };
}
