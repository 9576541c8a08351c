/**
 * Tells the controller how busy this backend is, and, while this one is the
 * controller, gives busy backends a smaller share (`load-tilt.ts`). Nothing depends
 * on it: a report that is missing moves nothing.
 */
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { MemberId } from '../../cluster-protocol/ids.ts';
import type { MemberRecord } from '../../cluster-protocol/link.ts';
import { nextTilts } from '../../cluster-protocol/load-tilt.ts';
import { type Change, type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { isDrained, wishesFrom, wishKey } from '../../cluster-protocol/wishes.ts';

const reportEveryMs = 15_000;
/** Shares are looked at once in so many reports: what was moved last time has to show first. */
const reportsPerLook = 4;

export interface LoadReportOptions {
  readonly registry: Registry;
  readonly self: MemberId;
  readonly lease: string;
  readonly log: Log;
  isController(): boolean;
}

/** Reports until `stop`. */
export function reportLoad(options: LoadReportOptions, everyMs = reportEveryMs): { stop(): void } {
  const { registry, self, lease, log } = options;
  let before = process.cpuUsage();
  let beforeAtMs = performance.now();
  let reports = 0;
  let busy = false;
  const report = async (): Promise<void> => {
    const now = process.cpuUsage();
    const nowMs = performance.now();
    const load = (now.user + now.system - before.user - before.system) / 1000 / (nowMs - beforeAtMs);
    before = now;
    beforeAtMs = nowMs;
    const value = load.toFixed(3);
    await registry.transact([], [{ put: registryKey.load(self), value, lease }]);
    if (++reports % reportsPerLook === 0 && options.isController()) await adjustShares(registry, self, log);
  };
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    report()
      .catch((error: unknown) => log.warn({ error: Fault.from(error).message }, 'load was not reported'))
      .finally(() => {
        busy = false;
      });
  }, everyMs);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

/** Only while `self` is the controller. @returns Whether a share was changed. */
export async function adjustShares(registry: Registry, self: MemberId, log: Log): Promise<boolean> {
  const [controller, members, wishes, reports] = await Promise.all([
    registry.get(registryKey.controller),
    registry.list(registryKey.memberPrefix),
    registry.list(registryKey.wishPrefix),
    registry.list(registryKey.loadPrefix),
  ]);
  if (controller?.value !== self) return false;
  const wanted = wishesFrom(wishes.entries);
  const taking = members.entries
    .map(({ value }) => JSON.parse(value) as MemberRecord)
    .filter(
      ({ id, role, incarnation, weight, draining }) =>
        role === 'backend' && (weight ?? 1) > 0 && draining !== true && !isDrained(wanted, id, incarnation),
    );
  const loads = new Map<MemberId, number>();
  for (const { key, value } of reports.entries) {
    const id = key.slice(registryKey.loadPrefix.length);
    const load = Number(value);
    if (taking.some((member) => member.id === id) && Number.isFinite(load)) loads.set(id, load);
  }
  // One that has not reported yet could be the busiest: nothing is known before all have.
  if (loads.size < taking.length) return false;
  const next = nextTilts(wanted.tilts, loads);
  if (next === wanted.tilts) return false;
  const changes: Change[] = [];
  for (const [id, tilt] of next)
    if (wanted.tilts.get(id) !== tilt)
      changes.push({ put: wishKey.tilt(id), value: JSON.stringify({ by: self, atMs: Date.now(), tilt }) });
  for (const id of wanted.tilts.keys()) if (!next.has(id)) changes.push({ remove: wishKey.tilt(id) });
  const { done } = await registry.transact(
    [{ key: registryKey.controller, is: 'at', revision: controller.revision }],
    changes,
  );
  if (done)
    log.info(
      { loads: Object.fromEntries(loads), shares: Object.fromEntries(next) },
      'shares changed for load',
    );
  return done;
}
