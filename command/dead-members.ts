/** Takes away the leases of members whose processes are gone, now or as soon as the registry answers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import type { MemberId } from '../cluster-protocol/ids.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import { revokeGoneMembers, revokeMember } from '../cluster-protocol/revoke.ts';

const retryMs = 500;

export class DeadMembers {
  readonly #registry: Registry;
  readonly #log: Log;
  #retrying = false;
  #closed = false;

  constructor(registry: Registry, log: Log) {
    this.#registry = registry;
    this.#log = log;
  }

  /** The process of this member was reaped, and its next one is not started yet. Settles after one try. */
  async died(id: MemberId): Promise<void> {
    try {
      await revokeMember(this.#registry, id);
    } catch (error) {
      this.#log.error({ name: id, error: Fault.from(error).message }, 'lease not revoked');
      void this.#retry();
    }
  }

  close(): void {
    this.#closed = true;
  }

  /**
   * etcd counts leases anew when it has a leader again: without this the record of a dead process would stand in the
   * way of the next for another lease. By then the next process may be there, so each record is judged by its process.
   */
  async #retry(): Promise<void> {
    if (this.#retrying) return;
    this.#retrying = true;
    while (!this.#closed) {
      await sleep(retryMs, undefined, { ref: false });
      try {
        const gone = await revokeGoneMembers(this.#registry);
        if (gone.length > 0) this.#log.info({ members: gone }, 'leases revoked');
        break;
      } catch {
        // Not yet: etcd says so in every other log line.
      }
    }
    this.#retrying = false;
  }
}
