/**
 * The registry over etcd, for clusters of several machines. Every read is
 * linearizable and every decision a transaction: a serializable read on a
 * member that was cut off answers with old data (measured), and a grant made
 * from it would be a second owner.
 */
import { Etcd3, EtcdLeaseInvalidError, type IOptions } from 'etcd3';
import { Fault } from '../../base/fault.ts';
import type { Change, Condition, Registry, RegistryEntry, WatchEvent } from '../registry.ts';
import { Endpoints } from './etcd-endpoints.ts';

export interface EtcdOptions {
  /** `https://10.0.0.1:2379` … ; the next is tried when one does not answer. */
  readonly hosts: readonly string[];
  /** All keys of the cluster begin with this; ends in `/`. */
  readonly prefix: string;
  /** PEM texts. Without `ca` the connection is in the clear: for tests and closed networks. */
  readonly tls?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
  readonly login?: { readonly user: string; readonly password: string };
  /** How long one call may take, ms. Default 2000: shorter than a lease, or a renewal could not be tried again. */
  readonly deadlineMs?: number;
}

const deadlineMsDefault = 2000;
/** A watch on a member that stands still would wait for ever: pings find it. etcd refuses more than one in 5 s. */
const pingEveryMs = 5500;
const pingAnswerMs = 2000;
const reconnectFirstMs = 100;
const reconnectMaxMs = 1000;
/** etcd refuses larger requests itself (1.5 MiB); values of ours are far below. */
const valueBytesMax = 1024 * 1024;
/** Entries of one list: domains are the most numerous. */
const listEntriesMax = 1_000_000;
const listPageEntries = 10_000;

/** Opens the client; nothing is sent before the first call. */
export function connectEtcd(options: EtcdOptions): Registry {
  return new EtcdRegistry(options);
}

class EtcdRegistry implements Registry {
  readonly #endpoints: Endpoints<Etcd3>;
  readonly #clients: readonly Etcd3[];
  readonly #prefix: string;
  readonly #deadlineMs: number;
  readonly #closed = new AbortController();

