/**
 * Before a backend's process is ended it gives away what it has, so that its
 * accounts change hands by a release and not by a death. The wish is for this start
 * of the backend only: should nobody live to take it back, the next start ends it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../base/log.ts';
import type { MemberId } from '../cluster-protocol/ids.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import { type DrainWish, isDrained, wishKey } from '../cluster-protocol/wishes.ts';
import { comingTo, heldBy, readFacts, takers } from './cluster-facts.ts';

const lookEveryMs = 50;
/** When a machine is stopped, for all its backends together. */
const stopHandOverMs = 10_000;

export interface HandedOver {
  /** Shards and pins still there when time was up; 0 after a complete hand-over. */
  readonly left: number;
  /** Nobody else takes shards: nothing was handed over. */
  readonly alone: boolean;
}

/** Empties backends that are about to be ended, for at most `withinMs`. @throws {Fault} `registry-failed` */
export async function handOver(
  registry: Registry,
  members: readonly MemberId[],
  by: string,
  withinMs: number,
): Promise<HandedOver> {
  const end = performance.now() + withinMs;
  const facts = await readFacts(registry);
  if (takers(facts).every((id) => members.includes(id))) return { left: 0, alone: true };
  for (const member of members) {
    const record = facts.members.get(member);
    if (record === undefined || isDrained(facts.wishes, member, record.incarnation)) continue;
    const wish: DrainWish = { by, atMs: Date.now(), incarnation: record.incarnation };
    const key = wishKey.drain(member);
    const before = await registry.get(key);
    // What stands there is for an earlier start, of which nobody lived to take it back; an admin who comes in between wins.
    await registry.transact(
      [before === undefined ? { key, is: 'absent' } : { key, is: 'at', revision: before.revision }],
      [{ put: key, value: JSON.stringify(wish) }],
    );
  }
  for (;;) {
    const now = await readFacts(registry);
    const left = members.reduce((sum, id) => {
      const { shards, pins } = heldBy(now, id);
      return sum + shards + pins + comingTo(now, id);
    }, 0);
    if (left === 0 || performance.now() > end) return { left, alone: false };
    await sleep(lookEveryMs);
  }
}

/** Takes back the wish of `handOver`, not an admin's own. */
export async function endHandOver(registry: Registry, member: MemberId): Promise<void> {
  const key = wishKey.drain(member);
  const entry = await registry.get(key);
  if (entry === undefined || !entry.value.includes('"incarnation"')) return;
  await registry.transact([{ key, is: 'at', revision: entry.revision }], [{ remove: key }]);
}

/** Where backends of other machines take shards, those of a machine that stops are given to them first. Never rejects. */
export async function handOverBeforeStop(
  registry: Registry,
  backends: readonly MemberId[],
  log: Log,
): Promise<void> {
  const work = handOver(registry, backends, 'supervisor', stopHandOverMs).catch(() => undefined);
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, stopHandOverMs, undefined).unref();
  });
  const done = await Promise.race([work, late]);
  if (done?.alone === false) log.info({ left: done.left }, 'shards given away before the end');
}
