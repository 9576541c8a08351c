/**
 * What a backend has let go of, as it stands in the registry under
 * `released/<id>`, bound to the backend's lease: runs of shards and pins with
 * the epoch at which they were held. A release is true for ever: an epoch is
 * never granted twice.
 */
import { Fault } from '../base/fault.ts';
import type { Address, Epoch, Shard } from './ids.ts';

export const releasedVersion = 1;

export interface Released {
  readonly incarnation: string;
  readonly runs: readonly (readonly [from: Shard, count: number, epoch: Epoch])[];
  readonly pins: readonly (readonly [address: Address, epoch: Epoch])[];
}

export function encodeReleased(released: Released): string {
  return JSON.stringify({ v: releasedVersion, ...released });
}

/** @throws {Fault} `peer-protocol` */
export function decodeReleased(text: string): Released {
  try {
    const raw = JSON.parse(text) as Released & { v: number };
    const good =
      raw.v === releasedVersion &&
      typeof raw.incarnation === 'string' &&
      raw.runs.every(
        (run) => run.length === 3 && run.every((part) => Number.isSafeInteger(part) && part >= 0),
      ) &&
      raw.pins.every(([address, epoch]) => typeof address === 'string' && Number.isSafeInteger(epoch));
    if (good) return { incarnation: raw.incarnation, runs: raw.runs, pins: raw.pins };
  } catch {
    // Falls through: not even JSON of this shape.
  }
  throw new Fault('peer-protocol', 'a record of released shards is damaged or of another version');
}
