/**
 * The embedded registry as the supervisor runs it: a store, a direct `Registry`
 * for the supervisor itself, and a Unix socket for the members.
 */
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Registry, WatchEvent } from '../registry.ts';
import { revokeGoneMembers } from '../revoke.ts';
import {
  hello,
  listPageCharsMax,
  type Request,
  readJsonLines,
  registryProtocolVersion,
  requestLineBytesMax,
  watchesPerClientMax,
  writeJsonLine,
} from './embedded-protocol.ts';
import { type Batch, EmbeddedStore } from './embedded-store.ts';

const connectionsMax = 1024;
/** A client that does not read is cut off here; it reconnects and starts over. */
const unsentBytesMax = 8 * 1024 * 1024;

export interface EmbeddedRegistry {
  /** For the process that runs the store: no socket in between. */
  readonly registry: Registry;
  close(): Promise<void>;
}

/**
 * Opens the registry's file and serves it on a Unix socket of mode 0600.
 * @param clock  Monotonic milliseconds; for tests.
 * @throws {Fault} `already-running`, `cannot-write`, `storage-damaged`
 */
export async function openEmbeddedRegistry(
  file: string,
  socketPath: string,
  options: { clock?: () => number; historyEventsMax?: number } = {},
): Promise<EmbeddedRegistry> {
  const store = new EmbeddedStore(file, options.clock ?? (() => performance.now()), options);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(store, socket);
  });
  server.maxConnections = connectionsMax;
  try {
    // The store's lock says that nobody else serves here: what lies at this path is left over.
    rmSync(socketPath, { force: true });
    await listenPrivately(server, socketPath);
  } catch (error) {
    store.close();
    throw new Fault('cannot-write', `${socketPath}: cannot listen (${errnoOf(error) || error})`, {
      cause: error,
    });
  }
  const registry = directRegistry(store);
  // Every member of an embedded registry is a process of this machine: those that are gone need not be waited for.
  await revokeGoneMembers(registry);
  return {
    registry,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      store.close();
    },
  };
}

/** `bind` happens inside `listen`, in this turn of the loop: the mask covers it and nothing else. */
function listenPrivately(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const mask = process.umask(0o177);
    try {
      server.listen(socketPath, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

function serve(store: EmbeddedStore, socket: Socket): void {
  let greeted = false;
  /** Watch number → prefix. */
  const watches = new Map<number, string>();
  const send = (object: object): void => {
    if (socket.destroyed) return;
    if (!writeJsonLine(socket, object) && socket.writableLength > unsentBytesMax) socket.destroy();
  };
  const tell = (watch: number, prefix: string, batch: Batch): void => {
    const events = batch.events.filter((event) => event.key.startsWith(prefix));
    if (events.length > 0) send({ watch, revision: batch.revision, events });
  };
  const stopListening = store.listen((batch) => {
    for (const [watch, prefix] of watches) tell(watch, prefix, batch);
  });
  const startWatch = (watch: number, prefix: string, from: number): void => {
    if (watches.size >= watchesPerClientMax) throw new Fault('limit-reached', 'too many watches');
    store.expire();
    const missed = store.since(from);
    if (missed === undefined) {
      send({ watch, resynchronise: true });
      return;
    }
    for (const batch of missed) tell(watch, prefix, batch);
    watches.set(watch, prefix);
  };
  socket.on('close', stopListening);
  socket.on('error', () => socket.destroy());
  readJsonLines(socket, requestLineBytesMax, (object) => {
    if (!greeted) {
      greeted = object.hello === hello.hello && object.version === registryProtocolVersion;
      send(hello);
      if (!greeted) socket.end();
      return;
    }
    const request = object as unknown as Request;
    try {
      const result =
        request.op === 'watch'
          ? startWatch(request.id, text(request.prefix), request.from)
          : request.op === 'unwatch'
            ? void watches.delete(request.watch)
            : answer(store, request);
      send({ id: request.id, result: result ?? null });
    } catch (error) {
      const fault = Fault.from(error);
      send({ id: request.id, fault: fault.code, message: fault.message });
    }
  });
}

function answer(
  store: EmbeddedStore,
  request: Exclude<Request, { op: 'watch' } | { op: 'unwatch' }>,
): unknown {
  switch (request.op) {
    case 'get':
      return store.get(text(request.key));
    case 'list':
      return store.list(text(request.prefix), text(request.after), listPageCharsMax);
    case 'transact':
      return store.transact(array(request.conditions), array(request.changes));
    case 'grant':
      return store.grantLease(request.ttlMs);
    case 'renew':
      return store.renewLease(text(request.lease));
    case 'revoke':
      return store.revokeLease(text(request.lease));
    default:
      throw new Fault('peer-protocol', 'the registry does not know this call');
  }
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new Fault('bad-argument', 'a text is needed here');
  return value;
}

function array<T>(value: readonly T[]): readonly T[] {
  if (!Array.isArray(value) || value.some((part) => typeof part !== 'object' || part === null))
    throw new Fault('bad-argument', 'a list is needed here');
  return value;
}

/** The store as a `Registry`. Calls are done in the caller's turn; what they say comes as promises, like elsewhere. */
function directRegistry(store: EmbeddedStore): Registry {
  return {
    get: async (key) => store.get(key),
    async list(prefix) {
      const { entries, revision } = store.list(prefix, '', Number.POSITIVE_INFINITY);
      return { entries, revision };
    },
    transact: async (conditions, changes) => store.transact(conditions, changes),
    watch(prefix, fromRevision, on, signal) {
      if (signal.aborted) return;
      const deliver = (events: readonly WatchEvent[]): void => {
        for (const event of events) {
          if (signal.aborted) return;
          if (event.key.startsWith(prefix)) on.event(event);
        }
      };
      const missed = store.since(fromRevision);
      if (missed === undefined) {
        queueMicrotask(() => {
          if (!signal.aborted) on.resynchronise();
        });
        return;
      }
      // A listener that makes the next change would be called inside the first one: events come in their own turn.
      const stop = store.listen((batch) => queueMicrotask(() => deliver(batch.events)));
      queueMicrotask(() => {
        for (const batch of missed) deliver(batch.events);
      });
      signal.addEventListener('abort', stop, { once: true });
    },
    grantLease: async (ttlMs) => store.grantLease(ttlMs),
    renewLease: async (lease) => store.renewLease(lease),
    revokeLease: async (lease) => store.revokeLease(lease),
    close: async () => {},
  };
}
