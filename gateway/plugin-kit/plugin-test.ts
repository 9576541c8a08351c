/**
 * What tests of a plugin import as `postern/plugin-test`: fakes, and a chain with
 * that one plugin in it, asked as the doors ask it. Options are written as in
 * `postern.toml` and checked the same way.
 */
import { silentLog } from '../../base/log.ts';
import type { Chain } from '../plugin-host/chain.ts';
import { readOptions } from '../plugin-host/load.ts';
import { openChainOf } from '../plugin-host/open-chain.ts';
import type { PluginDefinition, Question, Report, SettingsTable } from '../plugins/api.ts';

export { type FakeSessionFacts, fakeMessage, fakeSession, fakeWire } from './fakes.ts';

export interface PluginUnderTest extends Pick<Chain, 'ask' | 'tell'> {
  /** What the plugin counted with `host.count`. */
  counted(name: string): number;
  /** Ends its timers and sockets: call it at the end of a test. */
  stop(): Promise<void>;
}

/**
 * Starts a plugin.
 * @throws {Error} what the admin would read when an option is wrong or the plugin cannot start.
 */
export async function startPlugin<T extends SettingsTable>(
  definition: PluginDefinition<T>,
  options: Readonly<Record<string, unknown>> = {},
): Promise<PluginUnderTest> {
  const counts = new Map<string, number>();
  const entry = {
    use: definition.name,
    mode: 'enforce' as const,
    options,
    place: (key: string) => `options.${key}`,
  };
  const chain = await openChainOf([readOptions(definition as unknown as PluginDefinition, entry)], {
    log: silentLog,
    stallMs: 0,
    metrics: { count: (name, _labels, amount) => counts.set(name, (counts.get(name) ?? 0) + amount) },
  });
  const word = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, '_');
  return {
    ask: <Q extends Question>(...asked: Parameters<typeof chain.ask<Q>>) => chain.ask<Q>(...asked),
    tell: <R extends Report>(...told: Parameters<typeof chain.tell<R>>) => chain.tell<R>(...told),
    counted: (name) => counts.get(`postern_plugin_${word(definition.name)}_${word(name)}_total`) ?? 0,
    stop: () => chain.close(),
  };
}
