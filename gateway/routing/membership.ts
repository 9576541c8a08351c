/**
 * A gateway's record in the registry, so that `cluster status` knows it. A
 * gateway owns nothing, so it needs no fence: when its lease is lost it goes on
 * serving and registers again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../base/log.ts';
import type { MemberRecord } from '../../cluster-protocol/link.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';

const retryMs = 1000;

export interface Membership {
  leave(): Promise<void>;
}

/** Registers in the background and stays registered until `leave`. */
export function joinAsGateway(
  registry: Registry,
  record: MemberRecord,
  leaseMs: number,
  log: Log,
): Membership {
  const end = new AbortController();
  let lease: string | undefined;
  const key = registryKey.member(record.id);
  const run = async (): Promise<void> => {
    while (!end.signal.aborted) {
      try {
        if (lease === undefined) {
          const granted = await registry.grantLease(leaseMs);
          // What an earlier start left is replaced: its process is gone, or we would not have been started.
          await registry.transact([], [{ put: key, value: JSON.stringify(record), lease: granted }]);
          lease = granted;
        } else {
          await registry.renewLease(lease);
        }
        await sleep(leaseMs / 3, undefined, { ref: false, signal: end.signal });
      } catch (error) {
        if (end.signal.aborted) return;
        log.warn({ error: String(error) }, 'this gateway is not registered now');
        lease = undefined;
        await sleep(retryMs, undefined, { ref: false, signal: end.signal }).catch(() => {});
      }
    }
  };
  const running = run();
  return {
    async leave() {
      end.abort();
      await running;
      if (lease !== undefined) await registry.revokeLease(lease).catch(() => {});
    },
  };
}
