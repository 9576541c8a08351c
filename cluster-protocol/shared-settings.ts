/**
 * The settings of one member while it runs: its machine's file, with what is set
 * for the whole cluster laid over it, both followed. Values are changed in place,
 * so that whoever reads a setting when something begins has the present one; what
 * is read once at the start is left alone, and said to need a restart.
 */
import { type ConfigFile, lookUp, type PluginEntry } from '../base/config-file.ts';
import { overlaid } from '../base/config-overlay.ts';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import { readSetting, type SettingsTable } from '../base/settings.ts';
import { follow } from './registry/follow.ts';
import { type Registry, registryKey } from './registry.ts';

/** A table and the values read from it, which are changed in place. */
export interface SettingsSheet {
  readonly table: SettingsTable;
  readonly values: Readonly<Record<string, unknown>>;
}

/** What became of a change, by key. */
export interface Applied {
  readonly live: readonly string[];
  /** Taken over at the next start of the member. */
  readonly atRestart: readonly string[];
}

export interface SharedSettingsOptions {
  readonly registry: Registry;
  readonly file: ConfigFile;
  readonly sheets: readonly SettingsSheet[];
  readonly log: Log;
  /** Gateways: the plugins that run when the file names none, and what to do when they are to be others. */
  readonly plugins?: {
    readonly defaults: readonly PluginEntry[];
    changed(entries: readonly PluginEntry[]): void;
  };
}

export interface SharedSettings {
  /** The file with the cluster's settings over it. */
  readonly file: ConfigFile;
  /** The file has been read again and is good. */
  fileChanged(file: ConfigFile): Applied;
  close(): void;
}

/** Reads the cluster's settings into the sheets, whatever they are, and follows them from then on. */
export async function followSettings(options: SharedSettingsOptions): Promise<SharedSettings> {
  const shared = new Shared(options);
  await shared.first;
  return shared;
}

class Shared implements SharedSettings {
  file: ConfigFile;
  readonly first: Promise<void>;
  readonly #options: SharedSettingsOptions;
  readonly #end = new AbortController();
  readonly #over = new Map<string, unknown>();
  #own: ConfigFile;
  #plugins = '';
  #started = false;

  constructor(options: SharedSettingsOptions) {
    this.#options = options;
    this.#own = options.file;
    this.file = options.file;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.first = promise;
    const { registry, log } = options;
    follow(
      registry,
      [registryKey.settingPrefix],
      {
        reset: (entries) => {
          this.#over.clear();
          for (const { key, value } of entries) this.#put(key, value);
          this.#apply();
          resolve();
        },
        event: ({ kind, key, value }) => {
          if (kind === 'put') this.#put(key, value);
          else this.#over.delete(nameOf(key));
          this.#apply();
        },
        trouble: (error) => log.warn({ error: String(error) }, 'cluster settings cannot be read'),
      },
      this.#end.signal,
    );
  }

  fileChanged(file: ConfigFile): Applied {
    this.#own = file;
    return this.#apply();
  }

  close(): void {
    this.#end.abort();
  }

  #put(key: string, value: string): void {
    try {
      this.#over.set(nameOf(key), JSON.parse(value));
    } catch {
      this.#options.log.error({ setting: nameOf(key) }, 'a cluster setting cannot be read; it is left out');
    }
  }

  #apply(): Applied {
    const { sheets, log, plugins } = this.#options;
    const starting = !this.#started;
    this.#started = true;
    this.file = overlaid(this.#own, this.#over, plugins?.defaults);
    const live: string[] = [];
    const atRestart: string[] = [];
    for (const { table, values } of sheets)
      for (const [key, setting] of Object.entries(table)) {
        const value = this.#valueOf(key, setting);
        if (JSON.stringify(value) === JSON.stringify(values[key])) continue;
        if (starting || setting.cluster === 'live') {
          (values as Record<string, unknown>)[key] = value;
          live.push(key);
        } else atRestart.push(key);
      }
    const entries = this.file.plugins ?? plugins?.defaults ?? [];
    const spelled = JSON.stringify(entries);
    if (!starting && spelled !== this.#plugins && plugins !== undefined) {
      plugins.changed(entries);
      live.push('plugin');
    }
    this.#plugins = spelled;
    if (!starting && live.length + atRestart.length > 0) log.info({ live, atRestart }, 'settings changed');
    return { live, atRestart };
  }

  /** What a newer version has set may be none here: then the machine's own value stands. */
  #valueOf(key: string, setting: SettingsTable[string]): unknown {
    const raw = (file: ConfigFile): unknown => lookUp(file.root, key) ?? setting.default;
    if (this.#over.has(key)) {
      try {
        if (setting.cluster === undefined)
          throw new Fault('bad-config', `${key} is set by each machine's file`);
        return readSetting(setting, raw(this.file), key, this.file.place);
      } catch (error) {
        this.#options.log.error(
          { setting: key, error: Fault.from(error).message },
          'a cluster setting is left out',
        );
      }
    }
    return readSetting(setting, raw(this.#own), key, this.#own.place);
  }
}

const nameOf = (key: string): string => key.slice(registryKey.settingPrefix.length);
