/**
 * A chain whose plugins can be others while the gateway runs. The new ones are
 * loaded and started beside the old; only when all of them stand does the next
 * question go to them. What cannot be started leaves the old ones in place.
 */
import type { PluginEntry } from '../../base/config-file.ts';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Chain } from './chain.ts';

/** Questions the old plugins are still asked may take so long; then they are closed. */
const oldChainMs = 60_000;

export interface ChangingChain extends Chain {
  /** The plugins are to be these. Never rejects; changes that come meanwhile are taken together. */
  change(entries: readonly PluginEntry[]): Promise<void>;
}

/** @param open  Loads and starts a chain. @throws what `open` throws, for the first one. */
export async function openChangingChain(
  entries: readonly PluginEntry[],
  open: (entries: readonly PluginEntry[]) => Promise<Chain>,
  log: Log,
): Promise<ChangingChain> {
  let chain = await open(entries);
  let wanted: readonly PluginEntry[] | undefined;
  let changing: Promise<void> | undefined;
  let closed = false;
  const old = new Map<NodeJS.Timeout, Chain>();

  const retire = (before: Chain): void => {
    const timer = setTimeout(() => {
      old.delete(timer);
      void before.close();
    }, oldChainMs);
    timer.unref();
    old.set(timer, before);
  };
  const run = async (): Promise<void> => {
    while (wanted !== undefined && !closed) {
      const next = wanted;
      wanted = undefined;
      const plugins = next.map(({ use }) => use);
      try {
        const opened = await open(next);
        if (closed) return void (await opened.close());
        retire(chain);
        chain = opened;
        log.info({ plugins }, 'plugins changed');
      } catch (error) {
        log.error(
          { plugins, error: Fault.from(error).message },
          'plugins cannot be changed; the old ones go on',
        );
      }
    }
  };
  return {
    ask: (question, session, ...rest) => chain.ask(question, session, ...rest),
    tell: (report, session, ...rest) => chain.tell(report, session, ...rest),
    wants: (question) => chain.wants(question),
    change(next) {
      wanted = next;
      changing ??= run().finally(() => {
        changing = undefined;
      });
      return changing;
    },
    async close() {
      closed = true;
      for (const [timer, before] of old) {
        clearTimeout(timer);
        await before.close();
      }
      await chain.close();
    },
  };
}
