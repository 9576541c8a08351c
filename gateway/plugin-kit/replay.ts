/**
 * Recorded mail through a chain, without a network: what would today's plugins,
 * or changed ones, have said? Every plugin is asked about every message, whatever
 * those before it said, so that what each would have caught stands beside the rest.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { PluginEntry } from '../../base/config-file.ts';
import { silentLog } from '../../base/log.ts';
import { openChain } from '../plugin-host/open-chain.ts';
import type { Question } from '../plugins/api.ts';
import { fakeMessage, fakeSession, fakeWire } from './fakes.ts';

export interface RecordedMail {
  readonly name: string;
  /** The folder it lay in, for the table: `ham`, `spam`. */
  readonly label: string;
  readonly bytes: Buffer;
  readonly client: string;
  readonly greeting: string;
  readonly from: string;
  readonly to: readonly string[];
}

/** `pass`, `tag`, `quarantine`, `throttle`, `defer`, `reject`, `disconnect`, `accept`, or `failed`. */
export type ReplayWord = string;

export interface Replayed {
  readonly name: string;
  readonly label: string;
  /** By plugin, the strongest word it had for any question; plugins that only passed are left out. */
  readonly said: ReadonlyMap<string, { readonly word: ReplayWord; readonly question: Question }>;
  /** The strongest of all, in the order of the chain: what would have become of it. */
  readonly word: ReplayWord;
}

const strength = ['pass', 'accept', 'throttle', 'quarantine', 'failed', 'defer', 'reject', 'disconnect'];

type Said = Map<string, { word: ReplayWord; question: Question }>;

/**
 * @param concurrent  Messages under way at once.
 * @param each        Told of every message, in the order they are done.
 */
export async function replay(
  mails: Iterable<RecordedMail> | AsyncIterable<RecordedMail>,
  options: { plugins: readonly PluginEntry[]; configDir: string; concurrent: number },
  each: (replayed: Replayed) => void,
): Promise<void> {
  const current = new AsyncLocalStorage<Said>();
  // Watched, a plugin is asked and decides nothing: the next one is asked as well.
  const watching = options.plugins.map((entry) => ({ ...entry, mode: 'watch' as const }));
  const chain = await openChain({
    plugins: watching,
    configDir: options.configDir,
    log: silentLog,
    stallMs: 0,
    metrics: {
      count(name, labels) {
        const { plugin = '', question = '', verdict = 'failed' } = labels;
        if (name !== 'postern_plugin_verdicts_total' && name !== 'postern_plugin_failures_total') return;
        const said = current.getStore();
        const before = said?.get(plugin);
        if (verdict === 'pass' || (before && strengthOf(before.word) >= strengthOf(verdict))) return;
        said?.set(plugin, { word: verdict, question: question as Question });
      },
    },
  });
  const one = async (mail: RecordedMail): Promise<void> => {
    const said: Said = new Map();
    await current.run(said, async () => {
      const session = fakeSession({ address: mail.client, greeting: mail.greeting });
      const message = fakeMessage(mail.bytes, { from: mail.from, to: mail.to });
      chain.tell('connected', session);
      await chain.ask('connect', session, fakeWire());
      await chain.ask('greeting', session, mail.greeting);
      await chain.ask('sender', session, mail.from);
      for (const to of mail.to) await chain.ask('recipient', session, to, mail.from);
      await chain.ask('header', session, message);
      await chain.ask('message', session, message);
      chain.tell('disconnected', session);
    });
    const words = [...said.values()].map(({ word }) => word);
    const word = words.reduce((worst, next) => (strengthOf(next) > strengthOf(worst) ? next : worst), 'pass');
    each({ name: mail.name, label: mail.label, said, word });
  };
  try {
    const source = (
      Symbol.asyncIterator in mails ? mails[Symbol.asyncIterator]() : mails[Symbol.iterator]()
    ) as AsyncIterator<RecordedMail> | Iterator<RecordedMail>;
    const worker = async (): Promise<void> => {
      for (let next = await source.next(); next.done !== true; next = await source.next())
        await one(next.value);
    };
    await Promise.all(Array.from({ length: options.concurrent }, worker));
  } finally {
    await chain.close();
  }
}

function strengthOf(word: ReplayWord): number {
  return strength.indexOf(word);
}
