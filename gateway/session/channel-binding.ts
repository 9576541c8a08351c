/**
 * What of a TLS connection both ends know and nobody between them can: a login
 * bound to it cannot be carried over to another connection (RFC 5056).
 */
import { createHash, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { SaslChannel } from './sasl-exchange.ts';

const exporterBytes = 32;

/** A connection as SASL sees it. @param socketNow  Another one after STARTTLS. */
export function channelOf(socketNow: () => Socket): SaslChannel {
  return {
    canBind: () => canBind(socketNow()),
    bind: (type) => channelBinding(socketNow(), type),
  };
}

/** Hash of a certificate's signature, by the name OpenSSL gives the algorithm; MD5 and SHA-1 count as SHA-256 (RFC 5929 4.1). */
const signatureHashes: readonly (readonly [RegExp, string])[] = [
  [/sha-?512/i, 'sha512'],
  [/sha-?384/i, 'sha384'],
  [/sha-?256|sha-?1\b|md5/i, 'sha256'],
];

/**
 * Can logins be bound to this connection? Only TLS 1.3 is asked: under 1.2 clients take `tls-unique`, which is not
 * safe there without the extended master secret (RFC 7627) and is not served.
 */
function canBind(socket: Socket): socket is TLSSocket {
  return socket instanceof TLSSocket && socket.getProtocol() === 'TLSv1.3';
}

/** The binding data of a type; `undefined` for a type that is not served on this connection. */
function channelBinding(socket: Socket, type: string): Buffer | undefined {
  if (!canBind(socket)) return undefined;
  switch (type) {
    case 'tls-exporter': // RFC 9266 4.2
      return socket.exportKeyingMaterial(exporterBytes, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
    case 'tls-server-end-point': // RFC 5929 4
      return endPoint(socket);
    default:
      return undefined;
  }
}

function endPoint(socket: TLSSocket): Buffer | undefined {
  const { raw } = socket.getCertificate() as { raw?: Buffer };
  if (raw === undefined) return undefined;
  const algorithm = new X509Certificate(raw).signatureAlgorithm ?? '';
  const hash = signatureHashes.find(([pattern]) => pattern.test(algorithm))?.[1];
  // Ed25519 has no hash of its own: the type is not defined for it.
  return hash === undefined ? undefined : createHash(hash).update(raw).digest();
}
