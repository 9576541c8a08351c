/**
 * The links to one backend: a few HTTP/2 connections that stay open, carry one
 * stream per client session or request, come back by themselves, and are
 * found dead by ping when the other end is stopped rather than gone.
 */
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { Fault, isFault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { parseAddress } from '../../base/settings.ts';
import {
  commonVersion,
  linkHeader,
  linkWindowBytes,
  type MemberRecord,
  streamWindowBytes,
  versionsSpoken,
} from '../../cluster-protocol/link.ts';
import { answerOn, type OpenedSession, SessionSocket } from './session-socket.ts';

/** Connections per backend: two, so that one stuck in a kernel buffer is not all there is. */
const connectionsPerBackend = 2;
const backoffFirstMs = 20;
const backoffMaxMs = 1000;
const pingEveryMs = 2500;
/** Without an answer to a ping for this long the connection is given up. */
const pingAnswerMsMax = 10_000;
/** Streams one connection may carry: more than a process has descriptors for clients. */
const streamsMax = 100_000;
/** Node counts what a connection's streams hold and refuses new ones past this; its default of 10 MB is some 1,000 streams. */
const connectionMemoryMbMax = 2048;

/** How this machine shows itself on links to other machines (mutual TLS), and whom it takes for whom. */
export interface LinkIdentity {
  /** Backends of this machine are reached over their Unix sockets. */
  readonly machine: string;
  /** PEM texts; another object after a renewal. */
  readonly pair: { readonly ca: string; readonly cert: string; readonly key: string };
  /** The name a machine's certificate is made out to: not where it happens to listen. */
  hostOf(machine: string): string;
  /** Does a certificate with these names speak for a machine that is in the cluster now? */
  isMember(subjectAltName: string): boolean;
  hasMachine(machine: string): boolean;
  /** A machine has joined or left. */
  onMachines(listener: () => void): void;
}

/** Sockets of sessions that may still be opened: all links of the process share it. */
export interface SocketBudget {
  left: number;
}

interface Connection {
  session: ClientHttp2Session | undefined;
  up: boolean;
  backoffMs: number;
  timer: NodeJS.Timeout | undefined;
}

export class BackendLink {
  readonly record: MemberRecord;
  readonly #options: BackendLinkOptions;
  readonly #connections: Connection[] = [];
  /** Set where the backend is of an older version than this gateway: openings are written in its version. */
  readonly #version: string | undefined;
  /** Sockets of the sessions that run at this backend, and where more are opened: `undefined` on another machine. */
  readonly #sockets = new Set<SessionSocket>();
  readonly #socketClosed: (this: SessionSocket) => void;
  readonly #socketPath: string | undefined;
  #turn = 0;
  #over = false;

  constructor(record: MemberRecord, options: BackendLinkOptions) {
    this.record = record;
    this.#options = options;
    const common = commonVersion(record.versions, versionsSpoken);
    this.#version = common === versionsSpoken[1] ? undefined : String(common);
    const isHere = record.address.startsWith('/') || record.machine === options.linkIdentity?.machine;
    this.#socketPath = isHere ? record.sessions : undefined;
    const sockets = this.#sockets;
    const { socketBudget } = options;
    this.#socketClosed = function (): void {
      if (sockets.delete(this)) socketBudget.left++;
    };
    for (let count = 0; count < connectionsPerBackend; count++) {
      const connection: Connection = {
        session: undefined,
        up: false,
        backoffMs: backoffFirstMs,
        timer: undefined,
      };
      this.#connections.push(connection);
      this.#connect(connection);
    }
  }

  /** Connections that work now. */
  get upCount(): number {
    return this.#connections.filter((connection) => connection.up).length;
  }

  /** Opens a stream; `undefined` when no connection works now. */
  open(headers: OutgoingHttpHeaders, endStream: boolean): ClientHttp2Stream | undefined {
    for (let tried = 0; tried < connectionsPerBackend; tried++) {
      const { up, session } = this.#connections[this.#turn++ % connectionsPerBackend]!;
      if (!up || session === undefined || session.closed || session.destroyed) continue;
      try {
        return session.request(this.#inItsVersion(headers), { endStream });
      } catch (error) {
        // GOAWAY came between the check and the request, or the stream ids are used up: another connection may do.
        this.#options.log.debug({ backend: this.record.id, error: String(error) }, 'link refused a stream');
      }
    }
    return undefined;
  }

  /**
   * Opens a session on a socket of its own.
   * @returns `undefined`: there can be none, a stream has to do.
   * @throws {Fault} `unavailable`: no answer in time.
   */
  async openSession(headers: OutgoingHttpHeaders, waitMs: number): Promise<OpenedSession | undefined> {
    const { socketBudget, log } = this.#options;
    // Links that are down, or were found dead, mean a backend that is: sockets follow them.
    if (this.#socketPath === undefined || socketBudget.left <= 0 || this.#over || this.upCount === 0)
      return undefined;
    const socket = new SessionSocket(this.#socketPath, this.#inItsVersion(headers));
    socketBudget.left--;
    this.#sockets.add(socket);
    socket.on('close', this.#socketClosed);
    try {
      return await answerOn(socket, waitMs);
    } catch (error) {
      if (isFault(error, 'deadline-passed')) throw new Fault('unavailable', 'the backend does not answer');
      log.debug({ backend: this.record.id, error: String(error) }, 'session socket refused');
      return undefined;
    }
  }

  #inItsVersion(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
    return this.#version === undefined ? headers : { ...headers, [linkHeader.version]: this.#version };
  }

  /** The member is gone from the registry: no new streams; those that live may end by themselves. */
  retire(): void {
    this.#over = true;
    for (const connection of this.#connections) {
      clearTimeout(connection.timer);
      connection.up = false;
      connection.session?.close();
    }
  }

  /** Ends all streams and connections now. */
  destroy(): void {
    this.retire();
    for (const connection of this.#connections) connection.session?.destroy();
    this.#breakSockets();
  }

  /** Its sessions are told as by streams that were reset. */
  #breakSockets(): void {
    for (const socket of [...this.#sockets]) socket.close(http2.constants.NGHTTP2_CANCEL);
  }

  #connect(connection: Connection): void {
    const { log, changed, linkIdentity } = this.#options;
    const session = http2.connect('http://link', {
      createConnection: () => dial(this.record, linkIdentity),
      settings: { initialWindowSize: streamWindowBytes, enablePush: false },
      peerMaxConcurrentStreams: streamsMax,
      maxSessionMemory: connectionMemoryMbMax,
    });
    connection.session = session;
    let answered = performance.now();
    const pinging = setInterval(() => {
      // Closed, and the other end does not let go of the socket: there is nothing to ask any more.
      if (session.destroyed) return;
      if (performance.now() - answered > pingAnswerMsMax) {
        log.warn({ backend: this.record.id }, 'link does not answer');
        session.destroy();
        this.#breakSockets();
        return;
      }
      // A connection with thousands of streams takes a while from its end to its close.
      if ((connection.up || this.#over) && !session.destroyed) {
        session.ping((error) => {
          if (!error) answered = performance.now();
        });
      }
    }, pingEveryMs).unref();
    let failure: Error | undefined;
    session.on('connect', () => {
      // The other end may have cut it already: a backend does when this machine is not in the cluster any more.
      if (session.destroyed) return;
      // Only now: before `connect` the call has no effect on the window the peer is told.
      session.setLocalWindowSize(linkWindowBytes);
      answered = performance.now();
      connection.up = !this.#over;
      connection.backoffMs = backoffFirstMs;
      log.info({ backend: this.record.id, address: this.record.address }, 'link up');
      changed();
    });
    session.on('error', (error) => {
      failure = error;
    });
    session.on('goaway', () => {
      // The backend drains: what is open may end, new streams go over a new connection (or to the new owner).
      if (connection.session !== session || this.#over) return;
      connection.up = false;
      connection.session = undefined;
      this.#reconnect(connection);
      changed();
    });
    session.on('close', () => {
      clearInterval(pinging);
      if (connection.session !== session) return;
      if (connection.up) log.warn({ backend: this.record.id, error: failure?.message }, 'link down');
      connection.session = undefined;
      connection.up = false;
      if (!this.#over) this.#reconnect(connection);
      changed();
    });
  }

  #reconnect(connection: Connection): void {
    clearTimeout(connection.timer);
    connection.timer = setTimeout(() => this.#connect(connection), connection.backoffMs).unref();
    connection.backoffMs = Math.min(connection.backoffMs * 2, backoffMaxMs);
  }
}

export interface BackendLinkOptions {
  readonly log: Log;
  readonly socketBudget: SocketBudget;
  /** For members on other machines; not needed for Unix sockets. */
  readonly linkIdentity: LinkIdentity | undefined;
  /** A connection came up or went down. */
  changed(): void;
}

/** A Unix socket on the same machine, else TCP with mutual TLS. */
function dial(record: MemberRecord, identity: LinkIdentity | undefined): net.Socket {
  if (record.address.startsWith('/')) return net.connect({ path: record.address });
  if (identity === undefined || record.machine === undefined) {
    const nowhere = new net.Socket();
    const fault = new Fault('bad-config', `${record.id} is on another machine; links need certificates`);
    process.nextTick(() => nowhere.destroy(fault));
    return nowhere;
  }
  if (record.machine === identity.machine && record.socket !== undefined)
    return net.connect({ path: record.socket });
  const at = parseAddress(record.address);
  const socket = tls.connect({
    host: at?.host ?? '',
    port: at?.port ?? 0,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    servername: identity.hostOf(record.machine),
    ...identity.pair,
    checkServerIdentity: (host, certificate) =>
      tls.checkServerIdentity(host, certificate) ??
      (identity.isMember(certificate.subjectaltname ?? '')
        ? undefined
        : new Error(`${record.machine} is not in the cluster`)),
  });
  socket.setNoDelay(true);
  return socket;
}
