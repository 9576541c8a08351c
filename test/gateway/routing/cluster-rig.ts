/**
 * A cluster without backends of ours: the real embedded registry, a shard map
 * written by the test, and HTTP/2 servers that answer as the test says.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import http2, { type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type MemberRecord, protocolVersion } from '../../../cluster-protocol/link.ts';
import { openEmbeddedRegistry } from '../../../cluster-protocol/registry/embedded-server.ts';
import { type Registry, registryKey } from '../../../cluster-protocol/registry.ts';
import { emptyShardMap, encodeShardMap } from '../../../cluster-protocol/shard-map.ts';
import type { Router } from '../../../gateway/routing/router.ts';
import { newSession } from '../../../gateway/session/new-session.ts';

export type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

export class FakeBackend {
  readonly record: MemberRecord;
  readonly asked: IncomingHttpHeaders[] = [];
  readonly #server: Http2Server;
  readonly #sessions = new Set<{ destroy(): void }>();
  serve: Serve;

  constructor(id: string, socket: string, serve: Serve) {
    this.serve = serve;
    this.record = {
      id,
      role: 'backend',
      address: socket,
      versions: [protocolVersion, protocolVersion],
      incarnation: Math.random().toString(16).slice(2),
      pid: process.pid,
      release: 'test',
    };
    this.#server = http2.createServer({ settings: { maxConcurrentStreams: 100_000 } });
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
      session.on('error', () => {});
    });
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      this.asked.push(headers);
      this.serve(stream, headers);
    });
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.record.address, resolve));
  }

  /** Dies as a killed process does: every connection is cut. */
  async die(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

export class ClusterRig {
  readonly registry: Registry;
  readonly #directory: string;
  readonly #close: () => Promise<void>;
  readonly #backends: FakeBackend[] = [];

  private constructor(directory: string, registry: Registry, close: () => Promise<void>) {
    this.#directory = directory;
    this.registry = registry;
    this.#close = close;
  }

  static async open(): Promise<ClusterRig> {
    const directory = await mkdtemp(path.join(tmpdir(), 'postern-rig-'));
    const { registry, close } = await openEmbeddedRegistry(
      path.join(directory, 'registry.sqlite'),
      path.join(directory, 'registry.sock'),
    );
    return new ClusterRig(directory, registry, close);
  }

  async backend(id: string, serve: Serve): Promise<FakeBackend> {
    const backend = new FakeBackend(
      id,
      path.join(this.#directory, `${id}-${this.#backends.length}.sock`),
      serve,
    );
    await backend.listen();
    this.#backends.push(backend);
    await this.put(registryKey.member(id), JSON.stringify(backend.record));
    return backend;
  }

  /** All shards to one backend (or nobody), at an epoch. */
  async grant(owner: FakeBackend | undefined, epoch: number): Promise<void> {
    const map = emptyShardMap(16, epoch + 1);
    if (owner === undefined) return this.put(registryKey.shardMap, encodeShardMap(map));
    map.owners.fill(1);
    map.epochs.fill(epoch);
    const { id, incarnation } = owner.record;
    await this.put(registryKey.shardMap, encodeShardMap({ ...map, holders: [{ id, incarnation }] }));
  }

  async put(key: string, value: string): Promise<void> {
    await this.registry.transact([], [{ put: key, value }]);
  }

  async remove(key: string): Promise<void> {
    await this.registry.transact([], [{ remove: key }]);
  }

  async close(router?: Router): Promise<void> {
    await router?.close();
    for (const backend of this.#backends) await backend.die().catch(() => {});
    await this.#close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

export const testSession = newSession(
  'imap',
  { address: '2001:db8::7', port: 4711, network: '2001:db8::/64', wideNetwork: '2001:db8::/48' },
  '[::]:143',
);
