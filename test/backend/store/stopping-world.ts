/**
 * Stops everything one piece of work does with the file system, at a call of
 * choice: as if the process had been killed there. What runs outside of the
 * work goes on undisturbed, so the next owner can look at what was left.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';

type Callback = (...results: unknown[]) => void;
type Call = (...args: unknown[]) => unknown;

/** Calls that change something on the disk. */
const changing = [
  'write',
  'writev',
  'fdatasync',
  'fsync',
  'rename',
  'link',
  'unlink',
  'mkdir',
  'rm',
  'ftruncate',
  'futimes',
  'copyFile',
] as const;
/** Calls that change nothing by themselves: after the stop they do not answer either. */
const looking = ['open', 'close', 'read', 'stat', 'readdir', 'readFile'] as const;
type Name = (typeof changing)[number] | (typeof looking)[number];

export interface Stop {
  /** The how-manieth change is the one. */
  readonly at: number;
  /** `before`: it does not happen any more. `after`: it happens, and nobody hears of it. */
  readonly when: 'before' | 'after';
}

export class StoppingWorld {
  static readonly #current = new AsyncLocalStorage<StoppingWorld>();
  static readonly #real = new Map<Name, Call>();

  /** Changes seen since counting began. */
  changes = 0;
  stopped = false;
  /** What the change was that the world stopped at. */
  stoppedAt = '';
  readonly #stop: Stop;
  #counting = false;
  #running = 0;
  readonly #descriptors = new Set<number>();
  #halted: (() => void) | undefined;
  readonly #isHalted = new Promise<void>((resolve) => {
    this.#halted = resolve;
  });

  constructor(stop: Stop) {
    this.#stop = stop;
  }

  /** Changes count from here on. */
  count(): void {
    this.#counting = true;
  }

  /** Runs `work` in this world until it ends or the world stops. */
  async run(work: () => Promise<void>): Promise<void> {
    const done = StoppingWorld.#current.run(this, work);
    const ended = done.catch((error: unknown) => {
      if (!this.stopped) throw error;
    });
    await Promise.race([ended, this.#isHalted]);
    while (this.#running > 0) await new Promise((resolve) => setImmediate(resolve));
    for (const fd of this.#descriptors) StoppingWorld.#real.get('close')!(fd, () => {});
  }

  static install(): void {
    for (const name of [...changing, ...looking]) {
      const real = (fs as unknown as Record<Name, Call>)[name];
      StoppingWorld.#real.set(name, real);
      (fs as unknown as Record<Name, Call>)[name] = (...args) => {
        const world = StoppingWorld.#current.getStore();
        return world === undefined ? real(...args) : world.#call(name, real, args);
      };
    }
  }

  static remove(): void {
    for (const [name, real] of StoppingWorld.#real) (fs as unknown as Record<Name, Call>)[name] = real;
  }

  #call(name: Name, real: Call, args: unknown[]): void {
    if (this.stopped) return;
    const here = this.#counting && isChange(name, args) && ++this.changes === this.#stop.at;
    if (here) {
      this.stopped = true;
      this.stoppedAt = `${name} ${String(args[0])}`;
      if (this.#stop.when === 'before') {
        if (this.#running === 0) this.#halted!();
        return;
      }
    }
    const done = args.at(-1) as Callback;
    this.#running++;
    const ended = (...results: unknown[]): void => {
      this.#running--;
      if (name === 'open' && !results[0]) this.#descriptors.add(results[1] as number);
      if (name === 'close') this.#descriptors.delete(args[0] as number);
      // A killed process hears nothing any more; what it had begun has ended before the next owner comes.
      if (!this.stopped) StoppingWorld.#current.run(this, () => done(...results));
      else if (this.#running === 0) this.#halted!();
    };
    // Outside, because some calls are made of others, which are no calls of the work.
    StoppingWorld.#current.exit(() => real(...args.slice(0, -1), ended));
  }
}

function isChange(name: Name, args: readonly unknown[]): boolean {
  if (name !== 'open') return (changing as readonly string[]).includes(name);
  const flags = args[1];
  return typeof flags === 'number' ? (flags & fs.constants.O_CREAT) !== 0 : /[wax]/.test(String(flags));
}
