/**
 * How a backend gives up what the map wants handed over, one round after
 * another: bring it to a standstill, let go, say so in the registry, look again.
 * The order is the invariant (DESIGN section 2.3), so it stands here, pure; who
 * calls it does the waiting.
 */
import type { Holdings, Leaving } from './holdings.ts';
import { type Change, type Condition, type RegistryEntry, registryKey } from './registry.ts';
import { encodeReleased } from './released.ts';

export type ReleaseStep =
  /** Sessions ended, all flushed and closed; then `left`. Until then it is still held. */
  | { readonly kind: 'leave'; readonly leaving: Leaving }
  /** Read `key`, see `writeOf`; then `wrote`. */
  | { readonly kind: 'write'; readonly key: string; readonly value: string }
  /** Nothing to do before the next map. */
  | { readonly kind: 'rest' };

export class Releasing {
  readonly #holdings: Holdings;
  /** The value that stands in the registry; it stands until this process writes another. */
  #written: string | undefined;

  constructor(holdings: Holdings) {
    this.#holdings = holdings;
  }

  next(): ReleaseStep {
    const leaving = this.#holdings.leaving();
    if (leaving !== undefined) return { kind: 'leave', leaving };
    const released = this.#holdings.released();
    const value = released && encodeReleased(released);
    if (value === undefined || value === this.#written) return { kind: 'rest' };
    return { kind: 'write', key: registryKey.released(this.#holdings.self.id), value };
  }

  /** All of it has come to a standstill. */
  left(leaving: Leaving): void {
    this.#holdings.letGo(leaving);
  }

  /** What was to be written is seen to stand in the registry. */
  wrote(value: string): void {
    this.#written = value;
  }
}

/**
 * The transaction that puts `value` under `key`, given what stands there; `undefined` when it stands there already.
 * The condition keeps a write that was thought lost from replacing a newer one.
 */
export function writeOf(
  key: string,
  value: string,
  lease: string,
  before: RegistryEntry | undefined,
): { conditions: Condition[]; changes: Change[] } | undefined {
  if (before?.value === value && before.lease === lease) return undefined;
  return {
    conditions: [before ? { key, is: 'at', revision: before.revision } : { key, is: 'absent' }],
    changes: [{ put: key, value, lease }],
  };
}
