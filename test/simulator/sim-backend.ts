/**
 * One start of one backend: the product's own machines (lease, holdings,
 * releases, controller) driven as `backend/cluster/member.ts` and
 * `controller.ts` drive them, by virtual time.
 */
import { Acting } from '../../cluster-protocol/acting.ts';
import {
  type ControllerConfig,
  type ControllerInput,
  controllerAtStart,
  controllerPrefixes,
  stepController,
} from '../../cluster-protocol/controlling.ts';
import type { Shard } from '../../cluster-protocol/ids.ts';
import { leaseGranted } from '../../cluster-protocol/lease.ts';
import { type RegistryEntry, registryKey } from '../../cluster-protocol/registry.ts';
import { Releasing, writeOf } from '../../cluster-protocol/releasing.ts';
import { decodeShardMap } from '../../cluster-protocol/shard-map.ts';
import { SimAccounts } from './sim-accounts.ts';
import { SimFollow } from './sim-follow.ts';
import type { SimProcess } from './sim-process.ts';
import type { Batch } from './sim-registry.ts';

export const leaseMs = 3000;
export const marginMs = 500;
const settleMs = 300;
const retryMs = 50;

export class SimBackend {
  readonly process: SimProcess;
  readonly accounts: SimAccounts;
  lease = '';
  /** Undefined until it is a member. */
  acting: Acting | undefined;
  #round: Releasing | undefined;
  #config: ControllerConfig | undefined;
  #controller = controllerAtStart;
  #wakeAtMs = 0;
  #releasing = false;
  readonly #mapFollow: SimFollow;
  readonly #controllerFollow: SimFollow;

