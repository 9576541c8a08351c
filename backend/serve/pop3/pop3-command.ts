/**
 * The words of POP3 after login (RFC 1939, RFC 2449) and the lines they come in.
 * Which arguments a word takes is data.
 */
import { Fault } from '../../../base/fault.ts';

/** RFC 2449 4: a command line has at most 255 octets, CRLF included. */
export const lineBytesMax = 255;

export type Pop3Command =
  | { readonly verb: 'STAT' | 'NOOP' | 'RSET' | 'QUIT' | 'CAPA' }
  | { readonly verb: 'LIST' | 'UIDL'; readonly number: number | undefined }
  | { readonly verb: 'RETR' | 'DELE'; readonly number: number }
  | { readonly verb: 'TOP'; readonly number: number; readonly lines: number };

type Verb = Pop3Command['verb'];

/** Least and most arguments; all are numbers. */
const argumentsOf: Readonly<Record<Verb, readonly [least: number, most: number]>> = {
  STAT: [0, 0],
  NOOP: [0, 0],
  RSET: [0, 0],
  QUIT: [0, 0],
  CAPA: [0, 0],
  LIST: [0, 1],
  UIDL: [0, 1],
  RETR: [1, 1],
  DELE: [1, 1],
  TOP: [2, 2],
};

/**
 * @param line  Without its CRLF, as Latin-1.
 * @throws {Fault} `bad-syntax`, with words for the client.
 */
export function parseCommand(line: string): Pop3Command {
  const words = line.split(' ');
  const verb = (words[0] ?? '').toUpperCase();
  if (!isVerb(verb)) throw new Fault('bad-syntax', 'unknown command');
  const [least, most] = argumentsOf[verb];
  // RFC 1939 3: one space between arguments; the one at the end that some clients send does no harm.
  const texts = words.at(-1) === '' ? words.slice(1, -1) : words.slice(1);
  if (texts.length < least || texts.length > most) throw new Fault('bad-syntax', 'wrong number of arguments');
  const numbers = texts.map(numberOf);
  switch (verb) {
    case 'LIST':
    case 'UIDL':
      return { verb, number: numbers[0] };
    case 'RETR':
    case 'DELE':
      return { verb, number: numbers[0] as number };
    case 'TOP':
      return { verb, number: numbers[0] as number, lines: numbers[1] as number };
    default:
      return { verb };
  }
}

function isVerb(word: string): word is Verb {
  return Object.hasOwn(argumentsOf, word);
}

function numberOf(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Fault('bad-syntax', 'not a number');
  return Number(text);
}

/** Cuts what arrives into command lines; holds at most one unfinished line. */
export class CommandLines {
  #rest: Buffer = Buffer.alloc(0);

  /**
   * Lines that `chunk` completes, without CRLF, as Latin-1. Lazy: what comes after a fault is never looked at.
   *
   * @throws {Fault} `line-too-long`, `bare-newline` (only CRLF ends a line), `nul-byte`
   */
  *push(chunk: Buffer): Generator<string, void> {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const end = bytes.indexOf(0x0a);
      if (end < 0) break;
      if (end + 1 > lineBytesMax) throw new Fault('line-too-long', 'line too long');
      if (end === 0 || bytes[end - 1] !== 0x0d) throw new Fault('bare-newline', 'a line ends with CRLF');
      const line = bytes.toString('latin1', 0, end - 1);
      if (/[\0\r]/.test(line)) throw new Fault('nul-byte', 'bad characters');
      bytes = bytes.subarray(end + 1);
      yield line;
    }
    if (bytes.length >= lineBytesMax) throw new Fault('line-too-long', 'line too long');
    this.#rest = Buffer.from(bytes);
  }
}
