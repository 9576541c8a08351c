/**
 * The chain at work: asks plugins in order, within deadlines, and makes one
 * verdict of their answers. Whatever a plugin does (throws, never answers,
 * answers with nonsense, holds the event loop), the door gets one verdict.
 */
import type { PluginEntry } from '../../base/config-file.ts';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Question, Report } from '../plugins/api.ts';
import { inTime, isThenable, late, PluginAsker, type Running } from './asker.ts';
import { closedBreaker } from './breaker.ts';
import type { Chain, ChainMetrics, ChainVerdict } from './chain.ts';
import { openHost } from './host.ts';
import { type LoadedPlugin, loadPlugin } from './load.ts';
import { VerdictSum } from './verdict-sum.ts';
import { startWatchdog, type Watchdog } from './watchdog.ts';

/** A gateway whose event loop stands still for this long is ended (see watchdog.ts). */
export const stallMsMax = 10_000;
/** Longest `start` of a plugin. */
const startMsMax = 30_000;

const questions: readonly Question[] = [
  'connect',
  'greeting',
  'login',
  'authenticated',
  'sender',
  'recipient',
  'header',
  'message',
];

const nobodyAsked: ChainVerdict = Object.freeze({ word: 'pass', plugin: undefined });

/** What runs when the configuration says nothing about plugins. */
export const defaultPlugins: readonly PluginEntry[] = ['connection-limit', 'guess-guard', 'early-talker'].map(
  (use) => ({ use, mode: 'enforce', options: {}, place: (key) => `default plugin ${use} ${key}` }),
);

/**
 * Loads every entry and checks its options; starts nothing. For `check-config` and the reference page.
 * @throws {Fault} `bad-config`: the first mistake, with file, line and remedy.
 */
export async function checkPlugins(
  entries: readonly PluginEntry[],
  configDir: string,
): Promise<readonly LoadedPlugin[]> {
  const loaded: LoadedPlugin[] = [];
  for (const entry of entries) loaded.push(await loadPlugin(entry, configDir));
  return loaded;
}

/**
 * Loads and starts the plugins, in order.
 * @param options.configDir  What plugin paths are relative to: the configuration file's directory, absolute.
 * @param options.stallMs    See `stallMsMax`; 0 for no watchdog.
 * @throws {Fault} `bad-config`
 */
export async function openChain(options: {
  plugins: readonly PluginEntry[];
  configDir: string;
  log: Log;
  metrics?: ChainMetrics;
  stallMs?: number;
}): Promise<Chain> {
  return openChainOf(await checkPlugins(options.plugins, options.configDir), options);
}

/** The same, for plugins that are loaded. */
export async function openChainOf(
  loadedPlugins: readonly LoadedPlugin[],
  options: { log: Log; metrics?: ChainMetrics; stallMs?: number },
): Promise<Chain> {
  const { log, metrics } = options;
  const stop = new AbortController();
  const host = openHost({ log, stopped: stop.signal, ...(metrics === undefined ? {} : { metrics }) });
  const plugins: Running[] = [];
  try {
    for (const loaded of loadedPlugins) {
      const work = await startPlugin(loaded, host(loaded.definition.name));
      plugins.push({ ...loaded, work, number: plugins.length, breaker: closedBreaker });
    }
  } catch (error) {
    stop.abort();
    throw error;
  }
  const stallMs = options.stallMs ?? stallMsMax;
  const watchdog =
    stallMs === 0 || plugins.length === 0
      ? undefined
      : startWatchdog(
          plugins.map((plugin) => plugin.definition.name),
          stallMs,
          String((log as { bindings?(): { member?: string } }).bindings?.().member ?? ''),
        );
  return runChain({ plugins, log, metrics, watchdog, stop });
}

async function startPlugin(loaded: LoadedPlugin, host: Parameters<LoadedPlugin['definition']['start']>[1]) {
  const { definition, entry, options } = loaded;
  try {
    const work = await inTime(Promise.resolve(definition.start(options, host)), startMsMax);
    if (work === late) throw new Error('start did not end');
    if (typeof work !== 'object' || work === null) throw new Error('start returned nothing');
    return work;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new Fault(
      'bad-config',
      `${entry.place('use')}: plugin ${definition.name} cannot start: ${reason}`,
      {
        cause: error,
      },
    );
  }
}

function runChain(parts: {
  plugins: readonly Running[];
  log: Log;
  metrics: ChainMetrics | undefined;
  watchdog: Watchdog | undefined;
  stop: AbortController;
}): Chain {
  const { plugins, log, metrics, watchdog, stop } = parts;
  const asks = (plugin: Running, question: Question): boolean =>
    typeof plugin.work.asked?.[question] === 'function';
  const byQuestion = new Map(
    questions.map((question) => [
      question,
      groupsOf(
        plugins.filter((plugin) => asks(plugin, question)),
        question,
      ),
    ]),
  );
  const asker = new PluginAsker(log, metrics, watchdog);

  const chain: Chain = {
    async ask(question, session, ...rest) {
      const groups = byQuestion.get(question)!;
      if (groups.length === 0) return nobodyAsked;
      const sum = new VerdictSum();
      for (const group of groups) {
        // One plugin, or neighbours that are asked at the same time; either way judged in their order.
        const over = group.length > 1 ? new AbortController() : undefined;
        const answers = group.map((plugin) => asker.ask(plugin, question, session, rest, over?.signal));
        for (const [index, plugin] of group.entries()) {
          const verdict = await answers[index]!;
          // What only watches was asked like the others, and changes nothing.
          if (plugin.entry.mode !== 'watch' && sum.add(plugin.definition.name, verdict)) break;
        }
        over?.abort();
        if (sum.decided !== undefined) break;
      }
      const verdict = sum.verdict();
      if (sum.refused) chain.tell('refused', session, question, verdict, verdict.plugin!);
      else if (sum.delayMs > 0) await pause(sum.delayMs, stop.signal);
      return verdict;
    },
    tell(report, session, ...rest) {
      for (const plugin of plugins) {
        const told = plugin.work.told as
          | Record<Report, ((...args: unknown[]) => unknown) | undefined>
          | undefined;
        if (typeof told?.[report] !== 'function') continue;
        const failed = (error: unknown): void => {
          const facts = { trace: session.id, plugin: plugin.definition.name, report, error: String(error) };
          log.warn(facts, 'plugin failed at a report');
        };
        try {
          const raw = asker.timed(plugin, report, session, () => told[report]!(session, ...rest));
          if (isThenable(raw)) Promise.resolve(raw).catch(failed);
        } catch (error) {
          failed(error);
        }
      }
    },
    wants: (question) => byQuestion.get(question)?.length !== 0,
    async close() {
      stop.abort();
      await watchdog?.stop();
    },
  };
  return chain;
}

/** Neighbours that may be asked at the same time, together; everyone else alone. */
function groupsOf(plugins: readonly Running[], question: Question): readonly (readonly Running[])[] {
  if (question !== 'message') return plugins.map((plugin) => [plugin]);
  const groups: Running[][] = [];
  let beside = false;
  for (const plugin of plugins) {
    const sideBySide = plugin.definition.sideBySide === true;
    if (sideBySide && beside) groups.at(-1)!.push(plugin);
    else groups.push([plugin]);
    beside = sideBySide;
  }
  return groups;
}

function pause(waitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, waitMs);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end);
  });
}
