/**
 * The kernel's lock of a file, as fcntl(2) takes it for other mbox programs.
 * Ours is an open file description lock: it conflicts with theirs, belongs to
 * the descriptor, and is not lost when another descriptor of the file is closed
 * in this process. It ends when the descriptor is closed.
 *
 * Node has no such call; the native module `fs-native-extensions` brings it. It
 * is asked in a thread of its own, since a file server may take its time. Where
 * it cannot be loaded, mbox folders are refused rather than used unlocked.
 */
import { Worker } from 'node:worker_threads';
import { Fault } from '../../../base/fault.ts';
import type { LockAnswer, LockTask } from './lock-worker.ts';

const waitingMax = 10_000;
/** A file server that does not answer for so long: whoever waits is turned away, the next one gets a new thread. */
const answerMsMax = 20_000;
const heapMbMax = 32;

interface Waiting {
  resolve(locked: boolean): void;
  reject(fault: Fault): void;
}

export class LockThread {
  readonly #file: URL;
  #worker: Worker | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #timer: NodeJS.Timeout | undefined;
  #id = 0;
  #cannotLoad: Fault | undefined;

  /** @param file  What runs in the thread. */
  constructor(file = new URL('./lock-worker.ts', import.meta.url)) {
    this.#file = file;
  }

  /** @throws {Fault} `unavailable`: there are no locks to be had here. */
  async ready(): Promise<void> {
    await this.#ask();
  }

  /**
   * Locks the whole file for writing, if nobody else has it locked.
   * @param fd  Open for writing. @throws {Fault} `unavailable`: there is no lock to be had here; `busy`
   */
  tryLock(fd: number): Promise<boolean> {
    return this.#ask(fd);
  }

  #ask(fd?: number): Promise<boolean> {
    if (this.#cannotLoad) return Promise.reject(this.#cannotLoad);
    if (this.#waiting.size >= waitingMax) {
      return Promise.reject(new Fault('busy', 'too many mailboxes wait for their lock'));
    }
    return new Promise((resolve, reject) => {
      const id = ++this.#id;
      this.#waiting.set(id, { resolve, reject });
      this.#worker ??= this.#start();
      this.#worker.ref();
      this.#worker.postMessage((fd === undefined ? { id } : { id, fd }) satisfies LockTask);
      this.#timer ??= setTimeout(
        () => this.#fail(new Fault('busy', 'the file server does not lock')),
        answerMsMax,
      );
    });
  }

  #start(): Worker {
    const worker = new Worker(this.#file, {
      resourceLimits: { maxOldGenerationSizeMb: heapMbMax },
      execArgv: ['--disable-warning=ExperimentalWarning'],
      env: {},
    });
    worker.on('message', (answer: LockAnswer) => {
      const waiting = this.#waiting.get(answer.id);
      if (!waiting) return;
      this.#waiting.delete(answer.id);
      this.#rest(worker);
      if ('locked' in answer) waiting.resolve(answer.locked);
      else if (answer.cannotLoad) {
        this.#cannotLoad = new Fault(
          'unavailable',
          'mbox folders cannot be used: the module that locks files, fs-native-extensions, does not load here',
          { detail: { why: answer.failure } },
        );
        waiting.reject(this.#cannotLoad);
      } else {
        waiting.reject(
          new Fault('unavailable', 'the storage does not lock files', { detail: { why: answer.failure } }),
        );
      }
    });
    const ended = (error?: unknown): void => {
      if (this.#worker !== worker) return;
      const why = error instanceof Error ? error.message : 'ended';
      this.#fail(new Fault('unavailable', 'the thread that locks mailboxes failed', { detail: { why } }));
    };
    worker.on('error', ended);
    worker.on('exit', () => ended());
    return worker;
  }

  #rest(worker: Worker): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.size === 0) worker.unref();
    else
      this.#timer = setTimeout(
        () => this.#fail(new Fault('busy', 'the file server does not lock')),
        answerMsMax,
      );
  }

  #fail(fault: Fault): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const worker = this.#worker;
    this.#worker = undefined;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const one of waiting) one.reject(fault);
    worker?.terminate().catch(() => {});
  }
}

/** The one of this process. */
export const lockThread = new LockThread();
