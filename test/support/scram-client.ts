/**
 * The client's half of SCRAM-SHA-256, written from RFC 5802 and sharing no line
 * with the server's, so that the two can only agree by both being right. Every
 * part of an exchange can be bent.
 */
import { createHash, createHmac, pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

export interface ScramBend {
  /** GS2 header; `n,,` unless told. */
  readonly gs2?: string;
  /** Channel-binding data, after the header. */
  readonly binding?: Buffer;
  /** What is sent as the nonce in the last message. */
  readonly nonce?: (full: string) => string;
  readonly proof?: (proof: Buffer) => Buffer;
  readonly clientNonce?: string;
}

export interface ScramReply {
  readonly final: string;
  /** Is this the server's signature? */
  serverIsGenuine(serverFinal: string): boolean;
}

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

export class ScramClient {
  readonly #user: string;
  readonly #password: string;
  readonly #bend: ScramBend;
  readonly #gs2: string;
  readonly #bare: string;

  constructor(user: string, password: string, bend: ScramBend = {}) {
    this.#user = user;
    this.#password = password;
    this.#bend = bend;
    this.#gs2 = bend.gs2 ?? 'n,,';
    const name = this.#user.replaceAll('=', '=3D').replaceAll(',', '=2C');
    this.#bare = `n=${name},r=${bend.clientNonce ?? 'rOprNGfwEbeRWgbNEkqO'}`;
  }

  first(): string {
    return this.#gs2 + this.#bare;
  }

  reply(serverFirst: string): ScramReply {
    const [, nonce = '', salt = '', iterations = ''] = /^r=(.*),s=(.*),i=(.*)$/.exec(serverFirst) ?? [];
    const binding = Buffer.concat([Buffer.from(this.#gs2), this.#bend.binding ?? Buffer.alloc(0)]);
    const withoutProof = `c=${binding.toString('base64')},r=${this.#bend.nonce?.(nonce) ?? nonce}`;
    const signed = `${this.#bare},${serverFirst},${withoutProof}`;
    const salted = pbkdf2Sync(
      this.#password,
      Buffer.from(salt, 'base64'),
      Number(iterations) || 1,
      32,
      'sha256',
    );
    const clientKey = hmac(salted, 'Client Key');
    const signature = hmac(createHash('sha256').update(clientKey).digest(), signed);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ signature[index]!));
    const expected = hmac(hmac(salted, 'Server Key'), signed);
    return {
      final: `${withoutProof},p=${(this.#bend.proof?.(proof) ?? proof).toString('base64')}`,
      serverIsGenuine(serverFinal) {
        const found = /^v=([^,]+)$/.exec(serverFinal);
        const given = Buffer.from(found?.[1] ?? '', 'base64');
        return given.length === expected.length && timingSafeEqual(given, expected);
      },
    };
  }
}

/** What binds a login to a connection, seen from the client's end (RFC 9266). */
export function exporterOf(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
}

/** The same by the server's certificate, which is signed with SHA-256 here (RFC 5929 4). */
export function endPointOf(socket: TLSSocket): Buffer {
  return createHash('sha256').update(socket.getPeerCertificate().raw).digest();
}
