/**
 * TLS towards clients: one context from the admin's certificate or the
 * cluster's own, and the one way a plain connection becomes a TLS connection,
 * whether from the first byte or after STARTTLS.
 */
import { constants, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import path from 'node:path';
import { createSecureContext, type SecureContext, type SecureVersion, TLSSocket } from 'node:tls';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Deadlines } from './deadline.ts';
import { HandshakeGate } from './handshake-gate.ts';

/** How often the files are read again. */
const lookEveryMs = 10_000;

export interface TlsContexts {
  /** @param serverName  As the client sent it, unchecked. One certificate serves all names today. */
  contextFor(serverName?: string): SecureContext;
  /**
   * Makes `socket` a TLS connection and resolves after the handshake, paused.
   *
   * What the socket had buffered goes into the handshake: for implicit TLS it is the ClientHello. After STARTTLS the
   * caller throws it away first (RFC 9051 6.2.1).
   *
   * @param alpn  The only protocols this port speaks; a client that offers others is refused (CASES 63, RFC 7301 3.2).
   *   One that offers none goes on.
   * @throws {Fault} `bad-syntax`: the handshake failed. `deadline-passed`. `gone`. The socket is destroyed.
   */
  startTls(socket: Socket, alpn: readonly string[]): Promise<TLSSocket>;
  /**
   * Reads certificate and key again, for handshakes that begin from now on. What is not good leaves the old ones in use.
   * @returns Whether they are others. @throws {Fault} `bad-config`
   */
  reload(): Promise<boolean>;
}

export interface TlsContextsOptions {
  /** PEM files: certificate with chain, and its key. */
  readonly certificate: string;
  readonly key: string;
  /** What an error names: `postern.toml:3 tls.certificate`, or the file's own name. */
  readonly place: string;
  readonly minimum: SecureVersion;
  /** Longest a handshake may take, in all. */
  readonly handshakeMs: number;
  readonly deadlines: Deadlines;
}

/** @throws {Fault} `bad-config`: a file that cannot be read, is no PEM, or two that do not belong together. */
export async function openTlsContexts(options: TlsContextsOptions): Promise<TlsContexts> {
  let pair = await readPair(options);
  let context = contextOf(pair, options);
  const gate = new HandshakeGate(options.deadlines);
  return {
    contextFor: () => context,
    startTls: (socket, alpn) => handshake(socket, alpn, context, gate, options),
    async reload() {
      const next = await readPair(options);
      if (next.cert === pair.cert && next.key === pair.key) return false;
      const { validTo, validToDate } = new X509Certificate(next.cert);
      if (validToDate.getTime() < Date.now())
        throw new Fault(
          'bad-config',
          `${options.place}: ${options.certificate} has expired (${validTo}); renew it`,
        );
      context = contextOf(next, options);
      pair = next;
      return true;
    },
  };
}

/** Looks at the files now and then: a certificate that was renewed on disk is shown without a restart. */
export function watchCertificate(
  contexts: Pick<TlsContexts, 'reload'>,
  log: Log,
  everyMs = lookEveryMs,
): { close(): void } {
  let looking = false;
  let seen = '';
  let said = '';
  const look = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    try {
      if (await contexts.reload()) log.info({}, 'certificate renewed');
      seen = '';
      said = '';
    } catch (error) {
      // Between the writing of one file and the other they do not match: only what lasts is said, and once.
      const { message } = Fault.from(error);
      if (message === seen && message !== said) {
        log.error({ error: message }, 'the certificate on disk is not good; the old one is shown');
        said = message;
      }
      seen = message;
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(() => void look(), everyMs);
  timer.unref();
  return { close: () => clearInterval(timer) };
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

async function readPair(options: TlsContextsOptions): Promise<Pair> {
  const [cert, key] = await Promise.all([
    readPem(options.certificate, options),
    readPem(options.key, options),
  ]);
  checkPair(cert, key, options);
  return { cert, key };
}

function contextOf({ cert, key }: Pair, { minimum }: TlsContextsOptions): SecureContext {
  return createSecureContext({
    cert,
    key,
    minVersion: minimum,
    honorCipherOrder: true,
    // A renegotiation in mid-session costs us and gives the client nothing (CVE-2011-1473); TLS 1.3 has none.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
  });
}

function handshake(
  socket: Socket,
  alpn: readonly string[],
  secureContext: SecureContext,
  gate: HandshakeGate,
  { deadlines, handshakeMs }: TlsContextsOptions,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    if (socket.destroyed) return reject(new Fault('gone', 'the client has closed the connection'));
    let secure: TLSSocket | undefined;
    const fail = (fault: Fault): void => {
      settle();
      secure?.on('error', ignore);
      secure?.destroy();
      socket.destroy();
      reject(fault);
    };
    const slow = (): void => fail(new Fault('deadline-passed', 'the TLS handshake took too long'));
    const broken = (error: Error): void =>
      fail(new Fault('bad-syntax', 'the TLS handshake failed', { detail: { error: error.message } }));
    const closed = (): void => fail(new Fault('gone', 'closed in the TLS handshake'));
    const done = (): void => {
      settle();
      secure!.pause();
      resolve(secure!);
    };
    const start = (): void => {
      if (socket.destroyed) return; // `close` follows
      secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: [...alpn] });
      secure.on('secure', done);
      secure.on('error', broken);
      // Before the handshake is done Node reports its failure here and closes; `error` comes only where a server listens.
      secure.on('_tlsError', broken);
      secure.on('close', closed);
    };
    const settle = (): void => {
      deadline.cancel();
      turn.leave();
      secure?.off('secure', done);
      secure?.off('error', broken);
      secure?.off('_tlsError', broken);
      secure?.off('close', closed);
      socket.off('close', closed);
    };
    const deadline = deadlines.start(handshakeMs, slow);
    socket.on('close', closed);
    // A handshake tells of its end in a later turn of the loop: `turn` is there by then.
    const turn = gate.enter(start, slow);
  });
}

function ignore(): void {}

async function readPem(file: string, { place }: TlsContextsOptions): Promise<string> {
  try {
    return await readFile(path.resolve(file), 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'is not there' : 'cannot be read';
    throw new Fault('bad-config', `${place}: ${file} ${reason}; name a PEM file this program may read`, {
      cause,
    });
  }
}

function checkPair(
  cert: string,
  key: string,
  { certificate, key: keyFile, place }: TlsContextsOptions,
): void {
  const read = <T>(file: string, what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (cause) {
      throw new Fault('bad-config', `${place}: ${file} holds no ${what} in PEM form`, { cause });
    }
  };
  const leaf = read(certificate, 'certificate', () => new X509Certificate(cert));
  const privateKey = read(keyFile, 'private key', () => createPrivateKey(key));
  if (!leaf.checkPrivateKey(privateKey))
    throw new Fault(
      'bad-config',
      `${place}: ${keyFile} is not the key of ${certificate}; name the one it was made with`,
    );
}
