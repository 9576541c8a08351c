/**
 * The chain at work: asks plugins in order, within deadlines, and makes one
 * verdict of their answers. Whatever a plugin does (throws, never answers,
 * answers with nonsense, holds the event loop), the door gets one verdict.
 */
import type { PluginEntry } from '../../base/config-file.ts';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Message, PluginWork, Question, Report, Verdict } from '../plugins/api.ts';
import type { Session } from '../session/session.ts';
import { afterAnswer, type Breaker, closedBreaker, mayAsk } from './breaker.ts';
import type { Chain, ChainMetrics, ChainVerdict } from './chain.ts';
import { openHost } from './host.ts';
import { type LoadedPlugin, loadPlugin } from './load.ts';
import { viewOf } from './message-view.ts';
import { readVerdict } from './verdict.ts';
import { startWatchdog, type Watchdog } from './watchdog.ts';

/** Longest an answer is held back, however many plugins ask for it. */
export const throttleSumMsMax = 30_000;
/** A plugin that keeps the event loop longer than this is named in the log. */
export const synchronousMsMax = 50;
/** A gateway whose event loop stands still for this long is ended (see watchdog.ts). */
export const stallMsMax = 10_000;
/** Longest `start` of a plugin. */
const startMsMax = 30_000;

const questions: readonly Question[] = ['connect', 'login', 'sender', 'recipient', 'message'];
const sayWhenFailed = 'Service temporarily unavailable, try again later';

/** What runs when the configuration says nothing about plugins. */
export const defaultPlugins: readonly PluginEntry[] = ['connection-limit', 'guess-guard', 'early-talker'].map(
  (use) => ({ use, mode: 'enforce', options: {}, place: (key) => `default plugin ${use} ${key}` }),
);

interface Running extends LoadedPlugin {
  readonly work: PluginWork;
  /** Place in the order, from 0; its number for the watchdog. */
  readonly number: number;
  breaker: Breaker;
}

