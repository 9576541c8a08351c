/**
 * The controller as a pure machine: it stands for election, and while it is
 * elected keeps the shard map in step with members and releases. What it knows
 * comes in as registry entries; what it wants comes out as transactions. Every
 * transaction depends on the controller's term and on the map's revision, so a
 * controller that was replaced without noticing cannot write.
 */
import type { Epoch, MemberId } from './ids.ts';
import type { MemberRecord } from './link.ts';
import {
  type BackendView,
  type ReassignmentLimits,
  reassign,
  reassignmentLimitsDefault,
} from './reassignment.ts';
import { type Change, type Condition, type RegistryEntry, registryKey, type WatchEvent } from './registry.ts';
import { decodeReleased, type Released } from './released.ts';
import { decodeShardMap, emptyShardMap, encodeShardMap, type ShardMap } from './shard-map.ts';
import { noWishes, type Wishes, wishesAfter } from './wishes.ts';

/** Registry prefixes the machine has to be fed with. */
export const controllerPrefixes = [
  registryKey.controller,
  registryKey.shardMap,
  registryKey.memberPrefix,
  registryKey.releasedPrefix,
  registryKey.wishPrefix,
] as const;

export interface ControllerConfig {
  readonly self: MemberId;
  /** The lease of this process. */
  readonly lease: string;
  readonly shardCount: number;
  /** Used when there is no map yet: greater than any epoch accounts on the storage may have recorded. */
  readonly firstEpoch: Epoch;
  /** Nothing is moved for balance until members have been the same for so long. */
  readonly settleMs: number;
  readonly limits?: ReassignmentLimits;
}

interface Known {
  readonly controller:
    | { readonly id: MemberId; readonly lease: string | undefined; readonly revision: number }
    | undefined;
  readonly map: { readonly map: ShardMap; readonly revision: number } | undefined;
  readonly backends: ReadonlyMap<MemberId, BackendView>;
  readonly released: ReadonlyMap<MemberId, Released>;
  readonly wishes: Wishes;
}

export interface ControllerState {
  readonly known: Known | undefined;
  /** Revision of our own election; 0 when we are not the controller, as far as we know. */
  readonly term: number;
  /** What the transaction under way is for. */
  readonly waitingFor: 'election' | 'map' | undefined;
  /** The map being written. */
  readonly writing: ShardMap | undefined;
  readonly membersChangedMs: number;
}

export type ControllerInput =
  | { readonly kind: 'picture'; readonly entries: readonly RegistryEntry[]; readonly nowMs: number }
  | { readonly kind: 'event'; readonly event: WatchEvent; readonly nowMs: number }
  /** The answer to the transaction; `done` is undefined when it is not known. */
  | {
      readonly kind: 'answered';
      readonly done: boolean | undefined;
      readonly revision: number;
      readonly nowMs: number;
    }
  | { readonly kind: 'tick'; readonly nowMs: number };

export type ControllerOutput =
  | {
      readonly kind: 'transact';
      readonly conditions: readonly Condition[];
      readonly changes: readonly Change[];
    }
  /** What is known cannot be trusted any more: list everything again and give it as `picture`. */
  | { readonly kind: 'read-again' }
  | { readonly kind: 'wake'; readonly atMs: number };

export const controllerAtStart: ControllerState = {
  known: undefined,
  term: 0,
  waitingFor: undefined,
  writing: undefined,
  membersChangedMs: Number.NEGATIVE_INFINITY,
};

export interface ControllerStep {
  readonly state: ControllerState;
  readonly outputs: readonly ControllerOutput[];
}

export function stepController(
  state: ControllerState,
  input: ControllerInput,
  config: ControllerConfig,
): ControllerStep {
  switch (input.kind) {
    case 'picture': {
      const known = knownFrom(input.entries);
      const backendsAreNew = state.known === undefined || !sameBackends(state.known, known);
      const membersChangedMs = backendsAreNew ? input.nowMs : state.membersChangedMs;
      return proceed(withTerm({ ...state, known, membersChangedMs }, config), input.nowMs, config);
    }
    case 'event': {
      if (state.known === undefined) return { state, outputs: [] };
      const known = knownAfter(state.known, input.event);
      if (known === state.known) return { state, outputs: [] };
      const membersChangedMs = known.backends === state.known.backends ? state.membersChangedMs : input.nowMs;
      return proceed(withTerm({ ...state, known, membersChangedMs }, config), input.nowMs, config);
    }
    case 'answered':
      return answered(state, input, config);
    case 'tick':
      return proceed(state, input.nowMs, config);
  }
}

function answered(
  state: ControllerState,
  input: Extract<ControllerInput, { kind: 'answered' }>,
  config: ControllerConfig,
): ControllerStep {
  const idle: ControllerState = { ...state, waitingFor: undefined, writing: undefined };
  // A condition failed or nobody knows: somebody else wrote, or we are behind. Look before the next try.
  if (input.done !== true || state.known === undefined)
    return { state: { ...idle, known: undefined, term: 0 }, outputs: [{ kind: 'read-again' }] };
  const known: Known =
    state.waitingFor === 'election'
      ? { ...state.known, controller: { id: config.self, lease: config.lease, revision: input.revision } }
      : { ...state.known, map: { map: state.writing!, revision: input.revision } };
  return proceed(withTerm({ ...idle, known }, config), input.nowMs, config);
}

