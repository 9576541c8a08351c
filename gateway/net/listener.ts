/**
 * A listening socket and what every connection passes before its door sees it:
 * PROXY from trusted balancers, the canonical client address, the throttle.
 */
import net from 'node:net';
import { Fault } from '../../base/fault.ts';
import type { BareSocket, ListeningSockets } from '../../base/listening-sockets.ts';
import type { Log } from '../../base/log.ts';
import type { ListenAddress } from '../../base/settings.ts';
import { readProxyHeader } from '../../mailwire/proxy-header.ts';
import type { Metrics } from '../health/metrics.ts';
import { newSession } from '../session/new-session.ts';
import type { Client, MutableSession, Protocol } from '../session/session.ts';
import { canBeClient, clientOf, isInNetworks, type Network } from './address.ts';
import type { Deadlines } from './deadline.ts';
import type { Shield } from './shield.ts';
import type { Throttle } from './throttle.ts';

/** Connections the kernel keeps for us while we are busy; it caps this by net.core.somaxconn. */
const backlog = 2048;
/** A balancer sends its header with the first segment. */
const proxyHeaderMs = 5000;
/** More than any header that is accepted. */
const proxyHeaderBytesMax = 4096 + 16;
/** Turned-away clients that may be reading their polite words at once; past it they are cut. */
const farewellsMax = 256;
const farewellMs = 1000;

const farewells: Record<Protocol, string> = {
  smtp: '421 4.3.2 Too many connections, try again later\r\n',
  submission: '421 4.3.2 Too many connections, try again later\r\n',
  imap: '* BYE [UNAVAILABLE] Too many connections, try again later\r\n',
  pop3: '-ERR [SYS/TEMP] Too many connections, try again later\r\n',
  http: 'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
};

export interface ListenerOptions {
  /** `imaps`: the setting is `listen.imaps`. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly address: ListenAddress;
  /** TLS from the first byte: whoever is turned away cannot be told why. */
  readonly implicitTls: boolean;
  /** The door ends connections itself, and answers a client that has closed its half. */
  readonly allowHalfOpen: boolean;
  /** Several gateways of this machine share the port; the kernel spreads the connections. */
  readonly reusePort: boolean;
  /** Where sockets of an earlier process come from, and new ones are kept. */
  readonly sockets?: ListeningSockets;
  readonly proxyFrom: readonly Network[];
  readonly throttle: Throttle;
  readonly shield?: Pick<Shield, 'spent' | 'admits'>;
  /** May this client (its canonical address) not connect at all? Nobody unless told. */
  isBanned?(address: string): boolean;
  readonly deadlines: Deadlines;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The socket is not flowing yet; an error handler is attached. */
  accept(socket: net.Socket, session: MutableSession): void;
}

export interface Listener {
  readonly name: string;
  /** As bound: `[::]:2143`. */
  readonly address: string;
  /** Stops accepting; open connections go on. */
  stop(): void;
}

/**
 * @throws {Fault} `port-taken`: another program has the address.
 * @throws {Fault} `bad-config`: the address is not of this machine, or the port needs a privilege.
 */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { address, allowHalfOpen, reusePort } = options;
  const server = net.createServer({ allowHalfOpen, noDelay: true });
  let farewellCount = 0;
  const listen = (host: string): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port: address.port, backlog, reusePort }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  const socketName = `${options.name} ${address.host} ${address.port}`;
  const inherited = options.sockets?.take(socketName);
  try {
    if (inherited !== undefined) await takeOver(server, inherited);
    else
      await listen(address.host).catch((error: NodeJS.ErrnoException) => {
        // A machine without IPv6 has no [::], and means everything it has.
        if (error.code !== 'EAFNOSUPPORT' || address.host !== '::') throw error;
        options.log.warn({ listener: options.name }, 'no IPv6 on this machine: listening on IPv4 only');
        return listen('0.0.0.0');
      });
  } catch (error) {
    throw listenFault(error, options);
  }
  options.sockets?.keep(socketName, server, inherited === undefined);
  const bound = boundAddress(server);
  const farewell = {
    get room(): boolean {
      return farewellCount < farewellsMax;
    },
    enter: () => farewellCount++,
    leave: () => farewellCount--,
  };
  server.on('connection', (socket: net.Socket) => receive(socket, bound, options, farewell));
  // Out of descriptors and the like: what is open goes on, and the next one may succeed (CASES 114).
  server.on('error', (error) => options.log.error({ listener: bound, error: error.message }, 'listener'));
  return { name: options.name, address: bound, stop: () => void server.close() };
}

/** Accepts on a socket that listens already: whoever waits in its queue comes in now. */
function takeOver(server: net.Server, socket: BareSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, backlog, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

interface Farewells {
  readonly room: boolean;
  enter(): void;
  leave(): void;
}

function receive(socket: net.Socket, bound: string, options: ListenerOptions, goodbyes: Farewells): void {
  const { throttle, proxyFrom } = options;
  socket.on('error', ignore);
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined || remotePort === undefined) return void socket.destroy();
  if (options.shield?.spent === true) {
    turnAway(socket, 'reserve', clientOf(remoteAddress, remotePort), options, goodbyes);
    return;
  }
  if (throttle.enter() !== 'ok') {
    turnAway(socket, 'full', clientOf(remoteAddress, remotePort), options, goodbyes);
    return;
  }
  socket.once('close', () => throttle.leave());
  const peer = clientOf(remoteAddress, remotePort);
  if (isInNetworks(peer.address, proxyFrom)) readProxy(socket, peer, bound, options, goodbyes);
  else admit(socket, peer, bound, options, goodbyes);
}

