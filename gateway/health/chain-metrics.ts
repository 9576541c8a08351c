/**
 * What plugins and the door of mail count, on the metrics page. Plugins name
 * their counters themselves, so their number and their labels are bounded here.
 */
import { Counter } from 'prom-client';
import type { Chain, ChainMetrics } from '../plugin-host/chain.ts';
import type { Client } from '../session/session.ts';
import type { Metrics } from './metrics.ts';

const countersMax = 500;

export function chainMetrics(metrics: Metrics): ChainMetrics {
  const counters = new Map<string, Counter | undefined>();
  const make = (name: string, labelNames: string[]): Counter | undefined => {
    if (counters.size >= countersMax || !/^[a-z_][a-z0-9_]{0,199}$/.test(name)) return undefined;
    try {
      return new Counter({ name, help: 'Counted by plugins.', labelNames, registers: [metrics.registry] });
    } catch {
      // A name that is taken already counts nothing rather than something else.
      return undefined;
    }
  };
  return {
    count(name, labels, amount) {
      let counter = counters.get(name);
      if (counter === undefined && !counters.has(name)) {
        counter = make(name, Object.keys(labels));
        if (counters.size < countersMax) counters.set(name, counter);
      }
      try {
        counter?.inc(labels, amount);
      } catch {
        // Other labels than the first time: a defect of the caller that must not reach a client.
      }
    },
  };
}

/** The chain, with messages counted as they are reported; `wasGood` hears of clients that logged in or delivered. */
export function countingChain(
  chain: Chain,
  metrics: Metrics,
  wasGood: (client: Client) => void = () => {},
): Chain {
  return {
    ...chain,
    tell(report, session, ...rest) {
      if (report === 'delivered' || report === 'loggedIn') wasGood(session.client);
      if (report === 'delivered') {
        metrics.messages.inc({ outcome: 'stored' });
        const size = rest[1];
        if (typeof size === 'number') metrics.messageBytes.inc(size);
      }
      chain.tell(report, session, ...rest);
    },
    ask(question, session, ...rest) {
      const asked = chain.ask(question, session, ...rest);
      if (question !== 'message') return asked;
      return asked.then((verdict) => {
        if (verdict.word === 'defer') metrics.messages.inc({ outcome: 'deferred' });
        if (verdict.word === 'reject' || verdict.word === 'disconnect')
          metrics.messages.inc({ outcome: 'refused' });
        return verdict;
      });
    },
  };
}
