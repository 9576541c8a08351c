/** The chain as the doors use it: ask, and act on one verdict; tell, and go on. */
import type { Asked, Question, Report, Told, Verdict } from '../plugins/api.ts';
import type { Session } from '../session/session.ts';

/** The verdict of the whole chain: never `throttle` (the chain has waited already). */
export interface ChainVerdict extends Verdict {
  /** Who decided; undefined when all passed. */
  readonly plugin: string | undefined;
}

type Rest<F> = F extends (session: Session, ...rest: infer R) => unknown ? R : never;

export interface Chain {
  /**
   * Asks the plugins in order until one refuses or accepts. Headers and scores of those that passed add up in the
   * verdict. Never rejects. Plugins in `watch` mode are asked and logged, and change nothing.
   */
  ask<Q extends Question>(
    question: Q,
    session: Session,
    ...rest: Rest<NonNullable<Asked[Q]>>
  ): Promise<ChainVerdict>;
  tell<R extends Report>(report: R, session: Session, ...rest: Rest<NonNullable<Told[R]>>): void;
  /** True when some plugin asks it: lets a door skip work nobody wants. */
  wants(question: Question): boolean;
  close(): Promise<void>;
}

/** Where counts go. `postern_plugin_…_total` with labels; must be cheap and must not throw. */
export interface ChainMetrics {
  count(name: string, labels: Readonly<Record<string, string>>, amount: number): void;
}
