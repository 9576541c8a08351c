/** Two accounts with the same mail, one with a text index and one without, and one search asked of both. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { openStore } from '../../../backend/store/open-store.ts';
import type { Store } from '../../../backend/store/store.ts';
import type { Log } from '../../../base/log.ts';
import { silentLog } from '../../../base/log.ts';
import { foldText } from '../../../mailwire/imap-search-keys.ts';
import { waitFor } from '../../support/process.ts';
import { ImapClient } from '../imap/imap-client.ts';
import { type Bench, limits, makeBench, put } from '../store/store-fixture.ts';

export interface Rig {
  readonly bench: Bench;
  /** Log records of the indexed account. */
  readonly logged: Record<string, unknown>[];
  readonly store: Store;
  readonly indexFile: string;
  readonly sumFile: string;
  add(messages: readonly (Buffer | string)[]): Promise<void>;
  /** Searches by UID with the index, and without: the answers. */
  both(keys: string): Promise<{ indexed: string; plain: string }>;
  /** Resolves when everything in INBOX is indexed. */
  indexed(): Promise<void>;
  /** Closes and opens both again. @param meanwhile  While they are closed. */
  reopen(meanwhile?: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

export async function openRig(options: { indexBytesMax?: number } = {}): Promise<Rig> {
  const bench = await makeBench();
  const other = await makeBench();
  const logged: Record<string, unknown>[] = [];
  const note = (facts: object): void => void logged.push(facts as Record<string, unknown>);
  const log = { ...silentLog, info: note, warn: note, error: note } as unknown as Log;
  let epoch = 0;
  const open = async () => ({
    indexed: await openStore({
      directory: bench.directory,
      guard: { epoch: ++epoch, assert() {} },
      limits,
      log,
      dirsync: true,
      search: { indexBytesMax: options.indexBytesMax ?? 2 ** 30 },
    }),
    plain: await other.open(),
  });
  let stores = await open();
  const ask = async (store: Store, keys: string): Promise<string> => {
    const client = new ImapClient(store);
    await client.run('a EXAMINE INBOX');
    const answer = await client.run(`b UID SEARCH ${keys}`);
    client.session.connectionLost();
    return answer;
  };
  return {
    bench,
    logged,
    get store() {
      return stores.indexed;
    },
    indexFile: path.join(bench.directory, 'search', 'index.db'),
    sumFile: path.join(bench.directory, 'search', 'index.sum'),
    async add(messages) {
      for (const store of [stores.indexed, stores.plain]) {
        const inbox = await store.folder('INBOX');
        for (const message of messages) await put(inbox, message);
      }
    },
    async both(keys) {
      return { indexed: await ask(stores.indexed, keys), plain: await ask(stores.plain, keys) };
    },
    async indexed() {
      const inbox = await stores.indexed.folder('INBOX');
      const nowhere = foldText(randomBytes(12).toString('hex'));
      await waitFor('the index', async () => {
        const candidates = await stores.indexed.textIndex?.candidates(inbox, nowhere);
        return (candidates?.through ?? -1) >= (inbox.uids().at(-1) ?? 0);
      });
    },
    async reopen(meanwhile) {
      await stores.indexed.close();
      await stores.plain.close();
      await meanwhile?.();
      stores = await open();
    },
    async close() {
      await stores.indexed.close();
      await stores.plain.close();
      await bench.remove();
      await other.remove();
    },
  };
}