  constructor(options: EtcdOptions) {
    this.#prefix = options.prefix;
    this.#deadlineMs = options.deadlineMs ?? deadlineMsDefault;
    // One client for each member: the library's own choice among several is blind to one that stands still.
    this.#clients = options.hosts.map((host) => new Etcd3(clientOptions(host, options, this.#deadlineMs)));
    this.#endpoints = new Endpoints({
      clients: this.#clients,
      deadlineMs: this.#deadlineMs,
      answerIn: answerIn,
    });
  }

  async get(key: string): Promise<RegistryEntry | undefined> {
    const { kvs } = await this.#ask((client) =>
      client.kv.range({ key: this.#bytes(key), serializable: false }),
    );
    return kvs[0] === undefined ? undefined : this.#entry(kvs[0]);
  }

  async list(prefix: string): Promise<{ entries: RegistryEntry[]; revision: number }> {
    const end = prefixEnd(this.#bytes(prefix));
    const entries: RegistryEntry[] = [];
    let from = this.#bytes(prefix);
    let revision = 0;
    for (;;) {
      const page = await this.#ask((client) =>
        client.kv.range({
          key: from,
          range_end: end,
          limit: listPageEntries,
          serializable: false,
          sort_order: 'Ascend',
          sort_target: 'Key',
          // All pages from the revision of the first, or a change between them would tear the list.
          ...(revision === 0 ? {} : { revision }),
        }),
      );
      if (revision === 0) revision = Number(page.header.revision);
      for (const kv of page.kvs) entries.push(this.#entry(kv));
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { entries, revision };
      if (entries.length >= listEntriesMax)
        throw new Fault('registry-failed', `too many registry keys under ${prefix}`);
      from = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  async transact(
    conditions: readonly Condition[],
    changes: readonly Change[],
  ): Promise<{ done: boolean; revision: number }> {
    const compare = conditions.map((condition) =>
      condition.is === 'absent'
        ? {
            key: this.#bytes(condition.key),
            target: 'Create' as const,
            result: 'Equal' as const,
            create_revision: 0,
          }
        : {
            key: this.#bytes(condition.key),
            target: 'Mod' as const,
            result: 'Equal' as const,
            mod_revision: condition.revision,
          },
    );
    const success = changes.map((change) => {
      if ('remove' in change) return { request_delete_range: { key: this.#bytes(change.remove) } };
      const value = Buffer.from(change.value);
      if (value.length > valueBytesMax)
        throw new Fault('registry-failed', `the registry value of ${change.put} is over 1 MiB`);
      return {
        request_put: {
          key: this.#bytes(change.put),
          value,
          ...(change.lease === undefined ? {} : { lease: change.lease }),
        },
      };
    });
    this.#needOpen();
    const answer = await this.#endpoints.once((client) => client.kv.txn({ compare, success, failure: [] }));
    return { done: answer.succeeded, revision: Number(answer.header.revision) };
  }

  watch(
    prefix: string,
    fromRevision: number,
    on: { event(event: WatchEvent): void; resynchronise(): void },
    signal: AbortSignal,
  ): void {
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    if (ended.aborted) return;
    const client = this.#endpoints.preferred;
    const watcher = client
      .watch()
      .prefix(this.#bytes(prefix))
      .startRevision(String(fromRevision + 1))
      .watcher();
    let over = false;
    const finish = (): void => {
      if (over) return;
      over = true;
      ended.removeEventListener('abort', finish);
      stay();
      watcher.removeAllListeners();
      watcher.on('error', () => {}); // what comes late has nobody to go to
      watcher.cancel().catch(() => {});
    };
    // A compacted history, a lost stream or a member without a leader: list again rather than trust what is resumed.
    const loseplace = (): void => {
      if (over) return;
      finish();
      on.resynchronise();
    };
    const stay = this.#endpoints.onLeave(client, loseplace);
    watcher.on('data', ({ events }) => {
      for (const event of events) {
        if (over) return;
        const key = this.#name(event.kv.key);
        const revision = Number(event.kv.mod_revision);
        if (event.type === 'Delete') on.event({ kind: 'remove', key, value: '', revision });
        else on.event({ kind: 'put', key, value: event.kv.value.toString(), revision });
      }
    });
    watcher.on('error', loseplace);
    watcher.on('disconnected', loseplace);
    ended.addEventListener('abort', finish);
  }

  /** etcd counts in whole seconds and may grant longer: the lease then outlives what its holder believes, which is safe. */
  async grantLease(ttlMs: number): Promise<string> {
    const { ID } = await this.#ask((client) =>
      client.leaseClient.leaseGrant({ TTL: Math.max(1, Math.ceil(ttlMs / 1000)), ID: 0 }),
    );
    return ID;
  }

  async renewLease(lease: string): Promise<void> {
    const ttl = await this.#ask(async (client) => {
      const stream = await client.leaseClient.leaseKeepAlive({
        deadline: Date.now() + this.#deadlineMs,
      });
      try {
        return await new Promise<number>((resolve, reject) => {
          stream.on('data', (answer: { TTL: string }) => resolve(Number(answer.TTL)));
          stream.on('error', reject);
          stream.on('end', () => reject(new Error('the renewal was not answered')));
          stream.write({ ID: lease });
        });
      } catch (error) {
        // etcd forgets tokens when it is restarted. The library logs in again for single calls only: so make one.
        if (/invalid auth token/.test(String(error))) await client.kv.range({ key: this.#bytes('cluster') });
        throw error;
      } finally {
        stream.on('error', () => {}); // ending may still report the cancellation
        stream.end();
      }
    });
    if (!(ttl > 0)) throw new Fault('lease-lost', 'the registry has ended the lease');
  }

  async revokeLease(lease: string): Promise<void> {
    try {
      await this.#ask((client) => client.leaseClient.leaseRevoke({ ID: lease }));
    } catch (error) {
      if (!(error instanceof Fault && error.code === 'lease-lost')) throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
    for (const client of this.#clients) client.close();
  }

  /** @throws {Fault} `lease-lost` when a lease named in the call is gone, `registry-failed` otherwise. */
  #ask<T>(call: (client: Etcd3) => Promise<T>): Promise<T> {
    this.#needOpen();
    return this.#endpoints.ask(call);
  }

  #needOpen(): void {
    if (this.#closed.signal.aborted) throw new Fault('registry-failed', 'the registry is closed');
  }

  #bytes(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }

  #name(key: Buffer): string {
    return key.toString().slice(this.#prefix.length);
  }

  #entry(kv: { key: Buffer; value: Buffer; mod_revision: string; lease: string }): RegistryEntry {
    return {
      key: this.#name(kv.key),
      value: kv.value.toString(),
      revision: Number(kv.mod_revision),
      lease: kv.lease === '0' ? undefined : kv.lease,
    };
  }
}

/** What etcd says of the call itself, and every member would say alike. */
function answerIn(error: unknown): Fault | undefined {
  if (error instanceof Fault) return error;
  if (error instanceof EtcdLeaseInvalidError || /requested lease not found/.test(String(error)))
    return new Fault('lease-lost', 'the registry has ended the lease', { cause: error });
  return undefined;
}

/** The library's own tries and pauses: ours are in `etcd-endpoints.ts`, and a circuit left open would outlast an outage. */
const onlyOnce = { execute: async (call: (context: object) => unknown) => call({}) };

function clientOptions(host: string, options: EtcdOptions, deadlineMs: number): IOptions {
  const { tls, login } = options;
  return {
    hosts: host,
    faultHandling: { global: onlyOnce, host: () => onlyOnce } as unknown as NonNullable<
      IOptions['faultHandling']
    >,
    dialTimeout: deadlineMs,
    grpcOptions: {
      'grpc.keepalive_time_ms': pingEveryMs,
      'grpc.keepalive_timeout_ms': pingAnswerMs,
      'grpc.keepalive_permit_without_calls': 1,
      'grpc.initial_reconnect_backoff_ms': reconnectFirstMs,
      'grpc.max_reconnect_backoff_ms': reconnectMaxMs,
    },
    defaultCallOptions: (context) => (context.isStream ? {} : { deadline: Date.now() + deadlineMs }),
    ...(login === undefined ? {} : { auth: { username: login.user, password: login.password } }),
    ...(tls === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: Buffer.from(tls.ca),
            ...(tls.certificate === undefined || tls.key === undefined
              ? {}
              : { certChain: Buffer.from(tls.certificate), privateKey: Buffer.from(tls.key) }),
          },
        }),
  };
}

/** The first key after all that begin with `prefix`. */
function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at--) {
    if (end[at]! < 0xff) {
      end[at]!++;
      return end.subarray(0, at + 1);
    }
  }
  return Buffer.of(0); // etcd: to the end of all keys
}