/** The balancer's header, then the client it speaks of. */
function readProxy(
  socket: net.Socket,
  peer: Client,
  bound: string,
  options: ListenerOptions,
  goodbyes: Farewells,
): void {
  let held: Buffer = Buffer.alloc(0);
  const settle = (): void => {
    deadline.cancel();
    socket.off('data', read);
    socket.off('end', gone);
    socket.off('close', gone);
    socket.pause();
  };
  const refuse = (why: string): void => {
    settle();
    socket.destroy();
    options.metrics.turnedAway.inc({ protocol: options.protocol, reason: 'proxy' });
    options.log.warn({ listener: bound, balancer: peer.address, why }, 'PROXY header refused');
  };
  const gone = (): void => refuse('closed before its end');
  const deadline = options.deadlines.start(proxyHeaderMs, () => refuse('too slow'));
  const read = (chunk: Buffer): void => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let client = peer;
    let length: number;
    try {
      const found = readProxyHeader(held.subarray(0, proxyHeaderBytesMax));
      if (found === undefined) return;
      length = found.length;
      const { source } = found.header;
      // A balancer that says a client is this machine itself is mistaken or lying: it gets no more trust than its own address.
      if (source !== undefined && canBeClient(source.address)) client = clientOf(source.address, source.port);
    } catch (error) {
      refuse(Fault.from(error).message);
      return;
    }
    settle();
    if (held.length > length) socket.unshift(held.subarray(length));
    admit(socket, client, bound, options, goodbyes);
  };
  socket.on('data', read);
  socket.on('end', gone);
  socket.on('close', gone);
}

function admit(
  socket: net.Socket,
  client: Client,
  bound: string,
  options: ListenerOptions,
  goodbyes: Farewells,
): void {
  const { throttle, protocol, metrics } = options;
  if (options.isBanned?.(client.address) === true) {
    // Not a word: who is banned learns nothing, and costs nothing.
    metrics.turnedAway.inc({ protocol, reason: 'banned' });
    options.log.debug({ protocol, client: client.address, reason: 'banned' }, 'connection turned away');
    socket.destroy();
    return;
  }
  if (options.shield?.admits(client) === false) {
    turnAway(socket, 'newcomer', client, options, goodbyes);
    return;
  }
  if (throttle.enterNetwork(client) !== 'ok') {
    turnAway(socket, 'network', client, options, goodbyes);
    return;
  }
  metrics.connections.inc({ protocol });
  metrics.connectionsTotal.inc({ protocol });
  socket.once('close', () => {
    throttle.leaveNetwork(client);
    metrics.connections.dec({ protocol });
    metrics.bytes.inc({ protocol, direction: 'in' }, socket.bytesRead);
    metrics.bytes.inc({ protocol, direction: 'out' }, socket.bytesWritten);
  });
  options.accept(socket, newSession(protocol, client, bound));
}

function turnAway(
  socket: net.Socket,
  reason: 'full' | 'network' | 'newcomer' | 'reserve',
  client: Client,
  options: ListenerOptions,
  goodbyes: Farewells,
): void {
  const { protocol, implicitTls, deadlines, log, metrics } = options;
  metrics.turnedAway.inc({ protocol, reason });
  log.debug({ protocol, client: client.address, reason }, 'connection turned away');
  if (implicitTls || !goodbyes.room) return void socket.destroy();
  goodbyes.enter();
  const deadline = deadlines.start(farewellMs, () => socket.destroy());
  socket.once('close', () => {
    deadline.cancel();
    goodbyes.leave();
  });
  socket.end(farewells[protocol], 'latin1');
  // Read what still comes and drop it: an unread byte would turn our FIN into an RST that overtakes the words.
  socket.resume();
  socket.once('end', () => socket.destroySoon());
}

/** Shared: 'close' follows and is what counts. */
function ignore(): void {}

function boundAddress(server: net.Server): string {
  const at = server.address();
  if (at === null || typeof at === 'string') return String(at);
  return at.family === 'IPv6' ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;
}

function listenFault(error: unknown, { name, address }: ListenerOptions): Fault {
  const where = address.host.includes(':')
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;
  const { code, message } = error as NodeJS.ErrnoException;
  const setting = `listen.${name}`;
  if (code === 'EADDRINUSE')
    return new Fault(
      'port-taken',
      `${setting}: ${where} is in use by another program; stop it, or set another address`,
      {
        cause: error,
      },
    );
  if (code === 'EACCES')
    return new Fault(
      'bad-config',
      `${setting}: ports below 1024 need a privilege to listen on ${where}; start as root or with CAP_NET_BIND_SERVICE`,
      { cause: error },
    );
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new Fault(
      'bad-config',
      `${setting}: ${where} is no address of this machine; use one it has, or [::]`,
      {
        cause: error,
      },
    );
  return new Fault('bad-config', `${setting}: cannot listen on ${where}: ${message}`, { cause: error });
}
