/**
 * What `cluster-protocol/registry/follow.ts` does, by virtual time: lists prefix
 * by prefix (each as of its own revision), watches each from there, goes on from
 * its place when a watch breaks, and starts over when that place is gone.
 */
import type { RegistryEntry, WatchEvent } from '../../cluster-protocol/registry.ts';
import type { SimProcess } from './sim-process.ts';
import type { Batch } from './sim-registry.ts';

const retryMs = 50;

/** One prefix's watch: a stream of its own, so that nothing orders it against the others. */
interface Stream {
  readonly prefix: string;
  /** Up to where batches have arrived. */
  arrived: number;
  isOn: boolean;
  nextAtMs: number;
}

export class SimFollow {
  readonly #process: SimProcess;
  readonly #prefixes: readonly string[];
  readonly #reset: (entries: readonly RegistryEntry[]) => void;
  readonly #event: (event: WatchEvent) => void;
  /** Of this beginning; those of earlier ones are void. */
  #streams: readonly Stream[] = [];

  constructor(
    process: SimProcess,
    prefixes: readonly string[],
    on: { reset(entries: readonly RegistryEntry[]): void; event(event: WatchEvent): void },
  ) {
    this.#process = process;
    this.#prefixes = prefixes;
    this.#reset = on.reset;
    this.#event = on.event;
  }

  start(): void {
    const streams = this.#prefixes.map((prefix) => ({ prefix, arrived: 0, isOn: false, nextAtMs: 0 }));
    this.#streams = streams;
    const lists = streams.map((): RegistryEntry[] => []);
    let missing = streams.length;
    for (const [index, stream] of streams.entries()) {
      this.#process.call(
        (registry) => registry.list(stream.prefix),
        (list) => {
          if (streams !== this.#streams) return;
          if (list === undefined) {
            this.stop();
            this.#process.timer(retryMs, () => this.start());
            return;
          }
          lists[index] = list.entries;
          stream.arrived = list.revision;
          if (--missing > 0) return;
          this.#reset(lists.flat());
          for (const one of streams) if (this.#isCurrent(one)) this.#watch(one);
        },
        false,
      );
    }
  }

  stop(): void {
    this.#streams = [];
  }

  /** A batch leaves the registry for whoever watches. */
  batch(batch: Batch): void {
    if (!this.#process.alive) return;
    for (const stream of this.#streams)
      if (stream.isOn && batch.events.some((event) => event.key.startsWith(stream.prefix)))
        this.#deliver(stream, batch);
  }

  #isCurrent(stream: Stream): boolean {
    return this.#streams.includes(stream);
  }

  #watch(stream: Stream): void {
    this.#process.call(
      (registry) => registry.since(stream.arrived) ?? 'compacted',
      (batches) => {
        if (!this.#isCurrent(stream)) return;
        if (batches === undefined) {
          this.#process.timer(retryMs, () => this.#isCurrent(stream) && this.#watch(stream));
          return;
        }
        // Between the answer and now there may have been more: the stream of a real watch holds it too.
        const missed = this.#process.world.registry.since(stream.arrived);
        if (batches === 'compacted' || missed === undefined) {
          this.start();
          return;
        }
        stream.isOn = true;
        for (const batch of missed) this.#take(stream, batch);
      },
      false,
    );
  }

  #deliver(stream: Stream, batch: Batch): void {
    const { timeline, net, lags } = this.#process.world;
    const lag = lags.get(this.#process.node);
    const lateMs = lag !== undefined && lag.untilMs > timeline.nowMs ? lag.ms : 0;
    stream.nextAtMs = Math.max(stream.nextAtMs, timeline.nowMs + net.delayMs() + lateMs);
    timeline.at(stream.nextAtMs, () => {
      if (!stream.isOn || !this.#isCurrent(stream)) return;
      if (net.isCut('registry', this.#process.node)) {
        // Silence is noticed by pings; then the watch goes on from its place.
        stream.isOn = false;
        this.#process.timer(1000, () => this.#isCurrent(stream) && this.#watch(stream));
        return;
      }
      this.#process.run(() => this.#take(stream, batch));
    });
  }

  #take(stream: Stream, batch: Batch): void {
    if (!stream.isOn || batch.revision <= stream.arrived || !this.#isCurrent(stream)) return;
    stream.arrived = batch.revision;
    for (const event of batch.events)
      if (event.key.startsWith(stream.prefix) && this.#isCurrent(stream)) this.#event(event);
  }
}
