/**
 * Runs the controller machine (`cluster-protocol/controlling.ts`) against the
 * registry. Every backend runs one; the one that is elected writes the shard map.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../base/log.ts';
import {
  type ControllerConfig,
  type ControllerInput,
  type ControllerOutput,
  controllerAtStart,
  controllerPrefixes,
  stepController,
} from '../../cluster-protocol/controlling.ts';
import {
  decodeMoves,
  encodeMoves,
  grantsBetween,
  type MoveRecord,
  withMoves,
} from '../../cluster-protocol/move-log.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Change, type Registry, registryKey } from '../../cluster-protocol/registry.ts';

/** After a transaction that failed: how long before everything is read again; doubled up to the second. */
const readAgainFirstMs = 5;
const readAgainMaxMs = 1000;

export interface ControllerOptions {
  readonly registry: Registry;
  readonly config: ControllerConfig;
  readonly log: Log;
  /** Monotonic milliseconds. */
  readonly clock: () => number;
}

export class Controller {
  readonly #options: ControllerOptions;
  readonly #end = new AbortController();
  #state = controllerAtStart;
  #following: AbortController | undefined;
  #wake: NodeJS.Timeout | undefined;
  #readAgainMs = readAgainFirstMs;
  /** As it stands in the registry: only the controller writes it, with the map. */
  #moves: readonly MoveRecord[] = [];

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#follow();
  }

  /** Is this process the controller, as far as it knows? */
  get elected(): boolean {
    return this.#state.term !== 0;
  }

  /** Ends it. The seat goes with the lease. */
  stop(): void {
    this.#end.abort();
    this.#following?.abort();
    clearTimeout(this.#wake);
  }

  #follow(): void {
    this.#following?.abort();
    if (this.#end.signal.aborted) return;
    const following = new AbortController();
    this.#following = following;
    const { registry, clock, log } = this.#options;
    follow(
      registry,
      [...controllerPrefixes, registryKey.moves],
      {
        reset: (entries) => {
          this.#moves = decodeMoves(entries.find(({ key }) => key === registryKey.moves)?.value ?? '');
          this.#step({ kind: 'picture', entries, nowMs: clock() });
        },
        event: (event) => {
          if (event.key === registryKey.moves) this.#moves = decodeMoves(event.value);
          else this.#step({ kind: 'event', event, nowMs: clock() });
        },
        trouble: (error) => log.warn({ err: error }, 'the controller cannot read the registry'),
      },
      following.signal,
    );
  }

  #step(input: ControllerInput): void {
    const { config, log } = this.#options;
    const wasElected = this.elected;
    const { state, outputs } = stepController(this.#state, input, config);
    this.#state = state;
    if (this.elected !== wasElected) log.info({ elected: this.elected }, 'controller');
    for (const output of outputs) this.#perform(output);
  }

  #perform(output: ControllerOutput): void {
    if (output.kind === 'wake') {
      clearTimeout(this.#wake);
      const inMs = Math.max(1, output.atMs - this.#options.clock());
      this.#wake = setTimeout(() => this.#step({ kind: 'tick', nowMs: this.#options.clock() }), inMs);
    } else if (output.kind === 'transact') {
      void this.#transact(output);
    } else {
      void this.#readAgain();
    }
  }

  async #transact(output: Extract<ControllerOutput, { kind: 'transact' }>): Promise<void> {
    const { registry, clock, log } = this.#options;
    let done: boolean | undefined;
    let revision = 0;
    try {
      const changes = [...output.changes, ...this.#moveRecord()];
      ({ done, revision } = await registry.transact(output.conditions, changes));
      if (done) this.#readAgainMs = readAgainFirstMs;
    } catch (error) {
      if (!this.#end.signal.aborted) log.warn({ err: error }, 'the controller cannot write to the registry');
    }
    if (this.#end.signal.aborted) return;
    this.#step({ kind: 'answered', done, revision, nowMs: clock() });
  }

  /** What the map that is about to be written grants, beside the map. */
  #moveRecord(): Change[] {
    const { known, writing } = this.#state;
    if (writing === undefined) return [];
    const grants = grantsBetween(known?.map?.map, writing, Date.now());
    if (grants.length === 0) return [];
    return [{ put: registryKey.moves, value: encodeMoves(withMoves(this.#moves, grants)) }];
  }

  async #readAgain(): Promise<void> {
    this.#following?.abort();
    const waitMs = this.#readAgainMs;
    this.#readAgainMs = Math.min(waitMs * 2, readAgainMaxMs);
    await sleep(waitMs, undefined, { ref: false });
    this.#follow();
  }
}
