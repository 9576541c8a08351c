/**
 * Haraka as a part of this process: loaded without its listeners, cluster,
 * daemon and outbound queue; its log goes to ours; and no hook of any plugin
 * can pass for "yes" by throwing. Haraka keeps its state in module globals, so
 * there is one of it per process.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { Fault } from '../../../base/fault.ts';
import { type Log, printable } from '../../../base/log.ts';
import { bridgeHooks, bridgeName } from './bridge.ts';
import { type HarakaHomeFacts, writeHarakaHome } from './home.ts';
import type { HarakaSocket } from './socket.ts';
import {
  type HarakaConnection,
  type HarakaLogger,
  type HarakaPlugin,
  type HarakaPlugins,
  type Hook,
  type HookNext,
  hookResult,
} from './types.ts';

export interface Haraka {
  /** Plugins of Haraka's own run as well: messages have to be shown to Haraka. */
  readonly hasPlugins: boolean;
  connect(socket: HarakaSocket): HarakaConnection;
  close(): void;
}

let loaded: { haraka: Haraka; home: string } | undefined;

/**
 * @param home         Haraka's configuration is written to `home`/config; a site's plugins may lie in `home`/plugins.
 * @param pluginNames  Haraka's own plugins to run as well.
 * @throws {Fault} `cannot-write`, `bad-config`
 */
export function loadHaraka(
  home: string,
  facts: HarakaHomeFacts,
  pluginNames: readonly string[],
  log: Log,
): Haraka {
  if (loaded !== undefined) {
    if (loaded.home !== home) throw new Fault('bug', 'Haraka can be loaded once per process');
    return loaded.haraka;
  }
  writeHarakaHome(home, facts);
  process.env.HARAKA = home;
  // its helpers would write to our standard output
  process.env.HARAKA_LOGS_SUPPRESS = 'true';
  const require = createRequire(import.meta.url);
  // Haraka asks the kernel for the machine's name with every reply: a tenth of its time
  const os = require('node:os') as { hostname(): string };
  const machine = os.hostname();
  os.hostname = () => machine;
  const logger = require('Haraka/logger') as HarakaLogger;
  logger.log = (level, data) => {
    const text = printable(String(data));
    if (level === 'EMERG' || level === 'ALERT' || level === 'CRIT' || level === 'ERROR')
      log.error({ haraka: level }, text);
    else if (level === 'WARN') log.warn({ haraka: level }, text);
    else log.debug({ haraka: level }, text);
    return true;
  };
  logger.deferred_logs.length = 0;
  // below its level, which home.ts sets, Haraka still asks and builds for every line
  for (const level of ['data', 'protocol', 'debug', 'info', 'notice']) logger[`log${level}`] = () => true;
  const { log: print } = console;
  console.log = () => {};
  const server = require('Haraka/server') as Record<string, unknown> & { plugins: HarakaPlugins };
  const { createConnection } = require('Haraka/connection') as {
    createConnection(client: unknown, server: unknown, cfg: unknown): HarakaConnection;
  };
  console.log = print;
  if (pluginNames.length === 0) keepNoResults(require('haraka-results') as ResultStoreClass);
  const { plugins } = server;
  plugins.server = server;
  registerBridge(plugins);
  try {
    plugins.load_plugins([...pluginNames]);
  } catch (error) {
    throw new Fault(
      'bad-config',
      `smtp.haraka_plugins: ${error instanceof Error ? error.message : String(error)}; correct or remove the name`,
      { cause: error },
    );
  }
  for (const plugin of Object.values(plugins.registered_plugins)) {
    if (plugin !== undefined) guardHooks(plugins, plugin, log);
  }
  // what Haraka asks of the server it believes to be part of
  const host = { ...server, address: () => ({ address: '127.0.0.1', port: 25 }), has_tls: false };
  const haraka: Haraka = {
    hasPlugins: pluginNames.length > 0,
    connect: (socket) => createConnection(socket, host, undefined),
    close: () => plugins.shutdown_plugins(),
  };
  loaded = { haraka, home };
  return haraka;
}

/** Haraka's results are what plugins tell each other and its log; with nobody to read them they cost a twentieth of a message. */
function keepNoResults(ResultStore: ResultStoreClass): void {
  for (const method of ['add', 'push', 'incr']) ResultStore.prototype[method] = () => '';
}

type ResultStoreClass = { readonly prototype: Record<string, unknown> };

/** A plugin without a file: Haraka would run one in a bare VM context. */
function registerBridge(plugins: HarakaPlugins): void {
  const bridge: HarakaPlugin = { name: bridgeName, timeout: 0 };
  plugins.registered_plugins[bridgeName] = bridge;
  let order = -1000;
  for (const [hook, priority, run] of bridgeHooks) {
    const method = `${hook}:${priority}`;
    bridge[method] = run;
    plugins.registered_hooks[hook] ??= [];
    plugins.registered_hooks[hook].push({ plugin: bridgeName, method, priority, timeout: 0, order: order++ });
  }
}

/** Hooks whose answer decides nothing: a failure there must not stop what follows. */
const undecided = new Set([
  'log',
  'reset_transaction',
  'disconnect',
  'deny',
  'quit',
  'init_master',
  'init_child',
]);

/** To Haraka a hook that throws has passed, and one that rejects is waited for: here both mean "try again later". */
function guardHooks(plugins: HarakaPlugins, plugin: HarakaPlugin, log: Log): void {
  for (const [hook, items] of Object.entries(plugins.registered_hooks)) {
    for (const item of items) {
      if (plugins.registered_plugins[item.plugin] !== plugin) continue;
      const run = plugin[item.method] as Hook | undefined;
      if (run === undefined) continue;
      // one method may serve several hooks, so each registration gets a name of its own
      const guarded = `guarded:${hook}:${item.method}`;
      plugin[guarded] = guardHook(run, hook, plugin.name, log);
      item.method = guarded;
    }
  }
}

function guardHook(run: Hook, hook: string, plugin: string, log: Log): Hook {
  return function guarded(this: unknown, next: HookNext, connection: unknown, params?: unknown): void {
    let answered = false;
    const once: HookNext = (result, message) => {
      if (answered) return;
      answered = true;
      next(result, message);
    };
    const failed = (error: unknown) => {
      if (answered) {
        log.warn(
          { plugin, hook, err: Fault.from(error).message },
          'a Haraka plugin failed after it had answered',
        );
        return;
      }
      log.error({ plugin, hook, err: Fault.from(error).message }, 'a Haraka plugin failed');
      if (undecided.has(hook)) once();
      else once(hookResult.denySoft, 'Temporarily unavailable, try again later');
    };
    try {
      const result = run.call(this, once, connection, params);
      // a promise of a plugin's own VM context is no instance of our Promise
      if (typeof (result as Promise<unknown> | undefined)?.then === 'function') {
        (result as Promise<unknown>).then(undefined, failed);
      }
    } catch (error) {
      failed(error);
    }
  };
}

/** Where Haraka lives in a data directory. */
export const harakaHomeOf = (data: string): string => path.join(data, 'haraka');
