/**
 * Structured values with parameters: Content-Type, Content-Disposition (RFC 2045
 * 5.1, RFC 2183), and the RFC 2231 forms of parameters. Linear and bounded: a
 * field with a hundred thousand parameters keeps the first ones (CASES 50).
 */
import { decodeCharset } from './charset.ts';
import { decodeEncodedWords } from './encoded-words.ts';

export type Parameters = readonly (readonly [name: string, value: string])[];

export const parametersMax = 200;
const valueCharsMax = 8192;
const sectionsMax = 100;

export interface ParameterizedValue {
  /** What stands before the first `;`, lower case, without white space and comments. */
  readonly value: string;
  /** As written, names in lower case, RFC 2231 forms left alone; one char per byte. */
  readonly params: Parameters;
}

/** @param text  An unfolded field value, one char per byte. */
export function parseParameterized(text: string): ParameterizedValue {
  const scanner = { text, at: 0 };
  const value = takeValueToken(scanner).toLowerCase();
  const params: [string, string][] = [];
  while (scanner.at < text.length && params.length < parametersMax) {
    if (text[scanner.at] === ';') scanner.at++;
    const name = takeToken(scanner, '=;').toLowerCase();
    if (text[scanner.at] !== '=') continue;
    scanner.at++;
    const content = takeValue(scanner);
    if (name !== '') params.push([name, content.slice(0, valueCharsMax)]);
  }
  return { value, params };
}

type Scanner = { text: string; at: number };

/** What stands before the first `;`, white space around `/` left out; what else follows it is not ours. */
function takeValueToken(scanner: Scanner): string {
  const { text } = scanner;
  const first = takeToken(scanner, ';/ \t');
  skipSpace(scanner);
  if (text[scanner.at] !== '/') {
    takeToken(scanner, ';');
    return first;
  }
  scanner.at++;
  skipSpace(scanner);
  const second = takeToken(scanner, '; \t');
  takeToken(scanner, ';');
  return `${first}/${second}`;
}

function skipSpace(scanner: Scanner): void {
  while (
    scanner.at < scanner.text.length &&
    (scanner.text[scanner.at]! <= ' ' || scanner.text[scanner.at] === '(')
  ) {
    if (scanner.text[scanner.at] === '(') skipComment(scanner);
    else scanner.at++;
  }
}

/** Text up to one of `stops`, without comments and white space. */
function takeToken(scanner: Scanner, stops: string): string {
  const { text } = scanner;
  let out = '';
  while (scanner.at < text.length) {
    const char = text[scanner.at]!;
    if (stops.includes(char)) break;
    if (char === '(') {
      skipComment(scanner);
    } else {
      if (char > ' ' && out.length < valueCharsMax) out += char;
      scanner.at++;
    }
  }
  return out;
}

function takeValue(scanner: Scanner): string {
  const { text } = scanner;
  skipSpace(scanner);
  if (text[scanner.at] !== '"') return takeToken(scanner, ';');
  let out = '';
  let from = ++scanner.at;
  while (scanner.at < text.length && text[scanner.at] !== '"') {
    if (text[scanner.at] === '\\') {
      out += text.slice(from, scanner.at);
      from = ++scanner.at;
    }
    scanner.at++;
  }
  out += text.slice(from, scanner.at);
  scanner.at++;
  // Whatever stands between the closing quote and the next `;` is not ours.
  takeToken(scanner, ';');
  return out;
}

/** Skips a comment; nesting is counted, not recursed into. */
function skipComment(scanner: Scanner): void {
  const { text } = scanner;
  let depth = 0;
  while (scanner.at < text.length) {
    const char = text[scanner.at++];
    if (char === '\\') scanner.at++;
    else if (char === '(') depth++;
    else if (char === ')' && --depth === 0) return;
  }
}

/** The first plain parameter with this name; one char per byte. */
export function parameter(params: Parameters, name: string): string | undefined {
  for (const [found, value] of params) if (found === name) return value;
  return undefined;
}

/**
 * A parameter as Unicode, whatever way it is written: plain, with encoded words (not allowed, but common),
 * `name*` with a charset, or in sections `name*0*`, `name*1` (RFC 2231 3, 4).
 */
export function decodedParameter(params: Parameters, name: string): string | undefined {
  const extended = parameter(params, `${name}*`);
  if (extended !== undefined) return decodeExtended(extended);
  const sections = new Map<number, { text: string; encoded: boolean }>();
  for (const [found, text] of params) {
    if (!found.startsWith(`${name}*`)) continue;
    const encoded = found.endsWith('*');
    const digits = found.slice(name.length + 1, encoded ? -1 : undefined);
    if (/^[0-9]{1,3}$/.test(digits) && !sections.has(Number(digits)) && sections.size < sectionsMax) {
      sections.set(Number(digits), { text, encoded });
    }
  }
  if (sections.has(0)) return joinSections(sections);
  const plain = parameter(params, name);
  return plain === undefined ? undefined : decodeEncodedWords(plain);
}

function joinSections(sections: Map<number, { text: string; encoded: boolean }>): string {
  let charset = 'utf-8';
  const bytes: Buffer[] = [];
  for (let index = 0; sections.has(index); index++) {
    let { text, encoded } = sections.get(index)!;
    if (index === 0 && encoded) {
      const found = splitCharset(text);
      charset = found.charset;
      text = found.text;
    }
    bytes.push(encoded ? percentDecoded(text) : Buffer.from(text, 'latin1'));
  }
  return decodeCharset(Buffer.concat(bytes), charset);
}

function decodeExtended(value: string): string {
  const { charset, text } = splitCharset(value);
  return decodeCharset(percentDecoded(text), charset);
}

/** `utf-8'en'%E2%82%AC` */
function splitCharset(value: string): { charset: string; text: string } {
  const first = value.indexOf("'");
  const second = first < 0 ? -1 : value.indexOf("'", first + 1);
  if (second < 0) return { charset: 'utf-8', text: value };
  return { charset: value.slice(0, first) || 'utf-8', text: value.slice(second + 1) };
}

function percentDecoded(text: string): Buffer {
  const plain = text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(plain, 'latin1');
}