/** The entry under `controller` is ours only with this process's own lease: the id alone outlives a restart. */
function withTerm(state: ControllerState, config: ControllerConfig): ControllerState {
  const seat = state.known?.controller;
  const term = seat !== undefined && seat.lease === config.lease ? seat.revision : 0;
  return term === state.term ? state : { ...state, term };
}

function proceed(state: ControllerState, nowMs: number, config: ControllerConfig): ControllerStep {
  const { known } = state;
  if (known === undefined || state.waitingFor !== undefined) return { state, outputs: [] };
  if (known.controller === undefined) {
    return {
      state: { ...state, waitingFor: 'election' },
      outputs: [
        {
          kind: 'transact',
          conditions: [{ key: registryKey.controller, is: 'absent' }],
          changes: [{ put: registryKey.controller, value: config.self, lease: config.lease }],
        },
      ],
    };
  }
  if (state.term === 0) return { state, outputs: [] };
  const old = known.map?.map ?? emptyShardMap(config.shardCount, config.firstEpoch);
  const settledMs = state.membersChangedMs + config.settleMs;
  const { next, wantsMoves } = reassign(
    old,
    known.backends,
    known.released,
    nowMs >= settledMs,
    config.limits ?? reassignmentLimitsDefault,
    known.wishes,
  );
  const outputs: ControllerOutput[] = wantsMoves ? [{ kind: 'wake', atMs: settledMs }] : [];
  if (next === undefined && known.map !== undefined) return { state, outputs };
  const map = next?.map ?? old;
  const mapKey = registryKey.shardMap;
  return {
    state: { ...state, waitingFor: 'map', writing: map },
    outputs: [
      {
        kind: 'transact',
        conditions: [
          { key: registryKey.controller, is: 'at', revision: state.term },
          known.map ? { key: mapKey, is: 'at', revision: known.map.revision } : { key: mapKey, is: 'absent' },
          ...(next?.conditions ?? []),
        ],
        changes: [{ put: mapKey, value: encodeShardMap(map) }],
      },
      ...outputs,
    ],
  };
}

function knownFrom(entries: readonly RegistryEntry[]): Known {
  let known: Known = {
    controller: undefined,
    map: undefined,
    backends: new Map(),
    released: new Map(),
    wishes: noWishes,
  };
  for (const entry of entries) {
    known = knownAfter(known, { kind: 'put', ...entry });
    if (entry.key === registryKey.controller)
      known = { ...known, controller: { id: entry.value, lease: entry.lease, revision: entry.revision } };
  }
  return known;
}

/** The picture after one change; the same object when it does not matter here. */
function knownAfter(known: Known, event: WatchEvent): Known {
  const gone = event.kind === 'remove';
  if (event.key === registryKey.controller) {
    if (event.revision <= (known.controller?.revision ?? 0)) return known;
    // Our own election is learned from its answer; whoever an event names is somebody else, or us a moment late.
    return {
      ...known,
      controller: gone ? undefined : { id: event.value, lease: undefined, revision: event.revision },
    };
  }
  if (event.key === registryKey.shardMap) {
    if (event.revision <= (known.map?.revision ?? 0)) return known;
    return {
      ...known,
      map: gone ? undefined : { map: decodeShardMap(event.value), revision: event.revision },
    };
  }
  if (event.key.startsWith(registryKey.memberPrefix)) {
    const id = event.key.slice(registryKey.memberPrefix.length);
    const view = gone ? undefined : backendView(event.value, event.revision);
    if (view === undefined && !known.backends.has(id)) return known;
    return { ...known, backends: changed(known.backends, id, view) };
  }
  if (event.key.startsWith(registryKey.releasedPrefix)) {
    const id = event.key.slice(registryKey.releasedPrefix.length);
    return {
      ...known,
      released: changed(known.released, id, gone ? undefined : decodeReleased(event.value)),
    };
  }
  const wishes = wishesAfter(known.wishes, event.key, gone ? undefined : event.value);
  return wishes === known.wishes ? known : { ...known, wishes };
}

function changed<V>(map: ReadonlyMap<string, V>, key: string, value: V | undefined): Map<string, V> {
  const next = new Map(map);
  if (value === undefined) next.delete(key);
  else next.set(key, value);
  return next;
}

/** `undefined`: a gateway, or a record this version cannot read; such a member gets nothing. */
function backendView(text: string, revision: number): BackendView | undefined {
  try {
    const record = JSON.parse(text) as MemberRecord;
    if (record.role !== 'backend' || typeof record.incarnation !== 'string') return undefined;
    const weight = record.weight ?? 1;
    return {
      incarnation: record.incarnation,
      revision,
      weight: Number.isFinite(weight) && weight > 0 ? weight : 0,
      draining: record.draining === true,
    };
  } catch {
    return undefined;
  }
}

function sameBackends(a: Known, b: Known): boolean {
  return (
    a.backends.size === b.backends.size &&
    [...a.backends].every(([id, view]) => b.backends.get(id)?.revision === view.revision)
  );
}
