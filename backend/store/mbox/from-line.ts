/**
 * The line that begins a message in an mbox (RFC 4155): `From `, a sender and
 * the time of arrival in UTC. Only a line that ends in such a time and follows
 * an empty line begins a message: bodies have lines that merely start so.
 *
 * Of a message this store put there, the sender is the name the message would
 * have in a Maildir, and the form its bytes are stored in: `<name>;F<form>`. So
 * an mbox alone says which UID each of its messages has, as a Maildir does.
 */
import { type MessageName, parseMessageName } from '../message-name.ts';
import { formatForm, parseForm, type StoredForm } from './stored-form.ts';

const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Some programs put a zone before or after the year, or leave the seconds out. */
const pattern =
  /^From (?:(\S.{0,400}?) )?(?:Sun|Mon|Tue|Wed|Thu|Fri|Sat) +(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}) +(\d{2}):(\d{2})(?::(\d{2}))?(?: +(?:[A-Z]{1,5}|[+-]\d{4})){0,2} +(\d{4})(?: +(?:[A-Z]{1,5}|[+-]\d{4}))?(?: +remote from \S{1,200})?\s*$/;

export const fromLineBytesMax = 998;

export interface FromLine {
  /** Arrival, seconds since 1970. */
  readonly seconds: number;
  /** Of a message this store put there. */
  readonly given:
    | { readonly text: string; readonly name: MessageName; readonly form: StoredForm }
    | undefined;
}

/** `undefined`: no message begins here. @param line  Latin-1; its end may be included. */
export function parseFromLine(line: string): FromLine | undefined {
  if (!line.startsWith('From ') || line.length > fromLineBytesMax) return undefined;
  const found = pattern.exec(line);
  if (!found) return undefined;
  const [, sender, month, day, hour, minute, second, year] = found;
  const ms = Date.UTC(
    Number(year),
    months.indexOf(month!),
    Number(day),
    Number(hour),
    Number(minute),
    Number(second ?? 0),
  );
  const seconds = Number.isFinite(ms) && ms >= 0 ? Math.min(ms / 1000, 0xffffffff) : 0;
  return { seconds, given: sender === undefined ? undefined : givenIn(sender) };
}

function givenIn(sender: string): FromLine['given'] {
  const cut = sender.lastIndexOf(';F');
  if (cut < 0) return undefined;
  const text = sender.slice(0, cut);
  const name = parseMessageName(text);
  const form = parseForm(sender.slice(cut + 2));
  return name && form !== undefined ? { text, name, form } : undefined;
}

/** @param text  The message's name. @param seconds  Internal date, since 1970. */
export function formatFromLine(text: string, form: StoredForm, seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = String(date.getUTCDate()).padStart(2, ' ');
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  return `From ${text};F${formatForm(form)} ${days[date.getUTCDay()]} ${months[date.getUTCMonth()]} ${day} ${time} ${date.getUTCFullYear()}\n`;
}
