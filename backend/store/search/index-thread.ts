/**
 * The way to the thread that keeps the search indexes: one task at a time,
 * searches before background work, bounded in number, and ended when a task
 * takes too long.
 */
import { Worker } from 'node:worker_threads';
import { Fault } from '../../../base/fault.ts';
import type { IndexAnswer, IndexReply, IndexTask } from './index-tasks.ts';

const searchesMax = 256;
/** Accounts that may wait with background work. */
const worksMax = 256;
const taskMsMax = 60_000;
/** A search that waits longer is faster without the index. */
const searchMsMax = 2000;
const heapMbMax = 256;
/** After a task that took too long the storage is left alone for a while: a thread that hangs cannot be ended. */
const restMs = 5 * 60_000;

interface Waiting {
  readonly task: IndexTask;
  resolve(answer: IndexAnswer): void;
  reject(fault: Fault): void;
}

export class IndexThread {
  #worker: Worker | undefined;
  readonly #searches: Waiting[] = [];
  readonly #works: Waiting[] = [];
  #current: (Waiting & { readonly id: number }) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #id = 0;
  #restUntilMs = 0;

  /** @throws {Fault} `busy` when too much waits, `unavailable` when the index failed */
  run(task: IndexTask): Promise<IndexAnswer> {
    const [queue, max] = task.kind === 'find' ? [this.#searches, searchesMax] : [this.#works, worksMax];
    if ((queue.length >= max && task.kind !== 'close') || performance.now() < this.#restUntilMs)
      return Promise.reject(new Fault('busy', 'too much waits for the search index'));
    return new Promise((resolve, reject) => {
      const waiting = { task, resolve, reject };
      queue.push(waiting);
      if (task.kind === 'find') this.#limitWait(waiting);
      this.#next();
    });
  }

  #limitWait(waiting: Waiting): void {
    const { resolve, reject } = waiting;
    const timer = setTimeout(() => {
      const at = this.#searches.indexOf(waiting);
      if (at >= 0) this.#searches.splice(at, 1);
      reject(new Fault('busy', 'the search index is busy'));
    }, searchMsMax).unref();
    waiting.resolve = (answer) => {
      clearTimeout(timer);
      resolve(answer);
    };
    waiting.reject = (fault) => {
      clearTimeout(timer);
      reject(fault);
    };
  }

  /** Ends the thread. Indexes that were not closed are built anew. */
  async end(): Promise<void> {
    await this.#fail('ended');
  }

  #next(): void {
    if (this.#current !== undefined) return;
    const next = this.#searches.shift() ?? this.#works.shift();
    if (next === undefined) return;
    const { task } = next;
    this.#current = { ...next, id: ++this.#id };
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#timer = setTimeout(() => {
      this.#restUntilMs = performance.now() + restMs;
      void this.#fail('took too long');
    }, taskMsMax).unref();
    const transfer = task.kind === 'add' ? [task.bytes.buffer] : [];
    this.#worker.postMessage({ id: this.#id, task }, transfer);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./index-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: heapMbMax },
      execArgv: ['--disable-warning=ExperimentalWarning'],
      env: {},
    });
    worker.on('message', (reply: IndexReply) => {
      const current = this.#current;
      if (current?.id !== reply.id) return;
      this.#current = undefined;
      clearTimeout(this.#timer);
      worker.unref();
      if ('answer' in reply) current.resolve(reply.answer);
      else
        current.reject(
          new Fault('unavailable', 'the search index failed', { detail: { why: reply.failure } }),
        );
      this.#next();
    });
    const failed = (error?: unknown): void => {
      if (this.#worker === worker) void this.#fail(error instanceof Error ? error.message : 'ended');
    };
    worker.on('error', failed);
    worker.on('exit', () => failed());
    return worker;
  }

  async #fail(why: string): Promise<void> {
    const worker = this.#worker;
    const current = this.#current;
    this.#worker = undefined;
    this.#current = undefined;
    clearTimeout(this.#timer);
    current?.reject(new Fault('unavailable', 'the search index failed', { detail: { why } }));
    const ended = worker?.terminate();
    this.#next();
    await ended;
  }
}

/** The one of this process. */
export const indexThread = new IndexThread();
