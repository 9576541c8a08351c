/**
 * One start of one backend in the simulator: the same pure machines that run in
 * a real one (lease, holdings, controller), driven over a network that loses,
 * delays and doubles, by a clock that is not quite right, in a process that may
 * be paused or killed at any moment.
 */
import {
  type ControllerConfig,
  type ControllerInput,
  controllerAtStart,
  stepController,
} from '../controlling.ts';
import { Holdings } from '../holdings.ts';
import type { Shard } from '../ids.ts';
import { type LeaseView, leaseGranted, leaseIsGood, leaseRenewed, renewEveryMs } from '../lease.ts';
import {
  type Change,
  type Condition,
  type RegistryEntry,
  registryKey,
  type WatchEvent,
} from '../registry.ts';
import { encodeReleased } from '../released.ts';
import { decodeShardMap } from '../shard-map.ts';
import { type Mutant, mutateConditions, mutateMap } from './mutant.ts';
import type { Random } from './random.ts';
import type { SimRegistry } from './sim-registry.ts';
import type { Timeline } from './timeline.ts';

export interface SimWorld {
  readonly timeline: Timeline;
  readonly registry: SimRegistry;
  readonly random: Random;
  readonly mutant: Mutant | undefined;
  /** Messages are lost, doubled and late while this is true. */
  readonly faulty: boolean;
  readonly shardCount: number;
}

export const leaseMs = 3000;
export const marginMs = 500;
const callDeadlineMs = 1000;

export class SimBackend {
  readonly id: string;
  readonly incarnation: string;
  readonly holdings: Holdings;
  lease = '';
  alive = true;
  pausedUntilMs = 0;
  readonly #world: SimWorld;
  readonly #rate: number;
  readonly #offsetMs: number;
  readonly #onDeath: () => void;
  #view: LeaseView | undefined;
  #config: ControllerConfig | undefined;
  #controller = controllerAtStart;
  /** Per group of keys: events up to this revision are known. */
  readonly #known = new Map<readonly string[], number>();
  #picture: RegistryEntry[] = [];
  /** What the watch brought while lists were under way; a real watch starts from the list's revision. */
  #early: WatchEvent[] = [];
  #watchAtMs = 0;
  #releasing = false;

  constructor(world: SimWorld, id: string, incarnation: string, onDeath: () => void) {
    this.#world = world;
    this.id = id;
    this.incarnation = incarnation;
    this.holdings = new Holdings({ id, incarnation });
    // The margin has to cover what clocks differ by within one lease: 500 ms of 3 s are 17 %.
    this.#rate = world.random.between(0.93, 1.07);
    this.#offsetMs = world.random.between(0, 1e6);
    this.#onDeath = onDeath;
    this.#register();
  }

