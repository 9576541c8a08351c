/**
 * One start of one gateway with the clients behind it: it watches map and
 * members, asks the owner of an account, asks again where an answer says so or
 * none comes, and tells the client. What it tells is what the checker judges.
 */
import { registryKey } from '../../cluster-protocol/registry.ts';
import { decodeShardMap, type ShardMap, whereIs } from '../../cluster-protocol/shard-map.ts';
import type { Operation } from './checker.ts';
import type { Answer } from './sim-accounts.ts';
import type { SimBackend } from './sim-backend.ts';
import { SimFollow } from './sim-follow.ts';
import type { SimProcess } from './sim-process.ts';
import type { Batch } from './sim-registry.ts';

const answerDeadlineMs = 1200;
const operationDeadlineMs = 6000;
const recheckMs = 150;

export class SimGateway {
  readonly process: SimProcess;
  /** Accounts that were answered for since `sinceMs`. */
  readonly answeredSince = new Set<string>();
  sinceMs = Number.POSITIVE_INFINITY;
  readonly #backends: ReadonlySet<SimBackend>;
  readonly #follow: SimFollow;
  #map: ShardMap | undefined;
  #count = 0;

  constructor(process: SimProcess, backends: ReadonlySet<SimBackend>) {
    this.process = process;
    this.#backends = backends;
    this.#follow = new SimFollow(process, [registryKey.shardMap], {
      reset: (entries) => {
        for (const entry of entries) if (entry.key === registryKey.shardMap) this.#take(entry.value);
      },
      event: (event) => event.kind === 'put' && this.#take(event.value),
    });
    this.#follow.start();
    this.#client();
  }

  batch(batch: Batch): void {
    this.#follow.batch(batch);
  }

  #take(text: string): void {
    this.#map = decodeShardMap(text);
  }

  #client(): void {
    const { process } = this;
    const { world } = process;
    process.timer(world.random.between(80, 600), () => {
      const address = world.accounts[Math.floor(world.random.next() * world.accounts.length)]!;
      const kind = world.random.chance(0.6) ? 'append' : 'read';
      const operation = world.checker.asks(`${process.incarnation}:${++this.#count}`, kind, address);
      this.#attempt(operation, world.timeline.nowMs, undefined);
      this.#client();
    });
  }

  #attempt(
    operation: Operation,
    askedMs: number,
    hint: { readonly owner: string; readonly epoch: number } | undefined,
  ): void {
    const { process } = this;
    const { net, timeline, checker, trace } = process.world;
    if (timeline.nowMs > askedMs + operationDeadlineMs) return;
    const place = this.#map && whereIs(this.#map, operation.address);
    const where = hint !== undefined && hint.epoch > (place?.epoch ?? 0) ? hint : place;
    const again = (next: typeof hint, ms: number): void =>
      process.timer(ms, () => this.#attempt(operation, askedMs, next));
    if (where === undefined) {
      again(undefined, recheckMs);
      return;
    }
    let over = false;
    /** An attempt that was given up is closed: what still comes on it is dropped. */
    const settle = (answer: Answer | undefined): void => {
      if (over) return;
      over = true;
      if (answer?.kind === 'done') {
        trace?.(`${operation.id} ${operation.kind} ${operation.address} answered at ${answer.epoch}`);
        if (!answer.held) {
          checker.answeredInVain(operation);
          return;
        }
        checker.answered(operation, answer.records, answer.epoch, answer.sentMs);
        if (askedMs >= this.sinceMs) this.answeredSince.add(operation.address);
      } else if (answer?.kind === 'not-owner' && answer.owner !== where.owner && answer.epoch > where.epoch)
        again(answer, 1);
      else again(undefined, recheckMs);
    };
    process.timer(answerDeadlineMs, () => settle(undefined));
    const { node } = process;
    net.send(node, where.owner, () => {
      for (const backend of this.#backends) {
        if (backend.process.node !== where.owner) continue;
        backend.process.run(() =>
          backend.accounts.ask(operation, (answer) =>
            net.send(where.owner, node, () => process.run(() => settle(answer))),
          ),
        );
      }
    });
  }
}
