/**
 * An OAuth issuer for tests: a key set, an introspection endpoint and tokens
 * signed with real keys, on loopback. It can be made to fail in many ways.
 */
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export type IssuerMood = 'well' | 'silent' | 'error' | 'garbage' | 'huge' | 'redirect';

const json = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

interface IssuerKeyPair {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** Made once: it takes a while. */
let rsaPair: { privateKey: KeyObject; publicKey: KeyObject } | undefined;

export class TokenIssuer {
  mood: IssuerMood = 'well';
  /** Requests so far. */
  readonly asked = { keys: 0, introspection: 0 };
  /** What introspection says, by token; others are not active. */
  readonly opaque = new Map<string, Record<string, unknown>>();
  readonly #server: http.Server;
  readonly #keys = new Map<string, IssuerKeyPair>();

  private constructor(server: http.Server) {
    this.#server = server;
    rsaPair ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.addKey('rsa', 'RS256', rsaPair);
    this.addKey('ec', 'ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }));
    this.addKey('ed', 'EdDSA', generateKeyPairSync('ed25519'));
  }

  static async open(): Promise<TokenIssuer> {
    const server = http.createServer();
    const issuer = new TokenIssuer(server);
    server.on('request', (request, response) => issuer.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return issuer;
  }

  addKey(kid: string, alg: string, pair: { privateKey: KeyObject; publicKey: KeyObject }): void {
    this.#keys.set(kid, { kid, alg, ...pair });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The lines of a configuration that trusts this issuer. */
  config(kind: 'keys' | 'introspection', secretFile = ''): string {
    const common = [
      `login.oauth_issuer = "${this.url}"`,
      'login.oauth_audience = "mail"',
      'login.oauth_timeout = "500ms"',
    ];
    const own =
      kind === 'keys'
        ? [`login.oauth_jwks = "${this.url}/keys"`]
        : [
            `login.oauth_introspection = "${this.url}/introspect"`,
            'login.oauth_client_id = "postern"',
            `login.oauth_client_secret_file = "${secretFile}"`,
          ];
    return [...common, ...own].join('\n');
  }

  claims(email: string, more: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      iss: this.url,
      aud: ['mail', 'calendar'],
      exp: Math.floor(Date.now() / 1000) + 300,
      email,
      ...more,
    };
  }

  /** A signed token. @param header  Replaces fields of the real one. */
  token(kid: string, claims: Record<string, unknown>, header: Record<string, unknown> = {}): string {
    const pair = this.#keys.get(kid)!;
    const signed = `${json({ alg: pair.alg, kid, typ: 'at+jwt', ...header })}.${json(claims)}`;
    const hash = pair.alg === 'EdDSA' ? null : 'sha256';
    const signature = sign(hash, Buffer.from(signed), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }

  /** The classic forgeries. */
  forged(kind: 'none' | 'hmac-with-public-key' | 'other-key', claims: Record<string, unknown>): string {
    const rsa = this.#keys.get('rsa')!;
    if (kind === 'none') return `${json({ alg: 'none' })}.${json(claims)}.`;
    if (kind === 'other-key') {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const signed = `${json({ alg: 'RS256', kid: 'rsa' })}.${json(claims)}`;
      return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
    }
    const signed = `${json({ alg: 'HS256', kid: 'rsa' })}.${json(claims)}`;
    const secret = rsa.publicKey.export({ type: 'spki', format: 'pem' });
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    const isKeys = request.url === '/keys';
    this.asked[isKeys ? 'keys' : 'introspection'] += 1;
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      switch (this.mood) {
        case 'silent':
          return;
        case 'error':
          response.writeHead(500).end('{"active":true}');
          return;
        case 'garbage':
          response.end('<html>');
          return;
        case 'huge':
          response.end(`{"active":true,"x":"${'x'.repeat(1_000_000)}"}`);
          return;
        case 'redirect':
          response.writeHead(302, { location: '/elsewhere' }).end();
          return;
      }
      if (isKeys) {
        const keys = [...this.#keys.values()].map(({ kid, alg, publicKey }) => ({
          ...publicKey.export({ format: 'jwk' }),
          kid,
          alg,
          use: 'sig',
        }));
        response.end(JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'secret' }, 7, ...keys] }));
        return;
      }
      if (request.headers.authorization !== `Basic ${Buffer.from('postern:s%3Acret').toString('base64')}`) {
        response.writeHead(401).end('{}');
        return;
      }
      const token = new URLSearchParams(body).get('token') ?? '';
      const known = this.opaque.get(token);
      response.end(JSON.stringify(known === undefined ? { active: false } : { active: true, ...known }));
    });
  }
}
