/**
 * One worker thread for bcrypt and SHA-crypt: started when an imported password
 * is checked, ended when none was for a while. So many checks may wait, and one
 * that takes too long ends the thread.
 */
import { Worker } from 'node:worker_threads';
import { Fault } from '../../base/fault.ts';
import type { CryptAnswer, CryptTask } from './crypt-worker.ts';

const waitingMax = 200;
/** The costliest hash that is accepted takes about a second. */
const checkMsMax = 15_000;
const idleMs = 30_000;
const heapMbMax = 64;

interface Waiting {
  readonly task: CryptTask;
  resolve(right: boolean): void;
  reject(fault: Fault): void;
}

export class CryptThread {
  #worker: Worker | undefined;
  readonly #waiting: Waiting[] = [];
  #current: Waiting | undefined;
  #timer: NodeJS.Timeout | undefined;
  #id = 0;

  /** Does the password fit a `$2…$`, `$5$` or `$6$` hash? @throws {Fault} `busy` */
  check(hash: string, password: string): Promise<boolean> {
    if (this.#waiting.length >= waitingMax)
      return Promise.reject(new Fault('busy', 'too many logins at once'));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ task: { id: ++this.#id, hash, password }, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#waiting.shift();
    clearTimeout(this.#timer);
    if (this.#current === undefined) {
      this.#timer = setTimeout(() => this.#end(), idleMs).unref();
      return;
    }
    this.#timer = setTimeout(() => this.#end(), checkMsMax).unref();
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#worker.postMessage(this.#current.task);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./crypt-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: heapMbMax },
      execArgv: ['--disable-warning=ExperimentalWarning'],
      env: {},
    });
    worker.on('message', ({ id, right }: CryptAnswer) => {
      const current = this.#current;
      if (current?.task.id !== id) return;
      this.#current = undefined;
      worker.unref();
      current.resolve(right);
      this.#next();
    });
    const failed = (): void => {
      if (this.#worker === worker) this.#end();
    };
    worker.on('error', failed);
    worker.on('exit', failed);
    return worker;
  }

  /** Ends the thread; the check it was at is not decided. */
  #end(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    const current = this.#current;
    this.#current = undefined;
    if (current === undefined) return;
    current.reject(new Fault('busy', 'the password could not be checked in time'));
    this.#next();
  }
}
