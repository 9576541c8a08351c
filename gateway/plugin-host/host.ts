/** What the chain lends its plugins: counters they share, a queue, a log with their name, metrics. */
import type { Log } from '../../base/log.ts';
import type { Gauge, PluginHost, TokenBuckets, WindowCounter } from '../plugins/api.ts';
import type { ChainMetrics } from './chain.ts';
import { gauge, tokenBuckets, windowCounter } from './counters.ts';
import { openQueue } from './queue.ts';

/** Names of counters, of gauges, and of metrics of one plugin. */
const namesMax = 100;

/** @returns The host of one plugin, by its name. Counters of one name are one counter, whoever asks for it. */
export function openHost(options: {
  log: Log;
  stopped: AbortSignal;
  metrics?: ChainMetrics;
}): (plugin: string) => PluginHost {
  const counters = new Map<string, WindowCounter>();
  const gauges = new Map<string, Gauge>();
  const buckets = new Map<string, TokenBuckets>();
  return (plugin) => {
    const metricNames = new Set<string>();
    const log = options.log.child({ plugin });
    return {
      countWithin: (name, windowMs) => once(counters, name, () => windowCounter(windowMs)),
      gauge: (name) => once(gauges, name, () => gauge()),
      buckets: (name, rate) => once(buckets, name, () => tokenBuckets(rate)),
      queue: openQueue,
      log: {
        info: (facts, text) => log.info(facts, text),
        warn: (facts, text) => log.warn(facts, text),
      },
      count(name, amount = 1) {
        if (!metricNames.has(name) && metricNames.size >= namesMax) return;
        metricNames.add(name);
        options.metrics?.count(`postern_plugin_${metricWord(plugin)}_${metricWord(name)}_total`, {}, amount);
      },
      stopped: options.stopped,
    };
  };
}

function once<T>(known: Map<string, T>, name: string, make: () => T): T {
  const found = known.get(name);
  if (found !== undefined) return found;
  if (known.size >= namesMax) throw new Error(`more than ${namesMax} counters: ${name}`);
  const made = make();
  known.set(name, made);
  return made;
}

/** `guess-guard` → `guess_guard`: a metric's name holds letters, digits and underscores. */
function metricWord(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]/g, '_');
}
