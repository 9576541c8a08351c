/** Reads method arguments: what is not of the right form is `invalidArguments`, never a guess. */
import { invalid } from './jmap-errors.ts';

export type Arguments = Record<string, unknown>;

/** RFC 8620 1.2 */
export const idForm = /^[A-Za-z0-9_-]{1,255}$/;

/** Refuses arguments a method does not have. */
export function onlyKnown(args: Arguments, names: readonly string[]): void {
  for (const name of Object.keys(args)) {
    if (!names.includes(name)) throw invalid(`${name.slice(0, 50)} is not an argument of this method`);
  }
}

/** An array of ids, each once; `undefined` when null or left out. */
export function idsIn(args: Arguments, name: string): string[] | undefined {
  const texts = textsIn(args, name);
  if (texts === undefined) return undefined;
  if (texts.some((text) => !idForm.test(text))) throw invalid(`${name} holds what is not an id`);
  return [...new Set(texts)];
}

export function textsIn(args: Arguments, name: string): string[] | undefined {
  const value = args[name];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.some((entry) => typeof entry !== 'string')) {
    throw invalid(`${name} is not an array of texts`);
  }
  return value as string[];
}

export function textIn(args: Arguments, name: string): string | undefined {
  const value = args[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw invalid(`${name} is not a text`);
  return value;
}

export function flagIn(args: Arguments, name: string): boolean {
  const value = args[name] ?? false;
  if (typeof value !== 'boolean') throw invalid(`${name} is not true or false`);
  return value;
}

export function integerIn(args: Arguments, name: string, least: number): number | undefined {
  const value = args[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
    throw invalid(`${name} is not a whole number from ${least}`);
  }
  return value;
}

/** RFC 8620 1.4 UTCDate, as ms. */
export function dateIn(args: Arguments, name: string): number | undefined {
  const text = textIn(args, name);
  if (text === undefined) return undefined;
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/.test(text))
    throw invalid(`${name} is not a UTCDate`);
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw invalid(`${name} is not a UTCDate`);
  return ms;
}

export function objectIn(args: Arguments, name: string): Arguments | undefined {
  const value = args[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid(`${name} is not an object`);
  return value as Arguments;
}
