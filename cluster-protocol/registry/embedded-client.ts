/**
 * The embedded registry as members see it: a `Registry` over the supervisor's
 * Unix socket. It reconnects when the supervisor was restarted, goes on with
 * its watches from the last revision seen in full, and never leaves a call
 * waiting past its deadline.
 */
import { connect, type Socket } from 'node:net';
import { Fault } from '../../base/fault.ts';
import type { Registry, RegistryEntry, WatchEvent } from '../registry.ts';
import {
  answerLineBytesMax,
  faultOfAnswer,
  hello,
  type ListPage,
  type Request,
  readJsonLines,
  registryProtocolVersion,
  requestLineBytesMax,
  writeJsonLine,
} from './embedded-protocol.ts';

const deadlineMsDefault = 2000;
const firstConnectMs = 5000;
const reconnectFirstMs = 10;
const reconnectMaxMs = 500;
const callsWaitingMax = 10_000;
/** Pages of a list have to be of one revision; a busy registry may need a few tries. */
const listTriesMax = 20;

/** `Omit` that keeps the alternatives of a union apart. */
type Call = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never;

interface Waiting {
  readonly request: Request;
  readonly resolve: (result: unknown) => void;
  readonly reject: (fault: Fault) => void;
  readonly timer: NodeJS.Timeout;
  sent: boolean;
}

interface Watch {
  readonly prefix: string;
  readonly on: { event(event: WatchEvent): void; resynchronise(): void };
  /** Last revision seen in full. */
  revision: number;
}

/**
 * Connects to the supervisor's registry.
 * @param options.deadlineMs  Longest a call may wait for its answer; then it rejects with `registry-failed`.
 * @throws {Fault} `registry-failed`: nobody answered within a few seconds, or in another version.
 */
export async function connectEmbeddedRegistry(
  socketPath: string,
  options: { deadlineMs?: number; connectMs?: number } = {},
): Promise<Registry> {
  const client = new EmbeddedClient(socketPath, options.deadlineMs ?? deadlineMsDefault);
  try {
    await client.connected(options.connectMs ?? firstConnectMs);
  } catch (error) {
    await client.close();
    throw error;
  }
  return client;
}

class EmbeddedClient implements Registry {
  readonly #path: string;
  readonly #deadlineMs: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #watches = new Map<number, Watch>();
  #socket: Socket | undefined;
  /** The server has said hello on `#socket`. */
  #open = false;
  #closed = false;
  #lastId = 0;
  #reconnectMs = reconnectFirstMs;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #onOpen: (() => void) | undefined;
  #onRefused: ((fault: Fault) => void) | undefined;

  constructor(path: string, deadlineMs: number) {
    this.#path = path;
    this.#deadlineMs = deadlineMs;
    this.#connect();
  }

