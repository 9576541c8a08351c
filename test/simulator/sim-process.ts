/**
 * One process of a play, between start and death: a clock that is not quite
 * right, pauses during which everything waits, and places at which the play may
 * strike it. Calls to the registry go out from here.
 */
import type { Checker } from './checker.ts';
import type { Network } from './network.ts';
import type { Act, Play, Point } from './play.ts';
import type { Random } from './random.ts';
import type { SimRegistry } from './sim-registry.ts';
import type { SimStorage } from './sim-storage.ts';
import type { Timeline } from './timeline.ts';

export interface World {
  readonly play: Play;
  readonly timeline: Timeline;
  readonly random: Random;
  readonly net: Network;
  readonly registry: SimRegistry;
  readonly storage: SimStorage;
  readonly checker: Checker;
  readonly accounts: readonly string[];
  /** Strikes that wait for their moment. */
  readonly armed: Extract<Act, { do: 'strike' }>[];
  /** How late what is watched arrives: per node, until when and by how much. */
  readonly lags: Map<string, { untilMs: number; ms: number }>;
  faulty: boolean;
  readonly trace: ((line: string) => void) | undefined;
}

export const callDeadlineMs = 1000;

export class SimProcess {
  readonly world: World;
  /** The machine; the network knows it by this name. */
  readonly node: string;
  readonly incarnation: string;
  alive = true;
  pausedUntilMs = 0;
  /** When its machine vanished, if it did. */
  vanishedMs = Number.POSITIVE_INFINITY;
  readonly #rate: number;
  readonly #offsetMs: number;
  #stoodMs = 0;
  /** What has to be done when it runs again, in order. */
  #waiting: (() => void)[] = [];
  #resuming = false;
  readonly #onDeath: (vanished: boolean) => void;

  constructor(world: World, node: string, incarnation: string, onDeath: (vanished: boolean) => void) {
    this.world = world;
    this.node = node;
    this.incarnation = incarnation;
    // The margin has to cover what clocks differ by within one lease: 500 ms of 3 s are 17 %.
    this.#rate = world.random.between(0.93, 1.07);
    this.#offsetMs = world.random.between(0, 1e6);
    this.#onDeath = onDeath;
  }

  /** This process's own monotonic clock. */
  get clockMs(): number {
    return this.#offsetMs + (this.world.timeline.nowMs - this.#stoodMs) * this.#rate;
  }

  pause(ms: number): void {
    const { nowMs } = this.world.timeline;
    const until = Math.max(this.pausedUntilMs, nowMs + ms);
    if (this.world.play.clocks === 'stop') this.#stoodMs += until - Math.max(this.pausedUntilMs, nowMs);
    this.pausedUntilMs = until;
    this.world.trace?.(`${this.incarnation} stands still for ${Math.round(ms)} ms`);
  }

  die(why: string, vanished = false): void {
    if (!this.alive) return;
    this.alive = false;
    if (vanished) this.vanishedMs = this.world.timeline.nowMs;
    this.world.trace?.(`${this.incarnation} ${vanished ? 'vanishes' : 'dies'}: ${why}`);
    this.#onDeath(vanished);
  }

  /** Runs `work` in this process: later when it is paused, never when it is dead. */
  run(work: () => void): void {
    if (!this.alive) return;
    if (!this.#resuming && this.world.timeline.nowMs >= this.pausedUntilMs) {
      work();
      return;
    }
    this.#waiting.push(work);
    if (this.#resuming) return;
    this.#resuming = true;
    this.world.timeline.at(this.pausedUntilMs, () => this.#resume());
  }

  #resume(): void {
    while (this.alive && this.#waiting.length > 0) {
      if (this.world.timeline.nowMs < this.pausedUntilMs) {
        this.world.timeline.at(this.pausedUntilMs, () => this.#resume());
        return;
      }
      this.#waiting.shift()!();
    }
    this.#resuming = false;
  }

  timer(ms: number, work: () => void): void {
    this.world.timeline.after(Math.max(0, ms) / this.#rate, () => this.run(work));
  }

  /** A place where the play may strike: `work` follows if the process lives, when it runs again. */
  at(point: Point, work: () => void): void {
    const { armed } = this.world;
    for (let index = 0; index < armed.length; index++) {
      const act = armed[index]!;
      if (act.point !== point || (act.who !== '*' && act.who !== this.node)) continue;
      armed.splice(index, 1);
      this.world.trace?.(`${this.incarnation} is struck at ${point}`);
      if (act.ms > 0) this.pause(act.ms);
      else this.die('struck');
      break;
    }
    this.run(work);
  }

  /**
   * One call to the registry. `settle` gets `undefined` when nobody knows what became of it: no answer in time, or
   * an answer that it cannot be done now.
   */
  call<T>(
    does: (registry: SimRegistry, nowMs: number) => T,
    settle: (result: T | undefined) => void,
    writes = true,
  ): void {
    const { timeline, net, registry } = this.world;
    let settled = false;
    const once = (result: T | undefined): void => {
      if (settled) return;
      settled = true;
      settle(result);
    };
    net.send(this.node, 'registry', () => {
      if (timeline.nowMs < registry.silentUntilMs) return;
      registry.expire(timeline.nowMs);
      const isFull = writes && timeline.nowMs < registry.fullUntilMs;
      const result = isFull ? undefined : does(registry, timeline.nowMs);
      const answer = (): void => net.send('registry', this.node, () => this.run(() => once(result)));
      const lag = this.world.lags.get(this.node);
      if (lag !== undefined && lag.untilMs > timeline.nowMs) timeline.after(Math.min(900, lag.ms), answer);
      else answer();
    });
    this.timer(callDeadlineMs, () => once(undefined));
  }
}
