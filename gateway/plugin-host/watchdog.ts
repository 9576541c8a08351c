/**
 * Ends a gateway whose event loop a plugin holds for good. A plugin runs in the
 * gateway's own thread: one that loops, or meets a string its expression cannot
 * cope with (CWE-1333), would silence every session, and no timer of that thread
 * can help. A second thread watches a heartbeat; when it stays away, it writes
 * which plugin was running and ends the process. The supervisor starts it again;
 * gateways hold nothing that was acknowledged (DESIGN invariant 6).
 *
 * Ticks are counted, not time: a process that was stopped and continued, or a
 * machine that slept, stopped both threads.
 */
import { Worker } from 'node:worker_threads';

export interface Watchdog {
  /** `entering(2)`: plugin number 2 (from 0) runs now. `-1`: none does. */
  entering(plugin: number): void;
  stop(): Promise<void>;
}

const tickMs = 500;

const watcher = `
const { workerData } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const view = new Int32Array(workerData.shared);
let last = -1;
let missed = 0;
for (;;) {
  Atomics.wait(view, 2, 0, workerData.tickMs);
  if (Atomics.load(view, 2) === 1) break;
  const beat = Atomics.load(view, 0);
  missed = beat === last ? missed + 1 : 0;
  last = beat;
  if (missed * workerData.tickMs < workerData.stallMaxMs) continue;
  const plugin = workerData.names[Atomics.load(view, 1) - 1];
  const record = {
    level: 'error', time: new Date().toISOString(), member: workerData.member, plugin,
    msg: 'the event loop stands still' + (plugin === undefined ? '' : ', held by a plugin') + ': ending this process',
  };
  writeSync(2, JSON.stringify(record) + '\\n');
  process.kill(process.pid, 'SIGKILL');
}
`;

/**
 * @param names       Plugins, in the order of their numbers.
 * @param stallMaxMs  Longest the event loop may stand still.
 */
export function startWatchdog(names: readonly string[], stallMaxMs: number, member: string): Watchdog {
  const shared = new SharedArrayBuffer(12);
  const view = new Int32Array(shared);
  const worker = new Worker(watcher, {
    eval: true,
    workerData: { shared, names, stallMaxMs, tickMs, member },
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 2 },
  });
  worker.unref();
  worker.on('error', () => {}); // Without a watchdog the gateway still serves.
  const beat = setInterval(() => Atomics.add(view, 0, 1), tickMs / 2);
  beat.unref();
  return {
    entering: (plugin) => {
      Atomics.store(view, 1, plugin + 1);
    },
    stop: async () => {
      clearInterval(beat);
      Atomics.store(view, 2, 1);
      Atomics.notify(view, 2);
      await worker.terminate();
    },
  };
}