  connected(withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Fault('registry-failed', `${this.#path}: the registry does not answer`)),
        withinMs,
      );
      this.#onRefused = (fault) => {
        clearTimeout(timer);
        reject(fault);
      };
      this.#onOpen = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async get(key: string): Promise<RegistryEntry | undefined> {
    return ((await this.#call({ op: 'get', key })) as RegistryEntry | null) ?? undefined;
  }

  async list(prefix: string): Promise<{ entries: RegistryEntry[]; revision: number }> {
    for (let tries = 0; tries < listTriesMax; tries++) {
      const entries: RegistryEntry[] = [];
      let revision: number | undefined;
      for (;;) {
        const after = entries.at(-1)?.key ?? '';
        const page = (await this.#call({ op: 'list', prefix, after })) as ListPage;
        if (revision !== undefined && page.revision !== revision) break;
        revision = page.revision;
        for (const entry of page.entries) entries.push(entry);
        if (!page.more) return { entries, revision };
      }
    }
    throw new Fault('registry-failed', 'the registry changes too fast to be listed');
  }

  async transact(
    conditions: Parameters<Registry['transact']>[0],
    changes: Parameters<Registry['transact']>[1],
  ): Promise<{ done: boolean; revision: number }> {
    return (await this.#call({ op: 'transact', conditions, changes })) as { done: boolean; revision: number };
  }

  watch(prefix: string, fromRevision: number, on: Watch['on'], signal: AbortSignal): void {
    if (signal.aborted || this.#closed) return;
    const id = ++this.#lastId;
    this.#watches.set(id, { prefix, on, revision: fromRevision });
    if (this.#open) this.#send({ id, op: 'watch', prefix, from: fromRevision });
    signal.addEventListener(
      'abort',
      () => {
        if (this.#watches.delete(id) && this.#open)
          this.#send({ id: ++this.#lastId, op: 'unwatch', watch: id });
      },
      { once: true },
    );
  }

  async grantLease(ttlMs: number): Promise<string> {
    return (await this.#call({ op: 'grant', ttlMs })) as string;
  }

  async renewLease(lease: string): Promise<void> {
    await this.#call({ op: 'renew', lease });
  }

  async revokeLease(lease: string): Promise<void> {
    await this.#call({ op: 'revoke', lease });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#reconnectTimer);
    this.#socket?.destroy();
    this.#watches.clear();
    this.#failWaiting(() => true, 'the registry connection was closed');
  }

  #call(call: Call): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Fault('registry-failed', 'the registry connection was closed'));
      if (this.#waiting.size >= callsWaitingMax)
        return reject(new Fault('registry-failed', 'too many calls wait for the registry'));
      const request = { ...call, id: ++this.#lastId } as Request;
      const timer = setTimeout(() => {
        this.#waiting.delete(request.id);
        reject(new Fault('registry-failed', `the registry has not answered within ${this.#deadlineMs} ms`));
      }, this.#deadlineMs);
      const waiting: Waiting = { request, resolve, reject, timer, sent: false };
      this.#waiting.set(request.id, waiting);
      if (this.#open) this.#sendCall(waiting);
    });
  }

  #sendCall(waiting: Waiting): void {
    const line = JSON.stringify(waiting.request);
    if (Buffer.byteLength(line) > requestLineBytesMax) {
      this.#settle(waiting.request.id)?.reject(
        new Fault('limit-reached', 'the call is too big for the registry'),
      );
      return;
    }
    waiting.sent = true;
    this.#socket!.write(`${line}\n`);
  }

  #send(request: Request): void {
    writeJsonLine(this.#socket!, request);
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    return waiting;
  }

  #connect(): void {
    const socket = connect(this.#path);
    this.#socket = socket;
    socket.on('error', () => socket.destroy());
    socket.on('connect', () => writeJsonLine(socket, hello));
    socket.on('close', () => this.#lost(socket));
    readJsonLines(socket, answerLineBytesMax, (object) => {
      if (this.#open) this.#receive(object);
      else this.#greeted(object);
    });
  }

  #greeted(object: Record<string, unknown>): void {
    if (object.hello !== hello.hello || object.version !== registryProtocolVersion) {
      const fault = new Fault(
        'registry-failed',
        `${this.#path}: the registry speaks another version (${object.version})`,
      );
      this.#onRefused?.(fault);
      this.#socket?.destroy(fault);
      return;
    }
    this.#open = true;
    this.#reconnectMs = reconnectFirstMs;
    for (const [id, watch] of this.#watches)
      this.#send({ id, op: 'watch', prefix: watch.prefix, from: watch.revision });
    for (const waiting of [...this.#waiting.values()]) this.#sendCall(waiting);
    this.#onOpen?.();
  }

  #receive(object: Record<string, unknown>): void {
    if (typeof object.watch === 'number') {
      this.#news(object.watch, object);
      return;
    }
    const waiting = this.#settle(object.id as number);
    if (waiting === undefined) {
      // The answer to `watch` itself: only a refusal matters.
      if ('fault' in object) this.#endWatch(object.id as number);
      return;
    }
    if ('fault' in object) waiting.reject(faultOfAnswer(String(object.fault), String(object.message)));
    else waiting.resolve(object.result);
  }

  #news(id: number, news: Record<string, unknown>): void {
    const watch = this.#watches.get(id);
    if (watch === undefined) return;
    if (news.resynchronise === true) {
      this.#endWatch(id);
      return;
    }
    const revision = news.revision as number;
    if (revision <= watch.revision) return;
    watch.revision = revision;
    for (const event of news.events as WatchEvent[]) {
      if (!this.#watches.has(id)) return;
      watch.on.event(event);
    }
  }

  #endWatch(id: number): void {
    const watch = this.#watches.get(id);
    if (this.#watches.delete(id)) watch?.on.resynchronise();
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#open = false;
    this.#socket = undefined;
    // Whether a transaction that was sent has been done is not known: its caller has to look. Every other call may be
    // made twice (a second lease nobody knows of runs out), so it waits for the next connection.
    this.#failWaiting(
      (waiting) => waiting.sent && waiting.request.op === 'transact',
      'the connection to the registry broke',
    );
    if (this.#closed) return;
    const waitMs = this.#reconnectMs * (0.5 + Math.random() / 2);
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, reconnectMaxMs);
    this.#reconnectTimer = setTimeout(() => this.#connect(), waitMs);
  }

  #failWaiting(which: (waiting: Waiting) => boolean, message: string): void {
    for (const [id, waiting] of [...this.#waiting]) {
      if (which(waiting)) this.#settle(id)?.reject(new Fault('registry-failed', message));
    }
  }
}
