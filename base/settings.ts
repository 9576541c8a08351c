/**
 * Every setting is declared once, in a table, with its kind, default and text.
 * Validation, the commented example file and the reference page are made from
 * the tables, so none of them can say something the code does not do.
 */
import { Fault } from './fault.ts';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.ts';

/** What the admin writes → what the code gets: duration "10m" → ms, size "25MiB" → bytes, addresses "[::]:25". */
export type Setting = SettingKind & {
  /**
   * May it be set for the whole cluster (`postern settings set`)? `live`: whatever begins after a change goes by it
   * (a connection, a session, an account that is opened), without a restart. Absent: it stands in each machine's file.
   */
  readonly cluster?: 'live' | 'restart';
};

type SettingKind =
  | {
      readonly kind: 'count';
      readonly default: number;
      readonly min?: number;
      readonly max?: number;
      readonly unit?: string;
      readonly doc: string;
    }
  | {
      readonly kind: 'number';
      readonly default: number;
      readonly min?: number;
      readonly max?: number;
      readonly unit?: string;
      readonly doc: string;
    }
  | {
      readonly kind: 'duration';
      readonly default: string;
      readonly min?: string;
      readonly max?: string;
      readonly doc: string;
    }
  | {
      readonly kind: 'size';
      readonly default: string;
      readonly min?: string;
      readonly max?: string;
      readonly doc: string;
    }
  | { readonly kind: 'text'; readonly default: string; readonly pattern?: RegExp; readonly doc: string }
  | { readonly kind: 'path'; readonly default: string; readonly doc: string }
  | { readonly kind: 'flag'; readonly default: boolean; readonly doc: string }
  | {
      readonly kind: 'choice';
      readonly default: string;
      readonly choices: readonly string[];
      readonly doc: string;
    }
  | { readonly kind: 'texts'; readonly default: readonly string[]; readonly doc: string }
  | { readonly kind: 'addresses'; readonly default: readonly string[]; readonly doc: string };

/** Keys are dotted paths as they stand in the file: `'listen.smtp'`, `'hostname'`. */
export type SettingsTable = { readonly [key: string]: Setting };

export type ValueOf<S extends Setting> = S extends { kind: 'count' | 'number' | 'duration' | 'size' }
  ? number
  : S extends { kind: 'flag' }
    ? boolean
    : S extends { kind: 'texts' | 'addresses' }
      ? readonly string[]
      : S extends { kind: 'choice'; choices: readonly (infer C)[] }
        ? C
        : string;

export type ValuesOf<T extends SettingsTable> = { readonly [K in keyof T]: ValueOf<T[K]> };

/** Where a value stands, for the words of an error: `postern.toml:14 plugin.window`. */
export type Place = (key: string) => string;

/** Host and port of a listening address. `host` has no brackets. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `"[::]:25"`, `"127.0.0.1:25"` → host and port; `undefined` when it is neither. Port 0 lets the system choose. */
export function parseAddress(text: string): ListenAddress | undefined {
  const found = /^(?:\[([0-9A-Fa-f:.%a-z]{2,64})\]|([^\s:[\]]{1,255})):(\d{1,5})$/.exec(text);
  if (!found) return undefined;
  const port = Number(found[3]);
  return port > 65535 ? undefined : { host: (found[1] ?? found[2])!, port };
}

/**
 * One raw value from the file → the value the code uses.
 * @throws {Fault} `bad-config`, with the place, what was found and what to write instead.
 */
export function readSetting(setting: Setting, raw: unknown, key: string, place: Place): unknown {
  const bad = (need: string, remedy: string): never => {
    const shown = JSON.stringify(raw)?.slice(0, 80) ?? String(raw);
    throw new Fault('bad-config', `${place(key)}: ${shown} is not ${need}; ${remedy}`);
  };
  const inRange = (
    value: number,
    min: number | undefined,
    max: number | undefined,
    show: (n: number) => string,
  ): number => {
    if (min !== undefined && value < min) return bad(`at least ${show(min)}`, `use ${show(min)} or more`);
    if (max !== undefined && value > max) return bad(`at most ${show(max)}`, `use ${show(max)} or less`);
    return value;
  };
  switch (setting.kind) {
    case 'count':
      if (typeof raw !== 'number' || !Number.isSafeInteger(raw) || raw < 0)
        return bad('a whole number', `try ${setting.default}`);
      return inRange(raw, setting.min, setting.max, String);
    case 'number':
      if (typeof raw !== 'number' || !Number.isFinite(raw)) return bad('a number', `try ${setting.default}`);
      return inRange(raw, setting.min, setting.max, String);
    case 'duration': {
      const value = typeof raw === 'string' ? parseDuration(raw) : undefined;
      if (value === undefined) return bad('a duration', `try "${setting.default}"`);
      return inRange(
        value,
        setting.min === undefined ? undefined : parseDuration(setting.min),
        setting.max === undefined ? undefined : parseDuration(setting.max),
        formatDuration,
      );
    }
    case 'size': {
      const value = typeof raw === 'string' ? parseSize(raw) : undefined;
      if (value === undefined) return bad('a size', `try "${setting.default}"`);
      return inRange(
        value,
        setting.min === undefined ? undefined : parseSize(setting.min),
        setting.max === undefined ? undefined : parseSize(setting.max),
        formatSize,
      );
    }
    case 'flag':
      if (typeof raw !== 'boolean') return bad('true or false', `try ${setting.default}`);
      return raw;
    case 'choice':
      if (typeof raw !== 'string' || !setting.choices.includes(raw))
        return bad(`one of ${setting.choices.join(', ')}`, `try "${setting.default}"`);
      return raw;
    case 'text':
    case 'path':
      if (typeof raw !== 'string' || raw.includes('\0')) return bad('a text', `try "${setting.default}"`);
      if (setting.kind === 'text' && setting.pattern && !setting.pattern.test(raw))
        return bad('in the form this setting takes', `try "${setting.default}"`);
      return raw;
    case 'texts':
      if (!Array.isArray(raw) || raw.some((entry) => typeof entry !== 'string'))
        return bad('a list of texts', 'try ["one", "two"]');
      return raw;
    case 'addresses':
      if (!Array.isArray(raw)) return bad('a list of addresses', `try ${JSON.stringify(setting.default)}`);
      for (const entry of raw) {
        if (typeof entry !== 'string' || !parseAddress(entry))
          return bad(
            'a list of addresses',
            `${JSON.stringify(entry)} should look like "[::]:25" or "127.0.0.1:25"`,
          );
      }
      return raw;
  }
}

/** The default of a setting, as the code uses it. */
export function defaultOf(setting: Setting): unknown {
  return readSetting(setting, setting.default, 'default', (key) => key);
}

/** All defaults of a table. */
export function defaultsOf<const T extends SettingsTable>(table: T): ValuesOf<T> {
  return Object.fromEntries(
    Object.entries(table).map(([key, setting]) => [key, defaultOf(setting)]),
  ) as ValuesOf<T>;
}
