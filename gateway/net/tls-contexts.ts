/**
 * TLS towards clients: the admin's certificate or the cluster's own, others by the
 * name the client asks for (RFC 6066 3), and the one way a plain connection becomes a TLS connection,
 * whether from the first byte or after STARTTLS.
 */
import { constants, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { createSecureContext, type SecureContext, type SecureVersion, TLSSocket } from 'node:tls';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type CertificatePair, namesOf, pairsIn, readPair } from './certificate-pair.ts';
import type { Deadlines } from './deadline.ts';
import { HandshakeGate } from './handshake-gate.ts';
import { NamedContexts } from './named-contexts.ts';

/** How often the files are read again. */
const lookEveryMs = 10_000;

export interface TlsContexts {
  /** @param serverName  As the client sent it, unchecked. A name nobody has a certificate for gets the default one. */
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
  /** Certificates that came another way than by files; replaces those given before. */
  setIssued(pairs: readonly CertificatePair[]): void;
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
  /** More certificates, shown by their names: see `pairsIn`. */
  readonly directory?: string;
  readonly directoryPlace?: string;
  /** 48 bytes, the same at all gateways of a cluster, asked for at every look: sessions are resumed anywhere. */
  readonly ticketKeys?: () => Buffer;
}

/** @throws {Fault} `bad-config`: a file that cannot be read, is no PEM, or two that do not belong together. */
export async function openTlsContexts(options: TlsContextsOptions): Promise<TlsContexts> {
  const { directory, ticketKeys } = options;
  const readNamed = async (): Promise<readonly CertificatePair[]> =>
    directory === undefined ? [] : pairsIn(directory, options.directoryPlace ?? directory);
  let pair = await readPair(options);
  let named = await readNamed();
  let issued: readonly CertificatePair[] = [];
  let tickets = ticketKeys?.();
  let context!: SecureContext;
  let byName!: NamedContexts;
  const build = (): void => {
    const make = (one: CertificatePair): SecureContext => contextOf(one, options, tickets);
    context = make(pair);
    // What the admin put into the directory goes before what was issued for the same name.
    byName = new NamedContexts([...issued, ...named], make);
  };
  build();
  const gate = new HandshakeGate(options.deadlines);
  return {
    contextFor: (serverName) => byName.contextFor(serverName) ?? context,
    startTls: (socket, alpn) => handshake(socket, alpn, context, byName, gate, options),
    setIssued(pairs) {
      issued = pairs;
      build();
    },
    async reload() {
      const [next, nextNamed] = await Promise.all([readPair(options), readNamed()]);
      const nextTickets = ticketKeys?.();
      const sameTickets = tickets === nextTickets || (nextTickets && tickets?.equals(nextTickets));
      const same = isSame([next, ...nextNamed], [pair, ...named]);
      if (same && sameTickets) return false;
      if (!same) {
        checkNotExpired(next, options.place, options.certificate);
        for (const one of nextNamed)
          checkNotExpired(one, options.directoryPlace ?? options.place, namesOf(one.cert).join(' '));
      }
      pair = next;
      named = nextNamed;
      tickets = nextTickets;
      build();
      return !same;
    },
  };
}

function isSame(a: readonly CertificatePair[], b: readonly CertificatePair[]): boolean {
  return a.length === b.length && a.every((one, at) => one.cert === b[at]!.cert && one.key === b[at]!.key);
}

/** @throws {Fault} `bad-config` */
function checkNotExpired({ cert }: CertificatePair, place: string, which: string): void {
  const { validTo, validToDate } = new X509Certificate(cert);
  if (validToDate.getTime() < Date.now())
    throw new Fault('bad-config', `${place}: ${which} has expired (${validTo}); renew it`);
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

function contextOf(
  { cert, key }: CertificatePair,
  { minimum }: TlsContextsOptions,
  ticketKeys: Buffer | undefined,
): SecureContext {
  return createSecureContext({
    cert,
    key,
    ...(ticketKeys === undefined ? {} : { ticketKeys }),
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
  byName: NamedContexts,
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
      secure = new TLSSocket(socket, {
        isServer: true,
        secureContext,
        ALPNProtocols: [...alpn],
        ...(byName.isEmpty ? {} : { SNICallback: byName.callback }),
      });
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
