/**
 * What follows from the health of the storage: a backend that is unwell says so
 * in the registry, and the controller gives what it has to others. When the
 * storage hangs so that nothing can be brought to a standstill, it stops renewing
 * its lease and ends: nobody else may have its accounts before, and nobody has to
 * wait longer.
 */
import type { Log } from '../../base/log.ts';
import type { Member } from './member.ts';
import { StorageHealth } from './storage-health.ts';

export interface StorageWatchOptions {
  readonly member: Pick<Member, 'sayUnwell' | 'isLeaving' | 'holdings' | 'abandon'>;
  probe(): Promise<void>;
  readonly unwellAfterMs: number;
  readonly log: Log;
}

export interface StorageWatch {
  readonly isWell: boolean;
  close(): void;
}

export function watchStorage({ member, probe, unwellAfterMs, log }: StorageWatchOptions): StorageWatch {
  let releasing: NodeJS.Timeout | undefined;
  /** Hand-over has to get on: as long as the storage had to answer, it may stand still, and no longer. */
  const expectProgress = (): void => {
    const { shardsHeld } = member.holdings;
    const { isLeaving } = member;
    releasing = setTimeout(() => {
      if (isLeaving && member.isLeaving && member.holdings.shardsHeld === shardsHeld)
        member.abandon('the storage hangs, and nothing can be released');
      else expectProgress();
    }, unwellAfterMs);
  };
  const health = new StorageHealth({
    probe,
    unwellAfterMs,
    log,
    changed({ state, why }) {
      clearTimeout(releasing);
      if (state === 'wrong-root') {
        member.abandon(`this is not the storage any more: ${why}`);
        return;
      }
      void member.sayUnwell(state === 'well' ? undefined : why);
      if (state === 'unwell') expectProgress();
    },
  });
  return {
    get isWell() {
      return health.health.state === 'well';
    },
    close() {
      health.close();
      clearTimeout(releasing);
    },
  };
}