type Answer =
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | { readonly kind: 'failed'; readonly how: string; readonly error?: unknown };

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
  const { log, metrics } = options;
  const stop = new AbortController();
  const host = openHost({ log, stopped: stop.signal, ...(metrics === undefined ? {} : { metrics }) });
  const plugins: Running[] = [];
  try {
    for (const loaded of await checkPlugins(options.plugins, options.configDir)) {
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
    questions.map((question) => [question, plugins.filter((plugin) => asks(plugin, question))]),
  );

  /** Runs plugin code, and says which plugin it was when it kept everybody waiting. */
  const timed = <T>(plugin: Running, what: string, session: Session, run: () => T): T => {
    watchdog?.entering(plugin.number);
    const began = performance.now();
    try {
      return run();
    } finally {
      const spentMs = performance.now() - began;
      watchdog?.entering(-1);
      if (spentMs > synchronousMsMax) {
        const facts = {
          trace: session.id,
          plugin: plugin.definition.name,
          what,
          spentMs: Math.round(spentMs),
        };
        log.warn(facts, 'a plugin held the event loop');
      }
    }
  };

  const askOne = async (
    plugin: Running,
    question: Question,
    session: Session,
    rest: readonly unknown[],
  ): Promise<Answer> => {
    const allowed = mayAsk(plugin.breaker, performance.now());
    plugin.breaker = allowed.breaker;
    if (!allowed.ask) return { kind: 'failed', how: 'breaker-open' };
    const view = question === 'message' ? viewOf(rest[0] as Message) : undefined;
    let answer: Answer;
    try {
      const asked = plugin.work.asked as Record<string, (...args: unknown[]) => unknown>;
      const args = view ? [view.message, ...rest.slice(1)] : rest;
      const raw = timed(plugin, question, session, () => asked[question]!(session, ...args));
      const settled = isThenable(raw) ? await inTime(raw, plugin.deadlineMs) : raw;
      const verdict = settled === late ? undefined : readVerdict(settled);
      if (verdict) answer = { kind: 'verdict', verdict };
      else answer = { kind: 'failed', how: settled === late ? 'deadline' : 'not-a-verdict' };
    } catch (error) {
      answer = { kind: 'failed', how: 'threw', error };
    } finally {
      view?.close();
    }
    const after = afterAnswer(plugin.breaker, answer.kind === 'verdict', performance.now());
    plugin.breaker = after.breaker;
    if (after.turned) log.warn({ plugin: plugin.definition.name }, `plugin breaker ${after.turned}`);
    return answer;
  };

  /** What a failure means, and one line of log about it. */
  const verdictOfFailure = (
    plugin: Running,
    question: Question,
    session: Session,
    answer: Answer & { kind: 'failed' },
  ): Verdict => {
    const word = plugin.onFailure ?? (question === 'message' ? 'defer' : 'pass');
    const { name } = plugin.definition;
    metrics?.count('postern_plugin_failures_total', { plugin: name, question, how: answer.how }, 1);
    const error = answer.error instanceof Error ? answer.error.message : answer.error;
    const facts = { trace: session.id, plugin: name, question, how: answer.how, meaning: word };
    log.warn(error === undefined ? facts : { ...facts, error: String(error) }, 'plugin failed');
    if (word === 'pass') return { word };
    return { word, say: sayWhenFailed, log: `${name} failed: ${answer.how}` };
  };

  const note = (plugin: Running, question: Question, session: Session, verdict: Verdict): void => {
    const watching = plugin.entry.mode === 'watch';
    const { name } = plugin.definition;
    metrics?.count(
      'postern_plugin_verdicts_total',
      { plugin: name, question, verdict: verdict.word, mode: plugin.entry.mode },
      1,
    );
    if (verdict.word === 'pass' && verdict.log === undefined && !(watching && verdict.headers)) return;
    log.info(
      {
        trace: session.id,
        protocol: session.protocol,
        client: session.client.address,
        plugin: name,
        question,
        verdict: verdict.word,
        ...(verdict.say === undefined ? {} : { say: verdict.say }),
        ...(verdict.log === undefined ? {} : { reason: verdict.log }),
        ...(verdict.delayMs === undefined ? {} : { delayMs: verdict.delayMs }),
        ...(verdict.score === undefined ? {} : { score: verdict.score }),
      },
      watching ? 'plugin would have answered' : 'plugin answered',
    );
  };

  const chain: Chain = {
    async ask(question, session, ...rest) {
      const headers: (readonly [string, string])[] = [];
      let score: number | undefined;
      let delayMs = 0;
      let decided: ChainVerdict | undefined;
      for (const plugin of byQuestion.get(question) ?? []) {
        const answer = await askOne(plugin, question, session, rest);
        const verdict =
          answer.kind === 'verdict' ? answer.verdict : verdictOfFailure(plugin, question, session, answer);
        if (answer.kind === 'verdict') note(plugin, question, session, verdict);
        // What only watches was asked like the others, and changes nothing.
        if (plugin.entry.mode === 'watch') continue;
        if (verdict.headers) headers.push(...verdict.headers);
        if (verdict.score !== undefined) score = (score ?? 0) + verdict.score;
        if (verdict.word === 'pass') continue;
        if (verdict.word === 'throttle') {
          delayMs = Math.min(delayMs + (verdict.delayMs ?? 0), throttleSumMsMax);
          continue;
        }
        decided = { ...verdict, plugin: plugin.definition.name };
        break;
      }
      const refused = decided !== undefined && decided.word !== 'accept';
      if (refused) chain.tell('refused', session, question, decided!, decided!.plugin!);
      else if (delayMs > 0) await pause(delayMs, stop.signal);
      return {
        ...(decided ?? { word: 'pass', plugin: undefined }),
        ...(headers.length === 0 || refused ? {} : { headers }),
        ...(score === undefined ? {} : { score }),
      };
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
          const raw = timed(plugin, report, session, () => told[report]!(session, ...rest));
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

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}

const late = Symbol('late');

/** What `work` resolves to, or `late`. A rejection that comes after that is nobody's. */
async function inTime<T>(work: PromiseLike<T>, waitMs: number): Promise<T | typeof late> {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<typeof late>((resolve) => {
    timer = setTimeout(resolve, waitMs, late);
  });
  try {
    return await Promise.race([work, passed]);
  } finally {
    clearTimeout(timer);
  }
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
