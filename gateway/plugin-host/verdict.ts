/**
 * What a plugin answered, read with suspicion: plugins are written by people in
 * a hurry, and in plain JavaScript too. Whatever is not a verdict counts as a
 * failure of the plugin; header fields are made fit to stand in a message.
 */
import type { FieldMatch, Verdict } from '../plugins/api.ts';

const words: ReadonlySet<unknown> = new Set(['pass', 'accept', 'defer', 'reject', 'disconnect', 'throttle']);

/** Longest text for a client, in characters: a reply line holds 512 bytes (RFC 5321 4.5.3.1.5). */
export const sayCharsMax = 200;
/** Header fields one plugin may add to a message, and characters of one value. */
export const headersMax = 50;
export const headerValueCharsMax = 8192;

/** The verdict in `raw`, copied, or `undefined` when it is none. May throw what a getter of `raw` throws. */
export function readVerdict(raw: unknown): Verdict | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const { word, say, log, delayMs, headers, score, dropFields, quarantine } = raw as Record<string, unknown>;
  if (!words.has(word)) return undefined;
  if (say !== undefined && typeof say !== 'string') return undefined;
  if (log !== undefined && typeof log !== 'string') return undefined;
  if (delayMs !== undefined && !isAmount(delayMs)) return undefined;
  if (score !== undefined && (typeof score !== 'number' || !Number.isFinite(score))) return undefined;
  if (word === 'throttle' && delayMs === undefined) return undefined;
  if (quarantine !== undefined && typeof quarantine !== 'boolean') return undefined;
  const drops = dropFields === undefined ? undefined : fieldMatches(dropFields);
  if (dropFields !== undefined && drops === undefined) return undefined;
  let clean: [string, string][] | undefined;
  if (headers !== undefined) {
    if (!Array.isArray(headers) || headers.length > headersMax) return undefined;
    clean = [];
    for (const field of headers as unknown[]) {
      if (!Array.isArray(field) || typeof field[0] !== 'string' || typeof field[1] !== 'string')
        return undefined;
      const name = cleanHeaderName(field[0]);
      if (name === undefined) return undefined;
      clean.push([name, foldHeaderValue(name, field[1])]);
    }
  }
  return {
    word: word as Verdict['word'],
    ...(say === undefined ? {} : { say: cleanSay(say) }),
    ...(log === undefined ? {} : { log }),
    ...(delayMs === undefined ? {} : { delayMs }),
    ...(clean === undefined ? {} : { headers: clean }),
    ...(score === undefined ? {} : { score }),
    ...(drops === undefined ? {} : { dropFields: drops }),
    ...(quarantine === true ? { quarantine } : {}),
  };
}

function fieldMatches(raw: unknown): FieldMatch[] | undefined {
  if (!Array.isArray(raw) || raw.length > headersMax) return undefined;
  const matches: FieldMatch[] = [];
  for (const one of raw as unknown[]) {
    if (typeof one !== 'object' || one === null) return undefined;
    const { name, valueStart } = one as Record<string, unknown>;
    if (typeof name !== 'string' || cleanHeaderName(name) === undefined) return undefined;
    if (valueStart !== undefined && typeof valueStart !== 'string') return undefined;
    matches.push(valueStart === undefined ? { name } : { name, valueStart });
  }
  return matches;
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

/** One line of printable ASCII: it goes into replies of four protocols. */
function cleanSay(text: string): string {
  return text
    .slice(0, sayCharsMax)
    .replace(/[^\x21-\x7e]+/g, ' ')
    .trim();
}

/** RFC 5322 2.2: printable ASCII but the colon. `undefined` when it cannot name a field. */
export function cleanHeaderName(name: string): string | undefined {
  return /^[!-9;-~]{1,64}$/.test(name) ? name : undefined;
}

const lineCharsWanted = 78; // RFC 5322 2.1.1
const lineCharsMax = 998; // RFC 5322 2.1.1, without CRLF

/**
 * A value that can stand after `name: `: no CR, LF, NUL or other control
 * characters, ASCII only (RFC 5322 2.2), folded at white space to lines of 78
 * characters, and by force where a word alone passes 998.
 */
export function foldHeaderValue(name: string, value: string): string {
  const flat = value
    .slice(0, headerValueCharsMax)
    .replace(/[\s\0]+/g, ' ')
    .replace(/[\x01-\x1f\x7f]/g, '')
    .replace(/[^\x20-\x7e]/g, '?')
    .trim();
  const lines: string[] = [];
  let line = '';
  // The first line shares its room with the name, the colon and a space; the others start with a space.
  const used = (): number => (lines.length === 0 ? name.length + 2 : 1);
  for (let word of flat.split(' ')) {
    if (line !== '' && used() + line.length + 1 + word.length > lineCharsWanted) {
      lines.push(line);
      line = '';
    }
    while (used() + word.length > lineCharsMax) {
      const room = lineCharsMax - used();
      lines.push(word.slice(0, room));
      word = word.slice(room);
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '' || lines.length === 0) lines.push(line);
  return lines.join('\r\n ');
}
