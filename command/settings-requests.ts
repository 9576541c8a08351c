/** What `postern settings …`, `postern ban …` and `postern reload` ask over the admin socket, and its check. Pure. */
import { pluginKeyPattern } from '../base/config-overlay.ts';
import { Fault } from '../base/fault.ts';
import { bannable } from '../gateway/net/ban-list.ts';

export type SettingsRequest =
  /** `value` as the file would have it: a number, a text, true, a list. */
  | { readonly op: 'settings-set'; readonly key: string; readonly value: unknown; readonly by: string }
  | { readonly op: 'settings-unset'; readonly key: string; readonly by: string }
  | { readonly op: 'settings-show' }
  | { readonly op: 'settings-history'; readonly countMax: number }
  | { readonly op: 'settings-revert'; readonly number: number; readonly by: string }
  /** `network` in its one spelling. `forMs` absent: until it is removed. */
  | {
      readonly op: 'ban-add';
      readonly network: string;
      readonly forMs?: number;
      readonly why?: string;
      readonly by: string;
    }
  | { readonly op: 'ban-remove'; readonly network: string; readonly by: string }
  | { readonly op: 'ban-list' }
  | { readonly op: 'reload'; readonly by: string };

const keyBytesMax = 128;
/** A list of networks may be long; a setting is no place for data. */
const valueBytesMax = 16 * 1024;
const whyBytesMax = 200;
const banMsMax = 10 * 365 * 86_400_000;
const countMax = 2000;

/** @returns `undefined` when `op` is none of these. @throws {Fault} `bad-argument` */
export function settingsRequest(raw: Readonly<Record<string, unknown>>): SettingsRequest | undefined {
  const bad = (what: string): never => {
    throw new Fault('bad-argument', what);
  };
  const text = (name: string, bytesMax: number): string => {
    const value = raw[name];
    if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > bytesMax)
      return bad(`${name} is missing, empty or too long`);
    return value;
  };
  const whole = (name: string, max: number): number => {
    const value = raw[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > max)
      return bad(`${name} is not a whole number from 1 to ${max}`);
    return value;
  };
  /** These texts go into logs and onto screens. */
  const printable = (value: string, max: number): string =>
    value.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, max);
  const by = (): string => (typeof raw.by === 'string' ? printable(raw.by, 64) : '');
  const key = (): string => {
    const name = text('key', keyBytesMax);
    if (!/^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$/.test(name) && !pluginKeyPattern.test(name))
      return bad(
        `"${name}" is no setting; write one as in the file: smtp.recipients_max, plugin.guess-guard.window`,
      );
    return name;
  };
  switch (raw.op) {
    case 'settings-set': {
      const { value } = raw;
      const good = ['string', 'number', 'boolean'].includes(typeof value) || Array.isArray(value);
      if (!good || Buffer.byteLength(JSON.stringify(value)) > valueBytesMax)
        return bad('the value is missing, too long, or of no kind a setting has');
      return { op: raw.op, key: key(), value, by: by() };
    }
    case 'settings-unset':
      return { op: raw.op, key: key(), by: by() };
    case 'settings-show':
    case 'ban-list':
      return { op: raw.op };
    case 'settings-history':
      return { op: raw.op, countMax: whole('countMax', countMax) };
    case 'settings-revert':
      return { op: raw.op, number: whole('number', 1e9), by: by() };
    case 'ban-add':
      return {
        op: raw.op,
        network: bannable(text('network', keyBytesMax)).name,
        by: by(),
        ...(raw.forMs === undefined ? {} : { forMs: whole('forMs', banMsMax) }),
        ...(raw.why === undefined ? {} : { why: printable(text('why', whyBytesMax), whyBytesMax) }),
      };
    case 'ban-remove':
      return { op: raw.op, network: bannable(text('network', keyBytesMax)).name, by: by() };
    case 'reload':
      return { op: raw.op, by: by() };
    default:
      return undefined;
  }
}