  /** This process's own monotonic clock. */
  get #clockMs(): number {
    return this.#offsetMs + this.#world.timeline.nowMs * this.#rate;
  }

  /** Would it act for the shard if it ran at this very moment? */
  mayAct(shard: Shard): boolean {
    if (!this.alive || this.#view === undefined || this.holdings.epochOfShard(shard) === 0) return false;
    return this.#world.mutant === 'no-lease-check' || leaseIsGood(this.#view, this.#clockMs);
  }

  die(): void {
    if (!this.alive) return;
    this.alive = false;
    this.#onDeath();
  }

  /** A batch of the registry's changes is on its way to this process; they come in order. */
  watch(events: readonly WatchEvent[]): void {
    const { timeline, random, faulty } = this.#world;
    if (!this.alive) return;
    const delayMs = faulty && random.chance(0.05) ? random.between(50, 1500) : random.between(1, 15);
    this.#watchAtMs = Math.max(this.#watchAtMs, timeline.nowMs + delayMs);
    timeline.at(this.#watchAtMs, () =>
      this.#run(() => {
        for (const event of events) this.#event(event);
      }),
    );
  }

  /** Runs `work` in this process: later when it is paused, never when it is dead. */
  #run(work: () => void): void {
    if (!this.alive) return;
    const { timeline } = this.#world;
    if (timeline.nowMs < this.pausedUntilMs) timeline.at(this.pausedUntilMs, () => this.#run(work));
    else work();
  }

  #timer(ms: number, work: () => void): void {
    this.#world.timeline.after(ms / this.#rate, () => this.#run(work));
  }

  /** One call to the registry. `settle` gets `undefined` when nobody knows what became of it. */
  #call<T>(does: (registry: SimRegistry, nowMs: number) => T, settle: (result: T | undefined) => void): void {
    const { timeline, random, registry, faulty } = this.#world;
    let settled = false;
    const once = (result: T | undefined): void => {
      if (settled) return;
      settled = true;
      settle(result);
    };
    const delay = (): number =>
      faulty && random.chance(0.05) ? random.between(50, 3500) : random.between(0.5, 10);
    const send = (): void => {
      if (faulty && random.chance(0.04)) return;
      timeline.after(delay(), () => {
        registry.expire(timeline.nowMs);
        const result = does(registry, timeline.nowMs);
        if (faulty && random.chance(0.04)) return;
        timeline.after(delay(), () => this.#run(() => once(result)));
      });
    };
    send();
    if (faulty && random.chance(0.03)) send();
    this.#timer(callDeadlineMs, () => once(undefined));
  }

  #transact(
    conditions: readonly Condition[],
    changes: readonly Change[],
    settle: (result: { done: boolean; revision: number } | undefined) => void,
  ): void {
    this.#call((registry) => registry.transact(conditions, changes), settle);
  }

  #register(): void {
    const sentAtMs = this.#clockMs;
    const again = (): void => this.#timer(50, () => this.#register());
    this.#call(
      (registry, nowMs) => registry.grant(leaseMs, nowMs),
      (lease) => {
        if (lease === undefined) {
          again();
          return;
        }
        const value = JSON.stringify({ id: this.id, role: 'backend', incarnation: this.incarnation });
        const key = registryKey.member(this.id);
        this.#transact([{ key, is: 'absent' }], [{ put: key, value, lease }], (result) => {
          // Unknown: a process that cannot tell whether it is registered starts over.
          if (result === undefined) this.die();
          if (result?.done === false) again();
          if (result?.done !== true) return;
          this.lease = lease;
          this.#view = leaseGranted(leaseMs, marginMs, sentAtMs);
          this.#config = {
            self: this.id,
            lease,
            shardCount: this.#world.shardCount,
            firstEpoch: 1,
            settleMs: 300,
          };
          this.#timer(renewEveryMs(this.#view), () => this.#renew());
          this.#readAll();
        });
      },
    );
  }

  #renew(): void {
    if (this.#view === undefined) return;
    const checksLease = this.#world.mutant !== 'no-lease-check';
    if (checksLease && !leaseIsGood(this.#view, this.#clockMs)) {
      this.die();
      return;
    }
    this.#timer(renewEveryMs(this.#view), () => this.#renew());
    const sentAtMs = this.#clockMs;
    this.#call(
      (registry, nowMs) => registry.renew(this.lease, nowMs),
      (renewed) => {
        if (renewed === false && checksLease) this.die();
        if (renewed !== true || !leaseIsGood(this.#view!, this.#clockMs)) return;
        this.#view =
          this.#world.mutant === 'lease-from-answer'
            ? { ...this.#view!, goodUntilMs: this.#clockMs + leaseMs }
            : leaseRenewed(this.#view!, sentAtMs);
      },
    );
  }

  /** Lists group by group, as a real follower does: the groups are of different revisions. */
  #readAll(): void {
    const groups = [
      [registryKey.shardMap, registryKey.controller],
      [registryKey.memberPrefix, registryKey.releasedPrefix],
    ];
    if (this.#world.random.chance(0.5)) groups.reverse();
    this.#known.clear();
    this.#picture = [];
    this.#early = [];
    const next = (): void => {
      const group = groups.shift();
      if (group === undefined) {
        this.#takeMaps(this.#picture);
        this.#control({ kind: 'picture', entries: this.#picture, nowMs: this.#clockMs });
        for (const event of this.#early.splice(0)) this.#event(event);
        return;
      }
      this.#call(
        (registry) => registry.list(group),
        (list) => {
          if (list === undefined) {
            this.#timer(50, () => this.#readAll());
            return;
          }
          this.#known.set(group, list.revision);
          this.#picture = this.#picture.concat(list.entries);
          next();
        },
      );
    };
    next();
  }

  #event(event: WatchEvent): void {
    if (this.#known.size < 2) {
      this.#early.push(event);
      return;
    }
    for (const [prefixes, revision] of this.#known) {
      if (event.revision <= revision || !prefixes.some((prefix) => event.key.startsWith(prefix))) continue;
      if (event.kind === 'put') this.#takeMaps([event]);
      this.#control({ kind: 'event', event, nowMs: this.#clockMs });
    }
  }

  #control(input: ControllerInput): void {
    if (this.#config === undefined) return;
    const { mutant } = this.#world;
    const { state, outputs } = stepController(this.#controller, input, this.#config);
    this.#controller = state;
    for (const output of outputs) {
      if (output.kind === 'wake') {
        this.#timer(Math.max(1, output.atMs - this.#clockMs), () =>
          this.#control({ kind: 'tick', nowMs: this.#clockMs }),
        );
      } else if (output.kind === 'read-again') {
        this.#timer(10, () => this.#readAll());
      } else {
        const changes = output.changes.map((change) =>
          'put' in change && change.put === registryKey.shardMap
            ? { ...change, value: mutateMap(mutant, change.value) }
            : change,
        );
        const writesMap = output.changes.some(
          (change) => 'put' in change && change.put === registryKey.shardMap,
        );
        const conditions = writesMap ? mutateConditions(mutant, output.conditions) : output.conditions;
        this.#transact(conditions, changes, (result) =>
          this.#control({
            kind: 'answered',
            done: result?.done,
            revision: result?.revision ?? 0,
            nowMs: this.#clockMs,
          }),
        );
      }
    }
  }

  #takeMaps(entries: readonly { key: string; value: string; revision: number }[]): void {
    for (const entry of entries) {
      if (entry.key !== registryKey.shardMap) continue;
      const { lost } = this.holdings.takeMap(decodeShardMap(entry.value), entry.revision);
      if (lost > 0) this.die();
      else this.#release();
    }
  }

  #release(): void {
    if (this.#releasing) return;
    const leaving = this.holdings.leaving();
    if (leaving === undefined) {
      this.#writeReleased();
      return;
    }
    this.#releasing = true;
    this.#timer(this.#world.random.between(1, 200), () => {
      this.holdings.letGo(leaving);
      this.#releasing = false;
      this.#release();
    });
  }

  #writeReleased(): void {
    const released = this.holdings.released();
    if (released === undefined || this.#releasing) return;
    this.#releasing = true;
    const again = (): void =>
      this.#timer(50, () => {
        this.#releasing = false;
        this.#release();
      });
    const { revision } = this.holdings;
    const key = registryKey.released(this.id);
    const value = encodeReleased(released);
    this.#call(
      (registry) => registry.entries.get(key) ?? null,
      (before) => {
        if (before === undefined) {
          again();
          return;
        }
        if (before?.value === value && before.lease === this.lease) {
          this.#releasing = false;
          if (this.holdings.revision !== revision) this.#release();
          return;
        }
        this.#transact(
          [before ? { key, is: 'at', revision: before.revision } : { key, is: 'absent' }],
          [{ put: key, value, lease: this.lease }],
          again,
        );
      },
    );
  }
}
