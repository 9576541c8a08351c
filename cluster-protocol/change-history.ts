/**
 * What admins changed in the registry: who, when, what, and what stood there
 * before, written in the transaction that makes the change. So there is no change
 * without its record, and each can be taken back.
 */
import { Fault } from '../base/fault.ts';
import { type Registry, registryKey } from './registry.ts';

/** Older ones are removed. */
export const historyEntriesMax = 2000;
/** Somebody else changed something meanwhile: so often it is tried again. */
const triesMax = 20;

export interface ChangeRecord {
  /** 1, 2, 3 … */
  readonly number: number;
  /** Milliseconds of the calendar. */
  readonly atMs: number;
  /** As the admin's command named itself. */
  readonly by: string;
  /** For people: `drain backend-2`. */
  readonly what: string;
  readonly key: string;
  /** Absent: there was nothing, or the key was removed. */
  readonly before?: string;
  readonly after?: string;
}

export interface ChangeWanted {
  readonly by: string;
  readonly what: string;
  readonly key: string;
  /** `undefined` removes the key. May look at what is there, and throw to refuse. */
  after(before: string | undefined): string | undefined;
}

const keyOf = (number: number): string => `${registryKey.historyPrefix}${String(number).padStart(10, '0')}`;

/**
 * Changes one key and records it.
 * @returns The record; `undefined` when the key holds that already.
 * @throws {Fault} `busy`, `registry-failed`, and what `after` throws.
 */
export async function changeAndRecord(
  registry: Registry,
  wanted: ChangeWanted,
  nowMs: number,
): Promise<ChangeRecord | undefined> {
  const { key, by, what } = wanted;
  for (let tries = 0; tries < triesMax; tries++) {
    const [last, entry] = await Promise.all([registry.get(registryKey.historyLast), registry.get(key)]);
    const before = entry?.value;
    const after = wanted.after(before);
    if (after === before) return undefined;
    const number = Number(last?.value ?? 0) + 1;
    const record: ChangeRecord = {
      ...{ number, atMs: nowMs, by, what, key },
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
    };
    const unchanged = (of: string, found: { revision: number } | undefined) =>
      found === undefined
        ? ({ key: of, is: 'absent' } as const)
        : ({ key: of, is: 'at', revision: found.revision } as const);
    const { done } = await registry.transact(
      [unchanged(registryKey.historyLast, last), unchanged(key, entry)],
      [
        after === undefined ? { remove: key } : { put: key, value: after },
        { put: keyOf(number), value: JSON.stringify(record) },
        { put: registryKey.historyLast, value: String(number) },
        ...(number > historyEntriesMax ? [{ remove: keyOf(number - historyEntriesMax) }] : []),
      ],
    );
    if (done) return record;
  }
  throw new Fault('busy', 'others change the cluster at the same moment; try again');
}

/** The newest `countMax` records, oldest first. */
export async function readHistory(registry: Registry, countMax: number): Promise<ChangeRecord[]> {
  const { entries } = await registry.list(registryKey.historyPrefix);
  return entries.slice(-countMax).map(({ value }) => JSON.parse(value) as ChangeRecord);
}

/** @throws {Fault} `bad-argument` */
export async function readChange(registry: Registry, number: number): Promise<ChangeRecord> {
  const entry = await registry.get(keyOf(number));
  if (entry === undefined)
    throw new Fault('bad-argument', `there is no change ${number}; the history lists those that are kept`);
  return JSON.parse(entry.value) as ChangeRecord;
}
