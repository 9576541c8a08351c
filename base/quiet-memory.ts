/**
 * Gives memory back when a burst is over. V8 collects when it needs room: a
 * member that has taken ten thousand logins and then only holds idle sessions
 * would keep the garbage of those logins for hours, several times what the
 * sessions themselves need. So when the event loop has come to rest and the heap
 * has grown, it is collected once.
 */
import { performance } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Log } from './log.ts';

const lookEveryMs = 2000;
/** Share of the time the event loop may be busy and still count as at rest. */
const restShareMax = 0.1;
/** Growth of the heap that is worth a pause. */
const growthBytesMin = 8 * 1024 * 1024;
/** Collecting a larger heap would pause the member for too long (some 1 ms per MiB). */
const heapBytesMax = 256 * 1024 * 1024;

export interface QuietFacts {
  /** Share of the time since the last look the event loop was busy, 0 to 1. */
  readonly busyShare: number;
  readonly heapBytes: number;
  /** Right after the last collection of ours; at the start 0. */
  readonly heapBytesAfterLast: number;
}

/** Is it time to collect? */
export function isWorthCollecting({ busyShare, heapBytes, heapBytesAfterLast }: QuietFacts): boolean {
  return (
    busyShare <= restShareMax &&
    heapBytes <= heapBytesMax &&
    heapBytes - heapBytesAfterLast >= growthBytesMin + heapBytesAfterLast / 8
  );
}

/**
 * Looks every two seconds, for as long as the process lives.
 * @param log  Told of each collection: how long it took is how long clients waited.
 */
export function giveMemoryBackWhenQuiet(log: Log): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  let heapBytesAfterLast = 0;
  let last = performance.eventLoopUtilization();
  setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization: busyShare } = performance.eventLoopUtilization(now, last);
    last = now;
    const { heapTotal: heapBytes } = process.memoryUsage();
    if (!isWorthCollecting({ busyShare, heapBytes, heapBytesAfterLast })) return;
    const startedMs = performance.now();
    // Only this flavour also makes the space of young objects small again; an ordinary collection keeps it.
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    heapBytesAfterLast = process.memoryUsage().heapTotal;
    const ms = Math.round(performance.now() - startedMs);
    log.info({ heapBytes, heapBytesAfter: heapBytesAfterLast, ms }, 'memory given back');
  }, lookEveryMs).unref();
}