  constructor(process: SimProcess) {
    this.process = process;
    this.accounts = new SimAccounts(this);
    this.#mapFollow = new SimFollow(process, [registryKey.shardMap], {
      reset: (entries) => {
        for (const entry of entries) this.#takeMap(entry);
      },
      event: (event) => event.kind === 'put' && this.#takeMap(event),
    });
    this.#controllerFollow = new SimFollow(process, controllerPrefixes, {
      reset: (entries) => this.#control({ kind: 'picture', entries, nowMs: process.clockMs }),
      event: (event) => this.#control({ kind: 'event', event, nowMs: process.clockMs }),
    });
    this.#register();
  }

  /** Would it act for the shard if it ran at this very moment? */
  mayActForShard(shard: Shard): boolean {
    const { acting, process } = this;
    return (
      process.alive &&
      acting !== undefined &&
      acting.holdings.epochOfShard(shard) !== 0 &&
      acting.leaseIsGood(process.clockMs)
    );
  }

  mayActFor(address: string): boolean {
    const { acting, process } = this;
    return (
      process.alive &&
      acting !== undefined &&
      acting.holdings.epochFor(address) !== 0 &&
      acting.leaseIsGood(process.clockMs)
    );
  }

  batch(batch: Batch): void {
    this.#mapFollow.batch(batch);
    this.#controllerFollow.batch(batch);
  }

  /** Nothing may be done any more: the process ends, and tries again as another. */
  lose(why: string): void {
    this.acting?.freeze();
    this.process.die(why);
  }

  refused(address: string): void {
    this.process.world.trace?.(`${this.process.incarnation} is kept from ${address} by the fence`);
  }

  #register(): void {
    const { process } = this;
    const sentAtMs = process.clockMs;
    const again = (): void => process.timer(retryMs, () => this.#register());
    process.call(
      (registry, nowMs) => registry.grant(leaseMs, nowMs),
      (lease) => {
        if (lease === undefined) {
          again();
          return;
        }
        const { node, incarnation } = process;
        const value = JSON.stringify({ id: node, role: 'backend', incarnation });
        const key = registryKey.member(node);
        process.call(
          (registry) => registry.transact([{ key, is: 'absent' }], [{ put: key, value, lease }]),
          (result) => {
            // Unknown: a process that cannot tell whether it is registered starts over.
            if (result === undefined) process.die('it does not know whether it is a member');
            else if (!result.done) again();
            else process.at('registered', () => this.#joined(lease, sentAtMs));
          },
        );
      },
    );
  }

  #joined(lease: string, sentAtMs: number): void {
    const { process } = this;
    const { node: id, incarnation } = process;
    this.lease = lease;
    this.acting = new Acting({ id, incarnation }, leaseGranted(leaseMs, marginMs, sentAtMs));
    this.#round = new Releasing(this.acting.holdings);
    this.#config = { self: id, lease, shardCount: process.world.play.shards, firstEpoch: 1, settleMs };
    process.timer(this.acting.renewEveryMs, () => this.#renew());
    this.#watchLapse();
    this.#mapFollow.start();
    this.#controllerFollow.start();
  }

  #watchLapse(): void {
    const { acting, process } = this;
    process.timer(Math.max(1, acting!.goodUntilMs - process.clockMs), () => {
      if (acting!.leaseIsGood(process.clockMs)) this.#watchLapse();
      else this.lose('its lease has run out');
    });
  }

  #renew(): void {
    const { acting, process, lease } = this;
    process.timer(acting!.renewEveryMs, () => this.#renew());
    const sentAtMs = process.clockMs;
    process.call(
      (registry, nowMs) => registry.renew(lease, nowMs),
      (renewed) => {
        if (renewed === false) this.lose('the registry has ended its lease');
        else if (renewed === true) {
          acting!.renewed(sentAtMs, process.clockMs);
          process.world.checker.dirty = true;
        }
      },
      false,
    );
  }

  #takeMap(entry: { readonly key: string; readonly value: string; readonly revision: number }): void {
    if (entry.key !== registryKey.shardMap) return;
    const { lost } = this.acting!.takeMap(decodeShardMap(entry.value), entry.revision);
    this.process.world.checker.dirty = true;
    if (lost > 0) this.lose('the map gives away what it has not released');
    else this.#release();
  }

  #release(): void {
    if (this.#releasing) return;
    const { process } = this;
    const round = this.#round!;
    const step = round.next();
    if (step.kind === 'rest') return;
    this.#releasing = true;
    const goOn = (): void => {
      this.#releasing = false;
      this.#release();
    };
    if (step.kind === 'leave') {
      process.at('leave-begun', () =>
        this.accounts.leave(step.leaving, () => {
          round.left(step.leaving);
          process.world.checker.dirty = true;
          process.timer(0, () => process.at('left', goOn));
        }),
      );
      return;
    }
    this.accounts.assertClosed();
    const stands = (): void => {
      round.wrote(step.value);
      goOn();
    };
    const again = (): void => process.timer(retryMs, goOn);
    process.call(
      (registry) => registry.entries.get(step.key) ?? null,
      (before) => {
        if (before === undefined) {
          again();
          return;
        }
        const write = writeOf(step.key, step.value, this.lease, before ?? undefined);
        if (write === undefined) {
          stands();
          return;
        }
        process.at('release-sent', () =>
          process.call(
            (registry) => registry.transact(write.conditions, write.changes),
            (result) => (result?.done === true ? stands() : again()),
          ),
        );
      },
      false,
    );
  }

  #control(input: ControllerInput): void {
    const { process } = this;
    const { world } = process;
    const before = this.#controller.term;
    const { state, outputs } = stepController(this.#controller, input, this.#config!);
    this.#controller = state;
    if (world.trace && state.term !== before)
      world.trace(`${process.incarnation} ${state.term === 0 ? 'is not' : 'is'} the controller`);
    for (const output of outputs) {
      if (output.kind === 'wake') {
        const atMs = output.atMs;
        this.#wakeAtMs = atMs;
        process.timer(Math.max(1, atMs - process.clockMs), () => {
          if (this.#wakeAtMs === atMs) this.#control({ kind: 'tick', nowMs: process.clockMs });
        });
      } else if (output.kind === 'read-again') {
        this.#controllerFollow.stop();
        process.timer(10, () => this.#controllerFollow.start());
      } else {
        const writesMap = output.changes.some(
          (change) => 'put' in change && change.put === registryKey.shardMap,
        );
        const answer = (result: { done: boolean; revision: number } | undefined): void =>
          this.#control({
            kind: 'answered',
            done: result?.done,
            revision: result?.revision ?? 0,
            nowMs: process.clockMs,
          });
        const transact = (): void =>
          process.call(
            (registry) => {
              const result = registry.transact(output.conditions, output.changes);
              if (result.done && writesMap) world.checker.wroteMap(this);
              if (world.trace && result.done && writesMap)
                world.trace(
                  `${process.incarnation} writes the map: ${describe(registry.entries.get('map'))}`,
                );
              return result;
            },
            (result) => process.at(writesMap ? 'grant-answered' : 'elected', () => answer(result)),
          );
        if (writesMap) process.at('grant-sent', transact);
        else transact();
      }
    }
  }
}

function describe(entry: RegistryEntry | undefined): string {
  const { holders, runs, pins } = JSON.parse(entry!.value) as {
    holders: [string, string][];
    runs: [number, number?, number?, number?][];
    pins: unknown[];
  };
  const parts = runs.map(([count, owner, epoch, to]) => {
    if (owner === undefined) return `${count} free`;
    const move = to === undefined ? '' : ` to ${holders[to]![1]}`;
    return `${count} ${holders[owner]![1]} at ${epoch}${move}`;
  });
  return parts.join(', ') + (pins.length === 0 ? '' : `, pins ${JSON.stringify(pins)}`);
}
