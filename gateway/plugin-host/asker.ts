/**
 * One question to one plugin: within its deadline, with its breaker, and with
 * one verdict whatever it does. Says in the log which plugin kept everybody
 * waiting, failed, or had something to say.
 */
import type { Log } from '../../base/log.ts';
import type { Message, PluginWork, Question, Verdict } from '../plugins/api.ts';
import type { Session } from '../session/session.ts';
import { afterAnswer, type Breaker, mayAsk } from './breaker.ts';
import type { ChainMetrics } from './chain.ts';
import type { LoadedPlugin } from './load.ts';
import { viewOf } from './message-view.ts';
import { readVerdict } from './verdict.ts';
import type { Watchdog } from './watchdog.ts';

/** A plugin that keeps the event loop longer than this is named in the log. */
export const synchronousMsMax = 50;
const sayWhenFailed = 'Service temporarily unavailable, try again later';
const nobodyWaits: Verdict = Object.freeze({ word: 'pass' });

export interface Running extends LoadedPlugin {
  readonly work: PluginWork;
  /** Place in the order, from 0; its number for the watchdog. */
  readonly number: number;
  breaker: Breaker;
}

type Answer =
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | { readonly kind: 'failed'; readonly how: string; readonly error?: unknown }
  | { readonly kind: 'not-needed' };

export class PluginAsker {
  readonly #log: Log;
  readonly #metrics: ChainMetrics | undefined;
  readonly #watchdog: Watchdog | undefined;

  constructor(log: Log, metrics: ChainMetrics | undefined, watchdog: Watchdog | undefined) {
    this.#log = log;
    this.#metrics = metrics;
    this.#watchdog = watchdog;
  }

  /**
   * Never rejects.
   * @param over  Aborts when nobody waits for the answer any more: it is then worth nothing, and no failure either.
   */
  async ask(
    plugin: Running,
    question: Question,
    session: Session,
    rest: readonly unknown[],
    over: AbortSignal | undefined,
  ): Promise<Verdict> {
    const answer = await this.#answer(plugin, question, session, rest, over);
    if (answer.kind === 'not-needed') return nobodyWaits;
    if (answer.kind === 'failed') return this.#verdictOfFailure(plugin, question, session, answer);
    this.#note(plugin, question, session, answer.verdict);
    return answer.verdict;
  }

  /** Runs plugin code, and says which plugin it was when it kept everybody waiting. */
  timed<T>(plugin: Running, what: string, session: Session, run: () => T): T {
    this.#watchdog?.entering(plugin.number);
    const began = performance.now();
    try {
      return run();
    } finally {
      const spentMs = performance.now() - began;
      this.#watchdog?.entering(-1);
      if (spentMs > synchronousMsMax) {
        const { name } = plugin.definition;
        this.#log.warn(
          { trace: session.id, plugin: name, what, spentMs: Math.round(spentMs) },
          'a plugin held the event loop',
        );
      }
    }
  }

  async #answer(
    plugin: Running,
    question: Question,
    session: Session,
    rest: readonly unknown[],
    over: AbortSignal | undefined,
  ): Promise<Answer> {
    const allowed = mayAsk(plugin.breaker, performance.now());
    plugin.breaker = allowed.breaker;
    if (!allowed.ask) return { kind: 'failed', how: 'breaker-open' };
    const view = question === 'message' ? viewOf(rest[0] as Message) : undefined;
    const close = (): void => view?.close();
    over?.addEventListener('abort', close);
    let answer: Answer;
    try {
      const asked = plugin.work.asked as Record<string, (...args: unknown[]) => unknown>;
      const args = view ? [view.message, ...rest.slice(1)] : rest;
      const raw = this.timed(plugin, question, session, () => asked[question]!(session, ...args));
      const settled = isThenable(raw) ? await inTime(raw, plugin.deadlineMs) : raw;
      const verdict = settled === late ? undefined : readVerdict(settled);
      if (verdict) answer = { kind: 'verdict', verdict };
      else answer = { kind: 'failed', how: settled === late ? 'deadline' : 'not-a-verdict' };
    } catch (error) {
      answer = { kind: 'failed', how: 'threw', error };
    } finally {
      over?.removeEventListener('abort', close);
      close();
    }
    if (over?.aborted) return { kind: 'not-needed' };
    const after = afterAnswer(plugin.breaker, answer.kind === 'verdict', performance.now());
    plugin.breaker = after.breaker;
    if (after.turned) this.#log.warn({ plugin: plugin.definition.name }, `plugin breaker ${after.turned}`);
    return answer;
  }

  /** What a failure means, and one line of log about it. */
  #verdictOfFailure(
    plugin: Running,
    question: Question,
    session: Session,
    answer: Answer & { readonly kind: 'failed' },
  ): Verdict {
    const word = plugin.onFailure ?? (question === 'message' ? 'defer' : 'pass');
    const { name } = plugin.definition;
    this.#metrics?.count('postern_plugin_failures_total', { plugin: name, question, how: answer.how }, 1);
    const error = answer.error instanceof Error ? answer.error.message : answer.error;
    const facts = { trace: session.id, plugin: name, question, how: answer.how, meaning: word };
    this.#log.warn(error === undefined ? facts : { ...facts, error: String(error) }, 'plugin failed');
    if (word === 'pass') return { word };
    return { word, say: sayWhenFailed, log: `${name} failed: ${answer.how}` };
  }

  #note(plugin: Running, question: Question, session: Session, verdict: Verdict): void {
    const { mode } = plugin.entry;
    const { name } = plugin.definition;
    const word = verdict.quarantine ? 'quarantine' : verdict.word;
    const labels = { plugin: name, question, verdict: word, mode };
    this.#metrics?.count('postern_plugin_verdicts_total', labels, 1);
    const watching = mode === 'watch';
    if (verdict.word === 'pass' && verdict.log === undefined && !(watching && verdict.headers)) return;
    this.#log.info(
      {
        trace: session.id,
        protocol: session.protocol,
        client: session.client.address,
        plugin: name,
        question,
        verdict: word,
        ...(verdict.say === undefined ? {} : { say: verdict.say }),
        ...(verdict.log === undefined ? {} : { reason: verdict.log }),
        ...(verdict.delayMs === undefined ? {} : { delayMs: verdict.delayMs }),
        ...(verdict.score === undefined ? {} : { score: verdict.score }),
      },
      watching ? 'plugin would have answered' : 'plugin answered',
    );
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}

export const late = Symbol('late');

/** What `work` resolves to, or `late`. A rejection that comes after that is nobody's. */
export async function inTime<T>(work: PromiseLike<T>, waitMs: number): Promise<T | typeof late> {
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
