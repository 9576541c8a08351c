/**
 * Settings and bans of the whole cluster, at the supervisor: checked with the
 * declarations the file is checked with, written with their record, and followed
 * by every member from the registry.
 */
import { nearest } from '../base/config-file.ts';
import { overlaid, pluginKeyPattern } from '../base/config-overlay.ts';
import { Fault, isFault } from '../base/fault.ts';
import { readSetting, type Setting } from '../base/settings.ts';
import { type Ban, banKey, bansMax, decodeBan } from '../cluster-protocol/bans.ts';
import {
  type ChangeRecord,
  changeAndRecord,
  readChange,
  readHistory,
} from '../cluster-protocol/change-history.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { wishKey } from '../cluster-protocol/wishes.ts';
import { needOtherTaker, readFacts } from './cluster-facts.ts';
import { type Configuration, checkFile, settingsTables } from './configuration.ts';
import type { SettingsRequest } from './settings-requests.ts';

/** Expired bans removed in one transaction. */
const removalsMax = 500;

export interface Reloaded {
  readonly live: readonly string[];
  readonly atRestart: readonly string[];
  /** Members that did not take it over, and why. */
  readonly failed: Readonly<Record<string, string>>;
}

export interface SettingsWorkOptions {
  readonly registry: Registry;
  /** Of this machine, as it was last read. */
  configuration(): Configuration;
  reload(): Promise<Reloaded>;
  /** @throws {Fault} when the domain has accounts still. */
  needEmptyDomain(domain: string): Promise<void>;
}

export interface ShownSetting {
  readonly key: string;
  /** Raw values, as a file would have them. */
  readonly cluster: unknown;
  /** Of this machine's file; absent when it says nothing. */
  readonly file?: unknown;
  /** Absent for options of plugins. */
  readonly default?: unknown;
  readonly applies: 'live' | 'restart';
  readonly change?: Pick<ChangeRecord, 'number' | 'atMs' | 'by'>;
}

export interface ShownBan extends Ban {
  readonly network: string;
}

export async function performSettings(
  request: SettingsRequest,
  options: SettingsWorkOptions,
): Promise<unknown> {
  const { registry } = options;
  const nowMs = Date.now();
  switch (request.op) {
    case 'settings-set': {
      const { key, value, by } = request;
      const applies = await checkValue(key, value, options);
      const what = `set ${key} ${JSON.stringify(value)}`;
      const after = JSON.stringify(value);
      const change = await changeAndRecord(
        registry,
        { by, what, key: registryKey.setting(key), after: () => after },
        nowMs,
      );
      return { key, value, applies, ...(change === undefined ? {} : { number: change.number }) };
    }
    case 'settings-unset': {
      const { key, by } = request;
      const change = await changeAndRecord(
        registry,
        { by, what: `unset ${key}`, key: registryKey.setting(key), after: () => undefined },
        nowMs,
      );
      if (change === undefined)
        throw new Fault('bad-argument', `${key} is not set for the cluster; see "postern settings show"`);
      return { key, number: change.number };
    }
    case 'settings-show':
      return { settings: await shownSettings(options) };
    case 'settings-history': {
      const all = await readHistory(registry, Number.MAX_SAFE_INTEGER);
      const prefixes = [registryKey.settingPrefix, registryKey.banPrefix, registryKey.domainPrefix];
      const changes = all.filter(({ key }) => prefixes.some((prefix) => key.startsWith(prefix)));
      return { changes: changes.slice(-request.countMax) };
    }
    case 'settings-revert':
      return revert(request.number, request.by, options);
    case 'ban-add': {
      const { network, by, forMs, why } = request;
      await makeRoom(registry, banKey(network), nowMs);
      const ban: Ban = {
        ...{ by, atMs: nowMs },
        ...(forMs === undefined ? {} : { untilMs: nowMs + forMs }),
        ...(why === undefined ? {} : { why }),
      };
      const what = `ban ${network}${why === undefined ? '' : `: ${why}`}`;
      await changeAndRecord(
        registry,
        { by, what, key: banKey(network), after: () => JSON.stringify(ban) },
        nowMs,
      );
      return { network, ...ban };
    }
    case 'ban-remove': {
      const { network, by } = request;
      const change = await changeAndRecord(
        registry,
        { by, what: `unban ${network}`, key: banKey(network), after: () => undefined },
        nowMs,
      );
      if (change === undefined)
        throw new Fault('bad-argument', `${network} is not banned as such; "postern ban list" shows what is`);
      return { network };
    }
    case 'ban-list':
      return {
        bans: (await readBans(registry)).filter(({ untilMs }) => untilMs === undefined || untilMs > nowMs),
      };
    case 'reload':
      return options.reload();
  }
}

