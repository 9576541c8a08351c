/** Makes the session record of a new client connection. */
import type { TLSSocket } from 'node:tls';
import { randomId } from '../../base/random-id.ts';
import type { Client, MutableSession, Protocol, TlsFacts } from './session.ts';

export function newSession(protocol: Protocol, client: Client, listener: string): MutableSession {
  return {
    id: randomId(),
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