/** @returns When it applies. @throws {Fault} `bad-argument` with the remedy. */
async function checkValue(
  key: string,
  value: unknown,
  options: SettingsWorkOptions,
): Promise<'live' | 'restart'> {
  // The command has loaded the plugin and checked the option: no plugin's code runs in the supervisor.
  if (pluginKeyPattern.test(key)) return 'live';
  const setting = settingCalled(key);
  try {
    readSetting(setting, value, key, (name) => name);
    const over = new Map(await clusterValues(options.registry));
    over.set(key, value);
    checkFile(overlaid(options.configuration().file, over));
  } catch (error) {
    if (isFault(error, 'bad-config')) throw new Fault('bad-argument', error.message, { cause: error });
    throw error;
  }
  return setting.cluster!;
}

function settingCalled(key: string): Setting {
  const declared = new Map<string, Setting>(settingsTables.flatMap((table) => Object.entries(table)));
  const setting = declared.get(key);
  if (setting === undefined) {
    const settable = [...declared].filter(([, one]) => one.cluster !== undefined).map(([name]) => name);
    const near = nearest(key, settable);
    throw new Fault(
      'bad-argument',
      `there is no setting ${key}; ${near === undefined ? 'see docs/reference/settings.md' : `did you mean ${near}?`}`,
    );
  }
  if (setting.cluster === undefined)
    throw new Fault('bad-argument', `${key} is a matter of each machine; set it in its postern.toml`);
  return setting;
}

async function clusterValues(registry: Registry): Promise<[string, unknown][]> {
  const { entries } = await registry.list(registryKey.settingPrefix);
  return entries.map(({ key, value }) => [key.slice(registryKey.settingPrefix.length), JSON.parse(value)]);
}

async function shownSettings({ registry, configuration }: SettingsWorkOptions): Promise<ShownSetting[]> {
  const [values, history] = await Promise.all([
    clusterValues(registry),
    readHistory(registry, Number.MAX_SAFE_INTEGER),
  ]);
  const declared = new Map<string, Setting>(settingsTables.flatMap((table) => Object.entries(table)));
  const { file } = configuration();
  return values.map(([key, cluster]): ShownSetting => {
    const setting = declared.get(key);
    const last = history.findLast((change) => change.key === registryKey.setting(key));
    const own = key
      .split('.')
      .reduce<unknown>((table, part) => (table as Record<string, unknown>)?.[part], file.root);
    return {
      ...{ key, cluster, applies: setting?.cluster ?? 'live' },
      ...(own === undefined ? {} : { file: own }),
      ...(setting === undefined ? {} : { default: setting.default }),
      ...(last === undefined ? {} : { change: { number: last.number, atMs: last.atMs, by: last.by } }),
    };
  });
}

/** Puts back what stood there before a change, unless it was changed again since. */
async function revert(number: number, by: string, options: SettingsWorkOptions): Promise<unknown> {
  const { registry } = options;
  const change = await readChange(registry, number);
  const { key, before, after } = change;
  if (before !== undefined && key.startsWith(registryKey.settingPrefix))
    await checkValue(key.slice(registryKey.settingPrefix.length), JSON.parse(before), options);
  if (before !== undefined && key.startsWith(wishKey.drain('')))
    needOtherTaker(await readFacts(registry), key.slice(wishKey.drain('').length));
  if (before === undefined && key.startsWith(registryKey.domainPrefix))
    await options.needEmptyDomain(key.slice(registryKey.domainPrefix.length));
  const done = await changeAndRecord(
    registry,
    {
      ...{ by, key, what: `revert ${number} (${change.what})` },
      after: (now) => {
        if (now === before) return before;
        if (now !== after)
          throw new Fault(
            'not-allowed',
            `what change ${number} made was changed again since; revert the later change first`,
          );
        return before;
      },
    },
    Date.now(),
  );
  if (done === undefined) throw new Fault('bad-argument', `change ${number} is taken back already`);
  return { number: done.number, what: done.what };
}

async function readBans(registry: Registry): Promise<ShownBan[]> {
  const { entries } = await registry.list(registryKey.banPrefix);
  return entries.flatMap(({ key, value }) => {
    const ban = decodeBan(value);
    return ban === undefined ? [] : [{ network: key.slice(registryKey.banPrefix.length), ...ban }];
  });
}

/** Bans that are over are removed when another is added: until then nobody minds them. @throws {Fault} `limit-reached` */
async function makeRoom(registry: Registry, key: string, nowMs: number): Promise<void> {
  const bans = await readBans(registry);
  const over = bans.filter(({ untilMs }) => untilMs !== undefined && untilMs <= nowMs);
  const removals = over.slice(0, removalsMax).map(({ network }) => ({ remove: banKey(network) }));
  if (removals.length > 0) await registry.transact([], removals);
  const left = bans.length - removals.length;
  if (left >= bansMax && !bans.some(({ network }) => banKey(network) === key))
    throw new Fault(
      'limit-reached',
      `there are ${bansMax} bans, and gateways keep no more; ban wider networks instead`,
    );
}
